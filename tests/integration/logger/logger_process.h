#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/fd.h"
#include "agent/control/log_files.h"

namespace ctr {

// A folder of output that goes with the test.
class LogFolderFixture {
 public:
  LogFolderFixture();
  ~LogFolderFixture();
  const std::string& folder() const { return folder_; }
  std::vector<LogRecord> Records() const;
  // The bytes of a stream, put together again; of one start unless `generation` is 0.
  std::string Bytes(LogStream stream, uint64_t generation = 0) const;
  int64_t TotalBytes() const;

 private:
  std::string folder_;
};

// A running ctr-logger, as containerd's shim starts it.
class LoggerProcess {
 public:
  LoggerProcess(const std::string& folder, uint64_t generation, int64_t max_size_bytes, int files);
  ~LoggerProcess();  // ends it, if it has not ended

  void Write(LogStream stream, std::string_view data);
  // Ends both streams and returns once it has ended.
  void Finish();
  pid_t pid() const { return pid_; }

 private:
  UniqueFd streams_[2];
  pid_t pid_ = -1;
};

}  // namespace ctr
