// Reading the files that ctr-logger writes (agent/base/log_layout.h). All of it blocks: on the work
// pool.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/control/log_record.h"

namespace ctr {

// Where a record begins. {0, 0} is before the oldest one.
struct LogPosition {
  uint64_t file = 0;
  int64_t offset = 0;

  auto operator<=>(const LogPosition&) const = default;
};

// The numbers of the files, ascending; none if there is no such folder.
std::vector<uint64_t> ListLogFiles(const std::string& folder);

// Behind the newest record.
LogPosition EndOfLog(const std::string& folder);
// Where to begin so that no record of `since` or later is missed; older ones may follow it, too.
LogPosition LogPositionOf(const std::string& folder, WallTime since);
// Where the last `lines` lines begin. A line counts once, in however many pieces it was written.
LogPosition TailOfLog(const std::string& folder, int64_t lines);

// Whether the logger of this start has not seen the end of its output yet.
bool IsLogBeingWritten(const std::string& folder, uint64_t generation);

// containerd kills a logger that is not done this long after its container's removal.
inline constexpr Duration kWriterPatience = std::chrono::seconds(15);
// A logger that was killed may be heard of before its lock is gone.
inline constexpr Duration kWriterRecheck = std::chrono::milliseconds(500);

// Makes the folder, and in it the first file, so that a reader can hold it before anything is
// written.
Status PrepareLogFolder(const std::string& folder);
// Removes the folder of an instance, or that of a class with all in it, if it is there.
Status RemoveLogs(const std::string& folder);

// Whether the container has to wait for the reader, or the reader may lose what is rotated away.
enum class LogHold { kNone, kUntilRead };

struct LogBatch {
  std::vector<LogRecord> records;
  bool at_end = false;  // there is no more, for now
};

// Reads record after record, over the files. One call at a time, of any thread.
class LogCursor {
 public:
  // `end`: where to stop, also when more was written since; none: never.
  LogCursor(std::string folder, LogPosition begin, std::optional<LogPosition> end, LogHold hold);

  // At most about 256 KiB. What is no record is skipped. What was rotated away before it was read
  // is a record with kUnknownLoss.
  StatusOr<LogBatch> Read();

 private:
  StatusOr<bool> OpenNext(LogBatch& batch);
  Status ReadBlock(LogBatch& batch);
  bool AtEnd() const;

  const std::string folder_;
  const std::optional<LogPosition> end_;
  const LogHold hold_;
  LogPosition position_;  // of the first byte that was not taken
  UniqueFd file_;         // of position_; none before the first
};

}  // namespace ctr
