#include "agent/base/living_thread.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ctr {

int LivingThread(int pid) {
  std::error_code error;
  std::filesystem::directory_iterator it(absl::StrCat("/proc/", pid, "/task"), error);
  for (const std::filesystem::directory_iterator end; !error && it != end; it.increment(error)) {
    int thread = 0;
    std::error_code gone;
    if (std::filesystem::exists(it->path() / "ns/net", gone) &&
        absl::SimpleAtoi(it->path().filename().string(), &thread)) {
      return thread;
    }
  }
  return pid;
}

}  // namespace ctr
