#include "agent/control/event_log.h"

#include <algorithm>
#include <utility>

#include "agent/base/work.h"

namespace ctr {
namespace {

// What a follower may be behind before it reads from the store again.
constexpr size_t kTail = 2048;
// Numbers that an agent which was killed may have shown without having them on disk: those of the
// last half second, and while the disk fails everything since, up to as much as the store holds
// back. Far beyond that; there are enough numbers.
constexpr int64_t kUnwritten = 100'000;

}  // namespace

EventLog::EventLog(Store& store, Clock& clock, asio::any_io_executor executor)
    : store_(store), clock_(clock), executor_(std::move(executor)) {}

void EventLog::Resume(int64_t last_number) {
  newest_ = last_number == 0 ? 0 : last_number + kUnwritten;
}

void EventLog::Record(Event event, uint64_t times) {
  std::optional<Event> told = coalescer_.Add(std::move(event), times, clock_.Now());
  if (told) Append(*std::move(told));
  if (!self_ && coalescer_.next_due()) {
    self_ = std::make_shared<EventLog*>(this);
    SpawnOrDie(executor_, TellLater(self_), "event log");
  }
}

void EventLog::TellCounted() {
  for (Event& event : coalescer_.TakeAll()) Append(std::move(event));
}

void EventLog::Append(Event event) {
  event.number = ++newest_;
  event.at = clock_.Wall();
  tail_.push_back(event);
  if (tail_.size() > kTail) tail_.pop_front();
  store_.WriteBehind({PutEvent{std::move(event)}});
  for (Alarm* follower : followers_) follower->Ring();
}

// Tells the counts at their time, until there are none. Ends by itself if the log is gone: `log`
// is then this coroutine's alone.
awaitable<void> EventLog::TellLater(std::shared_ptr<EventLog*> log) {
  while (log.use_count() > 1) {
    std::optional<MonoTime> due = (*log)->coalescer_.next_due();
    if (!due) break;
    co_await (*log)->clock_.SleepUntil(*due);
    if (log.use_count() == 1) co_return;
    for (Event& event : (*log)->coalescer_.TakeDue((*log)->clock_.Now())) {
      (*log)->Append(std::move(event));
    }
  }
  if (log.use_count() > 1) (*log)->self_.reset();
}

awaitable<StatusOr<EventPage>> EventLog::Read(EventQuery query) {
  EventPage page;
  page.seen = newest_;
  const auto limit = static_cast<size_t>(std::max(query.limit, 1));
  // As of now: more may be recorded while the store reads.
  std::vector<Event> recent;
  auto from = std::partition_point(tail_.begin(), tail_.end(),
                                   [&](const Event& event) { return event.number <= query.after; });
  for (; from != tail_.end(); ++from) {
    if (query.Wants(*from)) recent.push_back(*from);
  }
  const int64_t in_memory_from = tail_.empty() ? newest_ + 1 : tail_.front().number;
  const bool newest_first = query.pick == EventQuery::Pick::kNewest;
  if (query.after + 1 < in_memory_from && !(newest_first && recent.size() > limit)) {
    EventQuery older = query;
    older.before = std::min(query.before, in_memory_from);
    older.limit = static_cast<int>(limit) + 1;
    CTR_CO_ASSIGN_OR_RETURN(page.events, co_await store_.ReadEvents(std::move(older)));
  }
  std::move(recent.begin(), recent.end(), std::back_inserter(page.events));
  if (page.events.size() > limit) {
    page.cut = true;
    if (newest_first) {
      page.events.erase(page.events.begin(), page.events.end() - static_cast<ptrdiff_t>(limit));
    } else {
      page.events.resize(limit);
      page.seen = page.events.back().number;
    }
  }
  co_return page;
}

void EventLog::Close() {
  closed_ = true;
  for (Alarm* follower : followers_) follower->Ring();
}

awaitable<void> EventLog::AwaitNewer(int64_t number) {
  struct Following {
    Following(std::list<Alarm*>& followers, Alarm* alarm)
        : followers(followers), position(followers.insert(followers.end(), alarm)) {}
    Following(const Following&) = delete;
    ~Following() { followers.erase(position); }

    std::list<Alarm*>& followers;
    const std::list<Alarm*>::iterator position;
  };
  const std::unique_ptr<Alarm> alarm = clock_.MakeAlarm(executor_);
  const Following following(followers_, alarm.get());
  while (newest_ <= number && !closed_) {
    co_await AllowCancellation(true);
    co_await alarm->WaitUntil(MonoTime::max());
    co_await AllowCancellation(false);
  }
}

}  // namespace ctr
