#include "agent/logger/log_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/log_layout.h"

namespace ctr::logger {
namespace {

constexpr size_t kNameBytes = 32;

struct Name {
  char text[kNameBytes];
};

Name NameOf(uint64_t number) {
  Name name;
  ::snprintf(name.text, sizeof name.text, "%0*llu%s", static_cast<int>(log_layout::kNumberDigits),
             static_cast<unsigned long long>(number), log_layout::kSuffix);
  return name;
}

// 0 for another file's name.
uint64_t NumberOf(const char* name) {
  uint64_t number = 0;
  const char* end = name;
  for (; *end >= '0' && *end <= '9' && end - name < 19; ++end) number = number * 10 + (*end - '0');
  return end > name && ::strcmp(end, log_layout::kSuffix) == 0 ? number : 0;
}

void Lock(int fd, int operation) {
  while (::flock(fd, operation) != 0 && errno == EINTR) {
  }
}

// As much of the records as fits, in whole records; the first one in any case if `force`.
size_t WholeRecords(const char* records, size_t size, int64_t room, bool force) {
  if (static_cast<int64_t>(size) <= room) return size;
  size_t fits = 0;
  if (room > 0) {
    const void* last = ::memrchr(records, '\n', static_cast<size_t>(room));
    if (last != nullptr) fits = static_cast<const char*>(last) - records + 1;
  }
  if (fits > 0 || !force) return fits;
  const void* first = ::memchr(records, '\n', size);
  return first == nullptr ? size : static_cast<const char*>(first) - records + 1;
}

}  // namespace

LogFolder::LogFolder(const char* path, int64_t max_size_bytes, int files)
    : max_size_bytes_(max_size_bytes),
      files_(files),
      folder_(::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}

void LogFolder::BeginWriting(uint64_t generation) {
  writers_ = ::openat(folder_, log_layout::kWriters, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (writers_ < 0) return;
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(generation);
  lock.l_len = 1;
  ::fcntl(writers_, F_OFD_SETLK, &lock);
}

void LogFolder::EndWriting() {
  if (writers_ < 0) return;
  // First unlocked, then closed: who watches the folder hears the close and looks at the lock.
  struct flock lock = {};
  lock.l_type = F_UNLCK;
  lock.l_whence = SEEK_SET;
  ::fcntl(writers_, F_OFD_SETLK, &lock);
  ::close(writers_);
  writers_ = -1;
}

size_t LogFolder::Append(const char* records, size_t size) {
  if (folder_ < 0) return 0;
  Lock(folder_, LOCK_EX);
  const size_t written = AppendLocked(records, size);
  Lock(folder_, LOCK_UN);
  return written;
}

size_t LogFolder::AppendLocked(const char* records, size_t size) {
  if (!IsNewest() && !OpenNewest()) return 0;
  size_t done = 0;
  while (done < size) {
    const size_t part = WholeRecords(records + done, size - done, max_size_bytes_ - size_bytes_,
                                     /*force=*/size_bytes_ == 0);
    if (part == 0) {
      if (!Rotate()) return done;
      continue;
    }
    ssize_t written;
    do {
      written = ::write(file_, records + done, part);
    } while (written < 0 && errno == EINTR);
    if (written < 0) return done;
    if (static_cast<size_t>(written) < part) {
      // The disk is full in the middle of a record: half of it would spoil the next one.
      const size_t whole = WholeRecords(records + done, part, written, /*force=*/false);
      if (::ftruncate(file_, size_bytes_ + static_cast<int64_t>(whole)) != 0) file_ = -1;
      return done + whole;
    }
    size_bytes_ += written;
    done += part;
  }
  return done;
}

LogFolder::Numbers LogFolder::List() const {
  struct Entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[1];
  };
  Numbers numbers;
  alignas(Entry) char buffer[4096];
  ::lseek(folder_, 0, SEEK_SET);
  for (;;) {
    const long size = ::syscall(SYS_getdents64, folder_, buffer, sizeof buffer);
    if (size <= 0) return numbers;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
      at += entry->length;
      const uint64_t number = NumberOf(entry->name);
      if (number == 0) continue;
      if (numbers.count++ == 0 || number < numbers.lowest) numbers.lowest = number;
      if (number > numbers.highest) numbers.highest = number;
    }
  }
}

// Whether the open file is still the one to append to; reads its size. Others only ever add the
// next number, and delete from below.
bool LogFolder::IsNewest() {
  struct stat status;
  if (file_ < 0 || ::fstat(file_, &status) != 0 || status.st_nlink == 0) return false;
  size_bytes_ = status.st_size;
  return ::faccessat(folder_, NameOf(number_ + 1).text, F_OK, 0) != 0;
}

bool LogFolder::OpenNewest() {
  const Numbers numbers = List();
  if (numbers.count == 0) {
    // A reader may have made it just now.
    return OpenFile(1, /*create=*/true) || (errno == EEXIST && OpenFile(1, /*create=*/false));
  }
  if (!OpenFile(numbers.highest, /*create=*/false)) return false;
  // A machine that stopped in the middle of a record.
  char last = '\n';
  if (size_bytes_ > 0 && ::pread(file_, &last, 1, size_bytes_ - 1) == 1 && last != '\n') {
    if (::write(file_, "\n", 1) == 1) ++size_bytes_;
  }
  return true;
}

bool LogFolder::OpenFile(uint64_t number, bool create) {
  const int flags = O_RDWR | O_APPEND | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0);
  const int opened = ::openat(folder_, NameOf(number).text, flags, 0640);
  struct stat status;
  if (opened < 0) return false;
  if (::fstat(opened, &status) != 0) {
    ::close(opened);
    return false;
  }
  if (file_ >= 0) ::close(file_);
  file_ = opened;
  number_ = number;
  size_bytes_ = status.st_size;
  return true;
}

bool LogFolder::Rotate() {
  // In this order, as a container that writes without end must not lose everything to a full disk;
  // but where only the oldest's room lets the new one be made, it goes first.
  if (!OpenFile(number_ + 1, /*create=*/true)) {
    if (errno != ENOSPC || files_ < 2) return false;
    DeleteOldest();
    if (!OpenFile(number_ + 1, /*create=*/true)) return false;
  }
  for (Numbers numbers = List(); numbers.count > files_; --numbers.count) DeleteOldest();
  return true;
}

void LogFolder::DeleteOldest() {
  const Name name = NameOf(List().lowest);
  const int oldest = ::openat(folder_, name.text, O_RDONLY | O_CLOEXEC);
  if (oldest >= 0) {
    Lock(oldest, LOCK_EX);
    ::close(oldest);
  }
  ::unlinkat(folder_, name.text, 0);
}

}  // namespace ctr::logger
