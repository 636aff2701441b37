#pragma once

#include <cstdint>

namespace ctr::policy {

// Maps 64 uniformly random bits to 0 … n-1 by multiply-shift (Lemire, "Fast Random Integer
// Generation in an Interval", 2019, without the rejection step: the bias is below n / 2^64). n
// >= 1.
inline int PickUniform(uint64_t random_bits, int n) {
  return static_cast<int>(
      (static_cast<unsigned __int128>(random_bits) * static_cast<unsigned>(n)) >> 64);
}

}  // namespace ctr::policy
