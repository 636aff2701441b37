#include "agent/store/sqlite/damage.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"

namespace ctr::sqlite {
namespace {

// https://www.sqlite.org/fileformat2.html, sections 1.3 and 4.1.
constexpr size_t kHeaderBytes = 100;
constexpr std::string_view kMagic("SQLite format 3\0", 16);
constexpr size_t kLogHeaderBytes = 32;
constexpr size_t kFrameHeaderBytes = 24;
constexpr uint32_t kLogMagic = 0x377f0682;  // its last bit: checksums over big-endian words
// Far above journal_size_limit and what a checkpoint lets a log grow to.
constexpr size_t kMaxLogBytes = size_t{256} << 20;

// The first `limit` bytes of a file; "" if there is none.
StatusOr<std::string> ReadStart(const std::string& path, size_t limit) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() && errno == ENOENT) return "";
  struct stat info = {};
  if (!file.valid() || ::fstat(file.get(), &info) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot read ", path));
  }
  std::string text(std::min(limit, static_cast<size_t>(info.st_size)), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, absl::StrCat("cannot read ", path));
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  text.resize(done);
  return text;
}

uint32_t BigEndian(std::string_view bytes, size_t at) {
  const auto byte = [&](size_t i) { return uint32_t{static_cast<unsigned char>(bytes[at + i])}; };
  return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

uint32_t LittleEndian(std::string_view bytes, size_t at) {
  return __builtin_bswap32(BigEndian(bytes, at));
}

struct LogSum {
  uint32_t a = 0;
  uint32_t b = 0;

  bool operator==(const LogSum&) const = default;
};

class Log {
 public:
  explicit Log(std::string_view bytes) : bytes_(bytes) {}

  bool HeaderIsWhole() const {
    const uint32_t page_size = BigEndian(bytes_, 8);
    return (BigEndian(bytes_, 0) & ~1U) == kLogMagic && page_size >= 512 && page_size <= 65536 &&
           (page_size & (page_size - 1)) == 0 &&
           Add({}, bytes_.substr(0, 24)) == LogSum{BigEndian(bytes_, 24), BigEndian(bytes_, 28)};
  }

  size_t frames() const { return (bytes_.size() - kLogHeaderBytes) / FrameBytes(); }

  // A frame of this use of the log; others are of an earlier one, which it overwrites.
  bool IsOurs(size_t frame) const { return Frame(frame).substr(8, 8) == bytes_.substr(16, 8); }
  bool IsCommit(size_t frame) const { return BigEndian(Frame(frame), 4) != 0; }
  // Whether its checksum continues that of the frame before it, as that one has it.
  bool Follows(size_t frame) const {
    const LogSum before = frame == 0 ? SumAt(bytes_, 24) : SumAt(Frame(frame - 1), 16);
    const LogSum with_head = Add(before, Frame(frame).substr(0, 8));
    return Add(with_head, Frame(frame).substr(kFrameHeaderBytes)) == SumAt(Frame(frame), 16);
  }

 private:
  size_t FrameBytes() const { return kFrameHeaderBytes + BigEndian(bytes_, 8); }
  std::string_view Frame(size_t frame) const {
    return bytes_.substr(kLogHeaderBytes + frame * FrameBytes(), FrameBytes());
  }
  static LogSum SumAt(std::string_view bytes, size_t at) {
    return {BigEndian(bytes, at), BigEndian(bytes, at + 4)};
  }
  LogSum Add(LogSum sum, std::string_view bytes) const {
    const bool big_endian = (BigEndian(bytes_, 0) & 1U) != 0;
    for (size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      sum.a += (big_endian ? BigEndian(bytes, at) : LittleEndian(bytes, at)) + sum.b;
      sum.b += (big_endian ? BigEndian(bytes, at + 4) : LittleEndian(bytes, at + 4)) + sum.a;
    }
    return sum;
  }

  const std::string_view bytes_;
};

}  // namespace

StatusOr<std::string> DamageInHeader(const std::string& path) {
  CTR_ASSIGN_OR_RETURN(const std::string header, ReadStart(path, kHeaderBytes));
  if (header.size() < kHeaderBytes) return "it is truncated";
  if (!header.starts_with(kMagic)) return "file is not a database";
  // The versions of the format for writing and for reading: 1 without, 2 with a write-ahead log.
  if (header[18] < 1 || header[18] > 2 || header[19] < 1 || header[19] > 2) {
    return "its header names an unknown format";
  }
  return "";
}

StatusOr<std::string> DamageInLog(const std::string& wal_path) {
  CTR_ASSIGN_OR_RETURN(const std::string bytes, ReadStart(wal_path, kMaxLogBytes));
  if (bytes.size() < kLogHeaderBytes) return "";
  const Log log(bytes);
  if (!log.HeaderIsWhole()) return "the header of its log is altered";
  size_t frame = 0;
  while (frame < log.frames() && log.IsOurs(frame) && log.Follows(frame)) ++frame;
  // Behind the last frame that counts there is nothing, or what an earlier use left.
  for (; frame < log.frames(); ++frame) {
    if (log.IsOurs(frame) && log.IsCommit(frame)) return "its log is altered";
  }
  return "";
}

}  // namespace ctr::sqlite
