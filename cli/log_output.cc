#include "cli/log_output.h"

#include <time.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ctr::cli {
namespace {

constexpr size_t kMaxJsonLineBytes = size_t{1} << 20;
constexpr int64_t kNanoseconds = 1'000'000'000;

// RFC 3339 in UTC, with nanoseconds.
std::string FormatNanoseconds(int64_t unix_ns) {
  const time_t seconds = unix_ns / kNanoseconds;
  tm parts = {};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  const size_t size = ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  return absl::StrFormat("%s.%09dZ", std::string(text, size), unix_ns % kNanoseconds);
}

}  // namespace

Status LogOutput::Print(const google::protobuf::RepeatedPtrField<v1::LogRecord>& records) {
  for (const v1::LogRecord& record : records) {
    const int stream = record.stream() == v1::LogRecord::STREAM_STDERR ? 1 : 0;
    Line& line = lines_[stream];
    // What a start left without a newline is no part of the next one's line, on either stream.
    if (std::exchange(generation_, record.generation()) != record.generation()) {
      CutOff(0);
      CutOff(1);
    }
    // With times each line stands by itself, also where both streams are shown in one place.
    if (form_ == LogForm::kTimed) CutOff(1 - stream);
    if (record.lost_bytes() != 0) {
      PrintLoss(record);
    } else if (form_ == LogForm::kPlain || form_ == LogForm::kTimed) {
      PrintText(record, line);
    } else {
      AddToLine(record, line);
    }
  }
  return Flush();
}

Status LogOutput::Finish() {
  for (int stream = 0; stream < 2; ++stream) {
    if (!lines_[stream].text.empty()) EndLine(stream, lines_[stream]);
  }
  if (form_ == LogForm::kJson) io_.out << Pretty(array_);
  return Flush();
}

// Ends a line that is open.
void LogOutput::CutOff(int stream) {
  Line& line = lines_[stream];
  if (!line.open) return;
  if (form_ == LogForm::kPlain || form_ == LogForm::kTimed) {
    OutputOf(stream) << '\n';
    line.open = false;
  } else {
    EndLine(stream, line);
  }
}

void LogOutput::PrintText(const v1::LogRecord& record, Line& line) {
  std::ostream& out = OutputOf(record.stream() == v1::LogRecord::STREAM_STDERR ? 1 : 0);
  if (form_ == LogForm::kTimed && !line.open) out << FormatNanoseconds(record.time_ns()) << ' ';
  out << record.data();
  if (!record.partial()) out << '\n';
  line.open = record.partial();
}

void LogOutput::AddToLine(const v1::LogRecord& record, Line& line) {
  if (!line.open) line.time_ns = record.time_ns();
  line.text += record.data();
  line.open = record.partial();
  if (!line.open || line.text.size() > kMaxJsonLineBytes) {
    EndLine(record.stream() == v1::LogRecord::STREAM_STDERR ? 1 : 0, line);
  }
}

void LogOutput::EndLine(int stream, Line& line) {
  Json object = {{"time", FormatNanoseconds(line.time_ns)},
                 {"stream", stream == 1 ? "stderr" : "stdout"},
                 {"text", std::exchange(line.text, "")}};
  line.open = false;
  if (form_ == LogForm::kJson) {
    array_.push_back(std::move(object));
  } else {
    io_.out << Compact(object);
  }
}

void LogOutput::PrintLoss(const v1::LogRecord& record) {
  io_.err << "ctr: output is missing here: "
          << (record.lost_bytes() > 0
                  ? absl::StrCat(record.lost_bytes(), " bytes that the disk had no room for")
                  : "it was rotated away before it was read; see [log] max_size and files")
          << "\n";
}

Status LogOutput::Flush() {
  io_.out.flush();
  io_.err.flush();
  if (io_.out.good()) return absl::OkStatus();
  return absl::AbortedError("cannot write to standard output");
}

}  // namespace ctr::cli
