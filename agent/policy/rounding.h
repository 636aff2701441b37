#pragma once

#include <algorithm>
#include <cmath>

namespace ctr::policy {

constexpr double kEpsilon = 1e-9;  // what a quotient of doubles may be off by

// Instances are whole: those that `count` asks for, a million at most.
inline int CeilCount(double count) {
  return static_cast<int>(std::min(1e6, std::ceil(count - kEpsilon)));
}

}  // namespace ctr::policy
