#include "agent/control/log_watcher.h"

#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>
#include <utility>

#include <spdlog/spdlog.h>

namespace ctr {
namespace {

constexpr uint32_t kChanges = IN_MODIFY | IN_CREATE | IN_CLOSE_WRITE | IN_DELETE_SELF;

constexpr Duration kLogPoll = std::chrono::milliseconds(250);

}  // namespace

struct LogWatcher::State {
  State(asio::any_io_executor executor, int fd) : inotify(std::move(executor), fd) {}

  class Notified;

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

// By inotify.
class LogWatcher::State::Notified final : public LogWatcher::Watch {
 public:
  Notified(std::shared_ptr<State> state, int number, Alarm* alarm)
      : state_(std::move(state)), number_(number), alarm_(alarm) {
    state_->alarms[number_].push_back(alarm_);
  }
  Notified(const Notified&) = delete;
  ~Notified() override {
    auto found = state_->alarms.find(number_);
    if (found == state_->alarms.end()) return;
    auto& waiting = found->second;
    const auto own = std::find(waiting.begin(), waiting.end(), alarm_);
    if (own != waiting.end()) waiting.erase(own);
    if (!waiting.empty()) return;
    state_->alarms.erase(found);
    if (state_->inotify.is_open()) ::inotify_rm_watch(state_->inotify.native_handle(), number_);
  }

 private:
  const std::shared_ptr<State> state_;
  const int number_;
  Alarm* const alarm_;
};

namespace {

// By the clock.
class Polled final : public LogWatcher::Watch {
 public:
  Polled(asio::any_io_executor executor, Clock& clock, Alarm* alarm)
      : alarm_(std::make_shared<Alarm*>(alarm)) {
    asio::co_spawn(std::move(executor), Poll(alarm_, clock), asio::detached);
  }
  Polled(const Polled&) = delete;
  ~Polled() override { *alarm_ = nullptr; }

 private:
  static awaitable<void> Poll(std::shared_ptr<Alarm*> alarm, Clock& clock) {
    while (*alarm != nullptr) {
      (*alarm)->Ring();
      co_await clock.SleepUntil(clock.Now() + kLogPoll);
    }
  }

  const std::shared_ptr<Alarm*> alarm_;  // null once the watch is gone
};

}  // namespace

LogWatcher::LogWatcher(asio::any_io_executor executor, Clock& clock)
    : executor_(std::move(executor)), clock_(clock) {
  const int fd = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) {
    spdlog::warn(
        "output is looked at four times a second, as there is no inotify: {}; raise "
        "fs.inotify.max_user_instances, and restart ctr-agent",
        std::strerror(errno));
    return;
  }
  state_ = std::make_shared<State>(executor_, fd);
  asio::co_spawn(executor_, State::Listen(state_), asio::detached);
}

LogWatcher::~LogWatcher() {
  ErrorCode ignored;
  if (state_) state_->inotify.close(ignored);
}

std::unique_ptr<LogWatcher::Watch> LogWatcher::Add(const std::string& folder, Alarm* alarm) {
  if (state_) {
    const int number =
        ::inotify_add_watch(state_->inotify.native_handle(), folder.c_str(), kChanges | IN_ONLYDIR);
    if (number >= 0) return std::make_unique<State::Notified>(state_, number, alarm);
  }
  return std::make_unique<Polled>(executor_, clock_, alarm);
}

}  // namespace ctr
