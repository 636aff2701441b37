#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/runtime/containerd/core.h"

// How much room there is, and who takes it.
namespace ctr {

// What the files below `folder` take, in blocks; what appears or goes meanwhile may or may not
// count. It stays within that file system, follows no links, and goes neither deeper than 200
// directories nor through more than a million files. Blocks for some µs a file.
DiskAmount CountFiles(const std::string& folder);

// What the processes hold open or mapped on an overlay file system of files that have no name any
// more. It looks at 200,000 descriptors and mappings at most. Blocks for some µs for each.
DiskAmount CountUnlinked(const std::vector<int>& pids);

// Runtime::Space and Runtime::MeasureDisks.
awaitable<StatusOr<DiskSpace>> SpaceOfDisk(std::shared_ptr<Core> core);
awaitable<std::map<std::string, DiskAmount>> MeasureContainers(std::shared_ptr<Core> core,
                                                               std::vector<std::string> ids);

}  // namespace ctr
