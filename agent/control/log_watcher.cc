#include "agent/control/log_watcher.h"

#include <sys/inotify.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

constexpr uint32_t kChanges = IN_MODIFY | IN_CREATE | IN_CLOSE_WRITE | IN_DELETE_SELF;

Status NoWatch(int error_number, const std::string& what, const char* limit) {
  return ErrnoError(error_number, absl::StrCat("cannot follow ", what, " (", limit, ")"));
}

}  // namespace

struct LogWatcher::State {
  State(asio::any_io_executor executor, int fd) : inotify(std::move(executor), fd) {}

  static awaitable<void> Listen(std::shared_ptr<State> state);
  void Tell(const inotify_event& event);

  asio::posix::stream_descriptor inotify;
  std::map<int, std::list<Alarm*>> alarms;  // by the kernel's number of the watch
};

awaitable<void> LogWatcher::State::Listen(std::shared_ptr<State> state) {
  alignas(inotify_event) std::array<char, 4096> buffer;
  for (;;) {
    ErrorCode error;
    const size_t size = co_await state->inotify.async_read_some(
        asio::buffer(buffer), asio::redirect_error(use_awaitable, error));
    if (error) co_return;
    for (size_t at = 0; at + sizeof(inotify_event) <= size;) {
      inotify_event event;
      std::memcpy(&event, buffer.data() + at, sizeof event);
      state->Tell(event);
      at += sizeof event + event.len;
    }
  }
}

void LogWatcher::State::Tell(const inotify_event& event) {
  for (auto& [number, waiting] : alarms) {
    if (number != event.wd && (event.mask & IN_Q_OVERFLOW) == 0) continue;
    for (Alarm* alarm : waiting) alarm->Ring();
  }
  if ((event.mask & IN_IGNORED) != 0) alarms.erase(event.wd);  // the folder is gone
}

LogWatcher::LogWatcher(asio::any_io_executor executor) : executor_(std::move(executor)) {}

LogWatcher::~LogWatcher() {
  ErrorCode ignored;
  if (state_) state_->inotify.close(ignored);
}

StatusOr<std::unique_ptr<LogWatcher::Watch>> LogWatcher::Add(const std::string& folder,
                                                             Alarm* alarm) {
  if (!state_) {
    const int fd = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) return NoWatch(errno, folder, "fs.inotify.max_user_instances");
    state_ = std::make_shared<State>(executor_, fd);
    asio::co_spawn(executor_, State::Listen(state_), asio::detached);
  }
  const int number =
      ::inotify_add_watch(state_->inotify.native_handle(), folder.c_str(), kChanges | IN_ONLYDIR);
  if (number < 0) return NoWatch(errno, folder, "fs.inotify.max_user_watches");
  return std::unique_ptr<Watch>(new Watch(state_, number, alarm));
}

LogWatcher::Watch::Watch(std::shared_ptr<State> state, int number, Alarm* alarm)
    : state_(std::move(state)), number_(number), alarm_(alarm) {
  state_->alarms[number_].push_back(alarm_);
}

LogWatcher::Watch::~Watch() {
  auto found = state_->alarms.find(number_);
  if (found == state_->alarms.end()) return;
  auto& waiting = found->second;
  for (auto it = waiting.begin(); it != waiting.end(); ++it) {
    if (*it != alarm_) continue;
    waiting.erase(it);
    break;
  }
  if (!waiting.empty()) return;
  state_->alarms.erase(found);
  if (state_->inotify.is_open()) ::inotify_rm_watch(state_->inotify.native_handle(), number_);
}

}  // namespace ctr
