#pragma once

#include <cstddef>

namespace ctr::tar {

inline constexpr size_t kBlockBytes = 512;

// A header block, as POSIX lays it out (pax(1), "ustar Interchange Format").
struct Header {
  char name[100];
  char mode[8];
  char uid[8];
  char gid[8];
  char size[12];
  char mtime[12];
  char checksum[8];
  char type;
  char link[100];
  char magic[8];  // "ustar\0" "00"; GNU's is "ustar  \0"
  char user[32];
  char group[32];
  char major[8];
  char minor[8];
  char prefix[155];
  char padding[12];
};
static_assert(sizeof(Header) == kBlockBytes);

// The sum over the block's bytes, its checksum counted as spaces.
inline unsigned ChecksumOf(const Header& header) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&header);
  constexpr size_t kBegin = offsetof(Header, checksum);
  unsigned sum = 0;
  for (size_t i = 0; i < sizeof(Header); ++i) {
    sum += i >= kBegin && i < kBegin + sizeof(header.checksum) ? ' ' : bytes[i];
  }
  return sum;
}

}  // namespace ctr::tar
