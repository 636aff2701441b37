#include "agent/api/user_names.h"

#include <pwd.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/control/work.h"

namespace ctr {
namespace {

std::string LookUp(uid_t uid) {
  constexpr size_t kBufferSize = 16 * 1024;
  std::vector<char> buffer(kBufferSize);
  passwd entry = {};
  passwd* found = nullptr;
  ::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
  return found != nullptr ? std::string(found->pw_name) : absl::StrCat("uid ", uid);
}

}  // namespace

awaitable<std::string> UserNames::NameOf(uid_t uid) {
  if (auto known = names_.find(uid); known != names_.end()) co_return known->second;
  std::string name = co_await OnWork(work_, [uid] { return LookUp(uid); });
  names_[uid] = name;
  co_return name;
}

}  // namespace ctr
