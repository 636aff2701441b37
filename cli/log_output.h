#pragma once

#include <array>
#include <string>

#include "agent/base/error.h"
#include "cli/context.h"

namespace ctr::cli {

// How `ctr logs` shows records.
enum class LogForm { kPlain, kTimed, kJsonLines, kJson };

// Prints an instance's output: stdout on stdout, stderr on stderr, as it was written. As JSON, a
// line is one object, however many pieces it came in.
class LogOutput {
 public:
  LogOutput(const Io& io, LogForm form) : io_(io), form_(form) {}

  // An error if standard output can't be written.
  Status Print(const google::protobuf::RepeatedPtrField<v1::LogRecord>& records);
  // After the last: what has no end yet.
  Status Finish();

 private:
  // Of one stream.
  struct Line {
    bool open = false;  // its beginning is there, its newline is not
    int64_t time_ns = 0;
    std::string text;  // as JSON alone
  };

  std::ostream& OutputOf(int stream) const { return stream == 1 ? io_.err : io_.out; }
  void CutOff(int stream);
  void PrintText(const v1::LogRecord& record, Line& line);
  void AddToLine(const v1::LogRecord& record, Line& line);
  void EndLine(int stream, Line& line);
  void PrintLoss(const v1::LogRecord& record);
  Status Flush();

  const Io& io_;
  const LogForm form_;
  std::array<Line, 2> lines_;
  uint64_t generation_ = 0;  // of the last record
  Json array_ = Json::array();
};

}  // namespace ctr::cli
