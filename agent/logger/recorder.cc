#include "agent/logger/recorder.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

namespace ctr::logger {
namespace {

constexpr const char* kNames[kStreams] = {"stdout", "stderr"};
constexpr size_t kTimeBytes = 30;
constexpr size_t kTagOffset = kTimeBytes + 1 + 6 + 1;

size_t Smaller(size_t a, size_t b) { return a < b ? a : b; }

}  // namespace

void Recorder::Take(int stream, const char* data, size_t size) {
  char* pending = pending_[stream];
  size_t& held = pending_size_[stream];
  while (size > 0) {
    const size_t most = Smaller(size, log_layout::kMaxTextBytes - held);
    const char* newline = static_cast<const char*>(::memchr(data, '\n', most));
    const size_t text = newline == nullptr ? most : static_cast<size_t>(newline - data);
    const bool whole = newline != nullptr || held + text == log_layout::kMaxTextBytes;
    const char* line = data;
    if (held > 0 || !whole) {
      ::memcpy(pending + held, data, text);
      held += text;
      line = pending;
    }
    if (whole) {
      Emit(stream, newline != nullptr ? 'F' : 'P', line, line == pending ? held : text);
      held = 0;
    }
    const size_t taken = text + (newline != nullptr ? 1 : 0);
    data += taken;
    size -= taken;
  }
}

void Recorder::CutPieces() {
  for (int stream = 0; stream < kStreams; ++stream) {
    if (pending_size_[stream] == 0) continue;
    Emit(stream, 'P', pending_[stream], pending_size_[stream]);
    pending_size_[stream] = 0;
  }
}

void Recorder::Emit(int stream, char tag, const char* text, size_t size) {
  if (out_size_ + log_layout::kMaxHeaderBytes + size + 1 > sizeof out_) Flush();
  char* out = out_ + out_size_;
  const size_t header = WriteHeader(out, stream, tag);
  ::memcpy(out + header, text, size);
  out[header + size] = '\n';
  out_size_ += header + size + 1;
}

size_t Recorder::WriteHeader(char* out, int stream, char tag) {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec != second_) {
    second_ = now.tv_sec;
    tm parts;
    ::gmtime_r(&now.tv_sec, &parts);
    ::strftime(second_text_, sizeof second_text_, "%Y-%m-%dT%H:%M:%S", &parts);
  }
  ::memcpy(out, second_text_, 19);
  out[19] = '.';
  long rest = now.tv_nsec;
  for (int digit = 28; digit > 19; --digit, rest /= 10) {
    out[digit] = static_cast<char>('0' + rest % 10);
  }
  out[29] = 'Z';
  out[30] = ' ';
  ::memcpy(out + 31, kNames[stream], 6);
  out[37] = ' ';
  out[kTagOffset] = tag;
  out[kTagOffset + 1] = ':';
  char digits[20];
  size_t count = 0;
  uint64_t left = generation_;
  do {
    digits[count++] = static_cast<char>('0' + left % 10);
    left /= 10;
  } while (left > 0);
  size_t at = kTagOffset + 2;
  while (count > 0) out[at++] = digits[--count];
  out[at++] = ' ';
  return at;
}

void Recorder::Flush() {
  const size_t size = out_size_;
  out_size_ = 0;
  const size_t written = TellLosses() && size > 0 ? folder_->Append(out_, size) : 0;
  CountLosses(out_ + written, size - written);
}

// False while there is no room.
bool Recorder::TellLosses() {
  for (int stream = 0; stream < kStreams; ++stream) {
    if (lost_bytes_[stream] == 0) continue;
    char record[log_layout::kMaxHeaderBytes + 32];
    size_t size = WriteHeader(record, stream, 'D');
    size += static_cast<size_t>(
        ::snprintf(record + size, 32, "%lld\n", static_cast<long long>(lost_bytes_[stream])));
    if (folder_->Append(record, size) != size) return false;
    lost_bytes_[stream] = 0;
  }
  return true;
}

void Recorder::CountLosses(const char* records, size_t size) {
  while (size > 0) {
    const char* newline = static_cast<const char*>(::memchr(records, '\n', size));
    const size_t length = static_cast<size_t>(newline - records) + 1;
    // The space after the generation: a text may begin with any byte.
    const void* space = ::memchr(records + kTagOffset, ' ', length - kTagOffset);
    const size_t header = static_cast<size_t>(static_cast<const char*>(space) - records) + 1;
    const size_t text = length - header - 1;
    const int stream = records[34] == 'o' ? 0 : 1;  // std(o)ut, std(e)rr
    lost_bytes_[stream] += static_cast<int64_t>(text) + (records[kTagOffset] == 'F' ? 1 : 0);
    records += length;
    size -= length;
  }
}

}  // namespace ctr::logger
