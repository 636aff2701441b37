#include "agent/policy/event_coalescer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace ctr::policy {
namespace {

bool Repeats(std::string_view type) {
  constexpr std::array<std::string_view, 11> kTypes = {
      event::kRefused,    event::kRenewed, event::kStayedAwake, event::kHook,
      event::kHookFailed, event::kExec,    event::kCopy,        event::kDiskFull,
      event::kDiskRoom,   event::kRemoved, event::kDiskLow};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

std::string CountedMessage(const std::string& message, uint64_t more) {
  return message + (message.empty() ? "(" : " (") + std::to_string(more) + " more within " +
         std::to_string(EventCoalescer::kWindow / std::chrono::seconds(1)) + "s)";
}

}  // namespace

EventCoalescer::Kind EventCoalescer::KindOf(const Event& event) {
  std::string message = event.message;
  if (event.type == event::kRefused) message.resize(std::min(message.find(':'), message.size()));
  if (event.type == event::kDiskLow) message.clear();
  return {event.type, event.instance, event.generation, std::move(message)};
}

std::optional<Event> EventCoalescer::Add(Event event, uint64_t times, MonoTime now) {
  if (!Repeats(event.type)) return event;
  Kind kind = KindOf(event);
  auto found = windows_.find(kind);
  if (found == windows_.end() && windows_.size() >= kMaxKinds) {
    DropEnded(now);
    if (windows_.size() >= kMaxKinds) {
      Event others;
      others.type = event.type;
      others.message = "others: too many kinds at once to tell them apart";
      others.cause = std::move(event.cause);
      event = std::move(others);
      kind = KindOf(event);
      found = windows_.find(kind);
    }
  }
  // A window that has ended without a repetition says nothing more.
  if (found != windows_.end() && found->second.more == 0 && now >= found->second.end) {
    windows_.erase(found);
    found = windows_.end();
  }
  if (found != windows_.end()) {
    found->second.more += times;
    found->second.newest = std::move(event);
    return std::nullopt;
  }
  windows_[kind] = {.end = now + kWindow, .more = times - 1, .newest = event};
  return event;
}

std::vector<Event> EventCoalescer::TakeDue(MonoTime now) {
  std::vector<Event> due;
  for (auto& [kind, window] : windows_) {
    if (window.more == 0 || now < window.end) continue;
    Event event = window.newest;
    event.message = CountedMessage(event.message, window.more);
    due.push_back(std::move(event));
    // A flood that goes on is counted on: one event a window.
    window.more = 0;
    if (now != MonoTime::max()) window.end = now + kWindow;
  }
  DropEnded(now);
  return due;
}

void EventCoalescer::DropEnded(MonoTime now) {
  std::erase_if(windows_, [now](const auto& entry) {
    return entry.second.more == 0 && now >= entry.second.end;
  });
}

std::optional<MonoTime> EventCoalescer::next_due() const {
  std::optional<MonoTime> next;
  for (const auto& [kind, window] : windows_) {
    if (window.more > 0) next = std::min(next.value_or(window.end), window.end);
  }
  return next;
}

}  // namespace ctr::policy
