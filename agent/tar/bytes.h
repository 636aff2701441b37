#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr::tar {

constexpr size_t kPieceBytes = 256 << 10;  // that are read or written at once

// Where an archive comes from and goes to. One thread at a time; both may block.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Up to `size` bytes, at least one; 0 at the end.
  virtual StatusOr<size_t> Read(char* buffer, size_t size) = 0;
};
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  // All of them.
  virtual Status Write(std::string_view bytes) = 0;
};

// A descriptor that the caller owns. With `watched` (a pidfd, or -1) both fail with ABORTED once
// that process has exited, also while they wait.
class FdSource final : public ByteSource {
 public:
  explicit FdSource(int fd, int watched = -1) : fd_(fd), watched_(watched) {}
  StatusOr<size_t> Read(char* buffer, size_t size) override;

 private:
  const int fd_;
  const int watched_;
};
class FdSink final : public ByteSink {
 public:
  explicit FdSink(int fd, int watched = -1) : fd_(fd), watched_(watched) {}
  Status Write(std::string_view bytes) override;

 private:
  const int fd_;
  const int watched_;
};

// A path to show: without control characters, and not without end.
std::string Shown(std::string_view path);

}  // namespace ctr::tar
