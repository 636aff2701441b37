#include "agent/api/user_names.h"

#include <pwd.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"

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
  auto [found, is_new] = users_.try_emplace(uid);
  if (is_new) {
    auto user = found->second = std::make_shared<User>(co_await asio::this_coro::executor);
    user->name = co_await OnWork(work_, [uid] { return LookUp(uid); });
    user->known.cancel();
    co_return *user->name;
  }
  // One lookup of each, however slow: many would take the threads that starts need.
  const std::shared_ptr<User> user = found->second;
  ErrorCode ignored;
  while (!user->name) co_await user->known.async_wait(asio::redirect_error(use_awaitable, ignored));
  co_return *user->name;
}

}  // namespace ctr
