#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/time.h"

namespace ctr {

enum class LogStream { kStdout, kStderr };

// One record of an instance's output, as ctr-logger wrote it (agent/base/log_layout.h).
struct LogRecord {
  static constexpr int64_t kUnknownLoss = -1;

  WallTime time;  // when it was read from the container
  LogStream stream = LogStream::kStdout;
  bool partial = false;  // no newline follows
  uint64_t generation = 0;
  // This many bytes are missing here, or kUnknownLoss; `text` is then empty.
  int64_t lost_bytes = 0;
  std::string text;
};

// Reads a record without its newline. Nothing if it is none: torn, or somebody else's text.
std::optional<LogRecord> ParseLogRecord(std::string_view line);

}  // namespace ctr
