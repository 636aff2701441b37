#pragma once

#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/tar/entry.h"
#include "agent/tar/open.h"

namespace ctr::tar {

// Where entries of an archive go: below one directory, each at a place given by their names.
class Target {
 public:
  // Of a copy, from its first entry, by docker's rules.
  static StatusOr<Target> ForCopy(const std::string& path, const Entry& first,
                                  const OwnDescriptors& own);
  // Of an archive that is unpacked into the directory `path`.
  static StatusOr<Target> ForExtract(const std::string& path);

  // The place of an entry, as a path below directory(); "" for the directory itself.
  // INVALID_ARGUMENT if it has none there.
  StatusOr<std::string> PlaceOf(const std::string& entry_path) const;
  int directory() const { return directory_.get(); }

 private:
  Target(UniqueFd directory, std::string top, std::string name)
      : directory_(std::move(directory)), top_(std::move(top)), name_(std::move(name)) {}

  UniqueFd directory_;
  std::string top_;   // the name that every entry begins with; "" if there is none
  std::string name_;  // what stands for it here; "" for the directory itself
};

}  // namespace ctr::tar
