#include "agent/base/write_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "agent/base/descriptors.h"
#include "agent/base/fd.h"
#include "agent/base/read_file.h"

namespace ctr {
namespace {

UniqueFd OpenToWrite(const std::string& path, int flags) {
  return UniqueFd(OpenDescriptor(
      [&] { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644); }));
}

bool WriteAll(const UniqueFd& fd, const std::string& text) {
  const auto size = static_cast<ssize_t>(text.size());
  return fd.valid() && ::pwrite(fd.get(), text.data(), text.size(), 0) == size;
}

}  // namespace

Status KeepFile(const std::string& path, const std::string& text) {
  if (ReadFileText(path) == text) return absl::OkStatus();
  const std::string temporary = path + ".new";
  const UniqueFd fd = OpenToWrite(temporary, O_TRUNC);
  if (!WriteAll(fd, text) || ::fsync(fd.get()) != 0 ||
      ::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, "cannot write " + path);
  }
  return absl::OkStatus();
}

Status OverwriteFile(const std::string& path, const std::string& text) {
  if (ReadFileText(path) == text) return absl::OkStatus();
  const UniqueFd fd = OpenToWrite(path, 0);
  if (!WriteAll(fd, text) || ::ftruncate(fd.get(), static_cast<off_t>(text.size())) != 0) {
    return ErrnoError(errno, "cannot write " + path);
  }
  return absl::OkStatus();
}

}  // namespace ctr
