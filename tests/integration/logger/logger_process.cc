#include "tests/integration/logger/logger_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include <doctest/doctest.h>

namespace ctr {

namespace fs = std::filesystem;

LogFolderFixture::LogFolderFixture() {
  char folder[] = "/tmp/ctr-logger-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  folder_ = folder;
}

LogFolderFixture::~LogFolderFixture() { fs::remove_all(folder_); }

std::vector<LogRecord> LogFolderFixture::Records() const {
  std::vector<LogRecord> records;
  LogCursor cursor(folder_, {}, std::nullopt, LogHold::kNone);
  for (;;) {
    StatusOr<LogBatch> batch = cursor.Read();
    REQUIRE_MESSAGE(batch.ok(), batch.status().ToString());
    records.insert(records.end(), batch->records.begin(), batch->records.end());
    if (batch->at_end) return records;
  }
}

std::string LogFolderFixture::Bytes(LogStream stream, uint64_t generation) const {
  std::string bytes;
  for (const LogRecord& record : Records()) {
    if (record.stream != stream || (generation != 0 && record.generation != generation)) continue;
    bytes += record.text + (record.partial ? "" : "\n");
  }
  return bytes;
}

int64_t LogFolderFixture::TotalBytes() const {
  int64_t total = 0;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    total += static_cast<int64_t>(entry.file_size());
  }
  return total;
}

LoggerProcess::LoggerProcess(const std::string& folder, uint64_t generation, int64_t max_size_bytes,
                             int files) {
  int out[2];
  int err[2];
  int ready[2];
  REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
  REQUIRE(::pipe2(err, O_CLOEXEC) == 0);
  REQUIRE(::pipe2(ready, O_CLOEXEC) == 0);
  const std::string size = std::to_string(max_size_bytes);
  const std::string count = std::to_string(files);
  const std::string number = std::to_string(generation);
  pid_ = ::fork();
  if (pid_ == 0) {
    // Out of the way of the numbers that it expects, which dup2 gives without close-on-exec.
    const int from[] = {::fcntl(out[0], F_DUPFD_CLOEXEC, 20), ::fcntl(err[0], F_DUPFD_CLOEXEC, 20),
                        ::fcntl(ready[1], F_DUPFD_CLOEXEC, 20)};
    for (int i = 0; i < 3; ++i) ::dup2(from[i], 3 + i);
    ::execl(CTR_LOGGER, CTR_LOGGER, "files", count.c_str(), "folder", folder.c_str(), "generation",
            number.c_str(), "max_size", size.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(out[0]);
  ::close(err[0]);
  ::close(ready[1]);
  streams_[0] = UniqueFd(out[1]);
  streams_[1] = UniqueFd(err[1]);
  char byte;
  REQUIRE(::read(ready[0], &byte, 1) == 0);  // it says that it is ready by closing it
  ::close(ready[0]);
}

LoggerProcess::~LoggerProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void LoggerProcess::Write(LogStream stream, std::string_view data) {
  const int fd = streams_[stream == LogStream::kStdout ? 0 : 1].get();
  while (!data.empty()) {
    const ssize_t size = ::write(fd, data.data(), data.size());
    REQUIRE(size > 0);
    data.remove_prefix(static_cast<size_t>(size));
  }
}

void LoggerProcess::Finish() {
  for (UniqueFd& stream : streams_) stream.Reset();
  int status = 0;
  REQUIRE(::waitpid(pid_, &status, 0) == pid_);
  pid_ = -1;
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace ctr
