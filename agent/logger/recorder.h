#pragma once

#include <cstddef>
#include <cstdint>

#include "agent/base/log_layout.h"
#include "agent/logger/log_folder.h"

namespace ctr::logger {

inline constexpr int kStreams = 2;  // 0: stdout, 1: stderr

// Cuts what the two streams carry into records, and appends them. What can't be written is counted,
// and said in a record of its own once there is room. Allocates nothing.
class Recorder {
 public:
  // The folder outlives it.
  Recorder(LogFolder* folder, uint64_t generation) : folder_(folder), generation_(generation) {}

  // Takes bytes of a stream. What is whole is written by the next Flush at the latest.
  void Take(int stream, const char* data, size_t size);
  // Whether a stream waits for the rest of a line.
  bool HasPieces() const { return pending_size_[0] > 0 || pending_size_[1] > 0; }
  // Makes records of the beginnings of lines.
  void CutPieces();
  void Flush();

 private:
  void Emit(int stream, char tag, const char* text, size_t size);
  size_t WriteHeader(char* out, int stream, char tag);
  bool TellLosses();
  void CountLosses(const char* records, size_t size);

  LogFolder* const folder_;
  const uint64_t generation_;
  int64_t lost_bytes_[kStreams] = {};
  int64_t second_ = -1;  // that second_text_ shows
  char second_text_[20];
  size_t pending_size_[kStreams] = {};
  size_t out_size_ = 0;
  char pending_[kStreams][log_layout::kMaxTextBytes];
  char out_[4 * log_layout::kMaxTextBytes];
};

}  // namespace ctr::logger
