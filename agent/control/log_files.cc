#include "agent/control/log_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "agent/base/log_layout.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBlockBytes = size_t{256} << 10;
static_assert(kBlockBytes > 2 * log_layout::kMaxRecordBytes, "a block holds a whole record");

std::string PathOf(const std::string& folder, uint64_t number) {
  return absl::StrFormat("%s/%0*d%s", folder, static_cast<int>(log_layout::kNumberDigits), number,
                         log_layout::kSuffix);
}

UniqueFd OpenFile(const std::string& folder, uint64_t number) {
  return UniqueFd(::open(PathOf(folder, number).c_str(), O_RDONLY | O_CLOEXEC));
}

int64_t SizeOf(int fd) {
  struct stat status = {};
  return ::fstat(fd, &status) == 0 ? status.st_size : 0;
}

// As many bytes as there are, at most `size`.
StatusOr<std::string> ReadAt(int fd, int64_t offset, size_t size) {
  std::string block(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t count =
        ::pread(fd, block.data() + done, size - done, offset + static_cast<int64_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoError(errno, "cannot read the output");
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  block.resize(done);
  return block;
}

std::optional<WallTime> FirstTimeOf(const std::string& folder, uint64_t number) {
  UniqueFd file = OpenFile(folder, number);
  if (!file.valid()) return std::nullopt;
  StatusOr<std::string> block = ReadAt(file.get(), 0, log_layout::kMaxRecordBytes);
  if (!block.ok()) return std::nullopt;
  std::optional<LogRecord> record =
      ParseLogRecord(std::string_view(*block).substr(0, block->find('\n')));
  return record ? std::optional<WallTime>(record->time) : std::nullopt;
}

// Counts lines from the newest backwards: a line ends with a record F, or with a piece that nothing
// of its stream and start follows.
class LineCounter {
 public:
  explicit LineCounter(int64_t lines) : left_(lines) {}

  // The record before those that were given. False if it is one too many.
  bool Take(const LogRecord& record) {
    const bool newest = seen_.emplace(std::pair(record.generation, record.stream), true).second;
    const bool ends_line = record.lost_bytes == 0 && (!record.partial || newest);
    if (!ends_line) return true;
    return left_-- > 0;
  }

 private:
  int64_t left_;
  std::map<std::pair<uint64_t, LogStream>, bool> seen_;
};

// Goes backwards through a file until the counter has enough. The offset where it had; nothing if
// all of the file is wanted.
std::optional<int64_t> CountBackwards(int fd, LineCounter& counter) {
  std::string carried;  // the end of a record whose beginning is in the block before
  for (int64_t end = SizeOf(fd); end > 0;) {
    const auto size = static_cast<size_t>(std::min<int64_t>(end, kBlockBytes));
    end -= static_cast<int64_t>(size);
    StatusOr<std::string> block = ReadAt(fd, end, size);
    if (!block.ok() || block->size() < size) return end + static_cast<int64_t>(size);
    std::string text = *std::move(block) + carried;
    size_t stop = text.size();
    while (stop > 0) {
      const size_t before = stop < 2 ? std::string::npos : text.rfind('\n', stop - 2);
      if (before == std::string::npos && end > 0) break;
      const size_t begin = before == std::string::npos ? 0 : before + 1;
      std::string_view line = std::string_view(text).substr(begin, stop - begin);
      if (absl::EndsWith(absl::string_view(line.data(), line.size()), "\n")) {
        line.remove_suffix(1);
        std::optional<LogRecord> record = ParseLogRecord(line);
        if (record && !counter.Take(*record)) return end + static_cast<int64_t>(stop);
      }
      stop = begin;
    }
    carried = text.substr(0, stop);
    if (carried.size() > kBlockBytes) carried.clear();  // no record: it is skipped
  }
  return std::nullopt;
}

}  // namespace

std::vector<uint64_t> ListLogFiles(const std::string& folder) {
  std::vector<uint64_t> numbers;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    absl::string_view digits = name;
    uint64_t number = 0;
    if (absl::ConsumeSuffix(&digits, log_layout::kSuffix) && absl::SimpleAtoi(digits, &number)) {
      numbers.push_back(number);
    }
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

LogPosition EndOfLog(const std::string& folder) {
  const std::vector<uint64_t> numbers = ListLogFiles(folder);
  if (numbers.empty()) return {};
  UniqueFd file = OpenFile(folder, numbers.back());
  return {numbers.back(), file.valid() ? SizeOf(file.get()) : 0};
}

LogPosition LogPositionOf(const std::string& folder, WallTime since) {
  const std::vector<uint64_t> numbers = ListLogFiles(folder);
  for (auto number = numbers.rbegin(); number != numbers.rend(); ++number) {
    std::optional<WallTime> first = FirstTimeOf(folder, *number);
    if (first && *first < since) return {*number, 0};
  }
  return {};
}

LogPosition TailOfLog(const std::string& folder, int64_t lines) {
  const std::vector<uint64_t> numbers = ListLogFiles(folder);
  LineCounter counter(lines);
  for (auto number = numbers.rbegin(); number != numbers.rend(); ++number) {
    UniqueFd file = OpenFile(folder, *number);
    if (!file.valid()) break;
    if (std::optional<int64_t> offset = CountBackwards(file.get(), counter)) {
      return {*number, *offset};
    }
  }
  return {};
}

bool IsLogBeingWritten(const std::string& folder, uint64_t generation) {
  UniqueFd fd(::open(absl::StrCat(folder, "/", log_layout::kWriters).c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return false;
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(generation);
  lock.l_len = 1;
  return ::fcntl(fd.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

Status RemoveLogs(const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (!error) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot remove ", folder, ": ", error.message()));
}

Status PrepareLogFolder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    return absl::InternalError(absl::StrCat("cannot create ", folder, ": ", error.message()));
  }
  if (!ListLogFiles(folder).empty()) return absl::OkStatus();
  UniqueFd first(::open(PathOf(folder, 1).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
  if (first.valid() || errno == EEXIST) return absl::OkStatus();
  return ErrnoError(errno, "cannot create " + PathOf(folder, 1));
}

LogCursor::LogCursor(std::string folder, LogPosition begin, std::optional<LogPosition> end,
                     LogHold hold)
    : folder_(std::move(folder)), end_(end), hold_(hold), position_(begin) {}

bool LogCursor::AtEnd() const { return end_ && position_ >= *end_; }

StatusOr<LogBatch> LogCursor::Read() {
  LogBatch batch;
  while (batch.records.empty()) {
    if (AtEnd()) {
      batch.at_end = true;
      return batch;
    }
    if (file_.valid()) CTR_RETURN_IF_ERROR(ReadBlock(batch));
    if (!batch.records.empty()) break;
    CTR_ASSIGN_OR_RETURN(bool opened, OpenNext(batch));
    if (!opened) {
      batch.at_end = true;
      return batch;
    }
  }
  return batch;
}

// Goes on to the next file, once there is one, and this one is read to its end: false if there is
// nothing to do but wait. Files before the newest do not grow.
StatusOr<bool> LogCursor::OpenNext(LogBatch& batch) {
  const std::vector<uint64_t> numbers = ListLogFiles(folder_);
  const uint64_t wanted = file_.valid() ? position_.file + 1 : position_.file;
  auto next = std::lower_bound(numbers.begin(), numbers.end(), wanted);
  if (next == numbers.end()) return false;
  if (file_.valid()) {
    // What came between the last read and the look at the folder.
    CTR_RETURN_IF_ERROR(ReadBlock(batch));
    if (!batch.records.empty()) return true;
  }
  UniqueFd opened = OpenFile(folder_, *next);
  if (!opened.valid()) {
    if (errno == ENOENT) return true;  // deleted just now; the one after it is next
    return ErrnoError(errno, "cannot read " + PathOf(folder_, *next));
  }
  // The file before is let go only then.
  if (hold_ == LogHold::kUntilRead) ::flock(opened.get(), LOCK_SH);
  if (wanted > 0 && *next > wanted) {
    LogRecord gap;
    gap.time = std::chrono::system_clock::now();
    gap.stream = LogStream::kStderr;
    gap.lost_bytes = LogRecord::kUnknownLoss;
    batch.records.push_back(std::move(gap));
  }
  if (file_.valid() || *next != position_.file) position_ = {*next, 0};
  file_ = std::move(opened);
  return true;
}

// Takes the whole records of the next block.
Status LogCursor::ReadBlock(LogBatch& batch) {
  for (;;) {
    CTR_ASSIGN_OR_RETURN(std::string block, ReadAt(file_.get(), position_.offset, kBlockBytes));
    std::string_view text = block;
    for (size_t newline; (newline = text.find('\n')) != std::string_view::npos && !AtEnd();) {
      std::optional<LogRecord> record = ParseLogRecord(text.substr(0, newline));
      if (record) batch.records.push_back(*std::move(record));
      text.remove_prefix(newline + 1);
      position_.offset += static_cast<int64_t>(newline) + 1;
    }
    if (text.size() == kBlockBytes) {  // no record is so long
      position_.offset += static_cast<int64_t>(kBlockBytes);
      continue;
    }
    return absl::OkStatus();
  }
}

}  // namespace ctr
