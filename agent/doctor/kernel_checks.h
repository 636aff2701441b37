#pragma once

#include <string>

namespace ctr {

// Whether the kernel has a file system, or has it now that it was asked to load it. It is mounted
// with an option that none takes, so that it never is. Meant for root. Blocks.
bool HasFileSystem(const std::string& name);

}  // namespace ctr
