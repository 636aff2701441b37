#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "agent/base/error.h"
#include "agent/base/fd.h"

namespace ctr::tar {

// openat2(2): as a close-on-exec descriptor, -1 with errno. Never through a magic link (/proc/1/exe
// and the like, which lead out of every root).
UniqueFd OpenPath(const std::string& path, uint64_t flags);
// The same for a path below `directory` that has no symlink in it, also at its end.
UniqueFd OpenBelow(int directory, const std::string& path, uint64_t flags);

// This process's descriptors, by which what was opened with O_PATH, and looked at, is opened again
// to read: no other file can have taken its place. Keeps working in another root without /proc.
class OwnDescriptors {
 public:
  static StatusOr<OwnDescriptors> Open();

  UniqueFd Reopen(int fd, int flags) const;
  // Where it is, as seen from this process's root.
  StatusOr<std::string> PathOf(int fd) const;

 private:
  explicit OwnDescriptors(UniqueFd folder) : folder_(std::move(folder)) {}

  UniqueFd folder_;
};

// A path given by a user, taken apart.
struct SplitPath {
  std::string parent;            // "." or "/" at least
  std::string name;              // the last name; "" for the contents of the directory that it is
  bool wants_directory = false;  // it ends with a slash or "."
};
SplitPath Split(const std::string& path);

}  // namespace ctr::tar
