#pragma once

#include <cstddef>
#include <cstdint>

namespace ctr::logger {

// The files of one instance's output (agent/base/log_layout.h), shared with the loggers of its
// earlier and later starts. Allocates nothing.
class LogFolder {
 public:
  LogFolder(const char* path, int64_t max_size_bytes, int files);

  // Marks the start `generation` as being written, until EndWriting or the end of the process.
  // Without the mark, if it can't be made, a reader takes the output for complete.
  void BeginWriting(uint64_t generation);
  void EndWriting();

  // Appends whole records. Returns how many of the bytes were written, whole records: less than
  // `size` if the disk is full or the folder gone. Blocks while somebody must read the file whose
  // turn to be deleted has come.
  size_t Append(const char* records, size_t size);

 private:
  struct Numbers {
    uint64_t lowest = 0;  // 0: there is none
    uint64_t highest = 0;
    int count = 0;
  };

  size_t AppendLocked(const char* records, size_t size);
  Numbers List() const;
  bool IsNewest();
  bool OpenNewest();
  bool OpenFile(uint64_t number, bool create);
  bool Rotate();
  void DeleteOldest();

  const int64_t max_size_bytes_;
  const int files_;
  const int folder_;  // -1: it can't be opened, and all is lost
  int writers_ = -1;
  int file_ = -1;
  uint64_t number_ = 0;
  int64_t size_bytes_ = 0;  // of the file, while the folder is locked
};

}  // namespace ctr::logger
