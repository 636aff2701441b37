#include "agent/runtime/variables.h"

#include <utility>

namespace ctr {

void Variables::Set(std::string variable) {
  const auto [place, is_new] =
      places_.try_emplace(variable.substr(0, variable.find('=')), list_.size());
  if (is_new) {
    list_.push_back(std::move(variable));
  } else {
    list_[place->second] = std::move(variable);
  }
}

}  // namespace ctr
