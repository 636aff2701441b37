#include "agent/base/ulid.h"

#include <sys/random.h>

#include <array>
#include <cstdint>
#include <cstdlib>

namespace ctr {

std::string NewUlid(WallTime now) {
  constexpr char kAlphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
  std::array<uint8_t, 16> bytes;
  auto milliseconds = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count());
  for (int i = 0; i < 6; ++i) bytes[i] = static_cast<uint8_t>(milliseconds >> (40 - 8 * i));
  if (::getrandom(bytes.data() + 6, 10, 0) != 10) std::abort();

  // 128 bits in 26 groups of five, the first of which holds three.
  std::string text(26, '0');
  unsigned __int128 value = 0;
  for (uint8_t byte : bytes) value = value << 8 | byte;
  for (int i = 25; i >= 0; --i) {
    text[i] = kAlphabet[static_cast<int>(value & 31)];
    value >>= 5;
  }
  return text;
}

}  // namespace ctr
