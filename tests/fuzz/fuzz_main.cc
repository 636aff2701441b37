#include <cstdint>

#include "tests/fuzz/fuzz.h"

// libFuzzer's own name for it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ctr::Fuzz({reinterpret_cast<const char*>(data), size});
  return 0;
}
