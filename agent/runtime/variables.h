#pragma once

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace ctr {

// The environment of a process, "K=V", in the order in which it was set.
class Variables {
 public:
  // Takes the place of one of the same name, as Docker does it. `variable` has a '='.
  void Set(std::string variable);

  const std::vector<std::string>& list() const { return list_; }

 private:
  std::vector<std::string> list_;
  absl::flat_hash_map<std::string, size_t> places_;  // in the list, by name
};

}  // namespace ctr
