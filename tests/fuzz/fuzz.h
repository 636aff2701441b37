#pragma once

#include <cstdlib>
#include <iostream>
#include <string_view>

namespace ctr {

// One input of a fuzz target, whatever it may be. Each target defines it; it ends the process if
// what must hold does not.
void Fuzz(std::string_view input);

}  // namespace ctr

// Must hold for every input.
#define CTR_HOLDS(condition)                                                  \
  do {                                                                        \
    if (!(condition)) {                                                       \
      std::cerr << __FILE__ << ":" << __LINE__ << ": " << #condition << "\n"; \
      std::abort();                                                           \
    }                                                                         \
  } while (false)
