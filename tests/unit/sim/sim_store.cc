#include "tests/unit/sim/sim_store.h"

#include <utility>

namespace ctr::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

}  // namespace

void SimStore::Crash() {
  ++life_;
  queue_.clear();
  behind_is_due_ = false;
}

awaitable<StatusOr<StoredState>> SimStore::Load() {
  co_await clock_.SleepUntil(clock_.Now() + milliseconds(1));
  if (dice_.Chance(faults_.commit)) co_return absl::InternalError("disk I/O error");
  co_return co_await durable_.Load();
}

awaitable<StatusOr<std::vector<Event>>> SimStore::ReadEvents(EventQuery query) {
  co_return co_await durable_.ReadEvents(std::move(query));
}

awaitable<Status> SimStore::Commit(std::vector<Change> changes) {
  auto answer = std::make_shared<Answer>();
  answer->alarm = clock_.MakeAlarm(co_await asio::this_coro::executor);
  queue_.push_back({std::move(changes), answer});
  FlushAfter(dice_.Chance(faults_.slow) ? dice_.Within(milliseconds(1), seconds(3))
                                        : dice_.Within(milliseconds(1), milliseconds(8)));
  while (!answer->status) co_await answer->alarm->WaitUntil(MonoTime::max());
  // It is on the disk some time before the caller knows.
  co_await clock_.SleepUntil(clock_.Now() + dice_.Within(milliseconds(0), milliseconds(2)));
  co_return *answer->status;
}

void SimStore::WriteBehind(std::vector<Change> changes) {
  queue_.push_back({std::move(changes), nullptr});
  if (std::exchange(behind_is_due_, true)) return;
  FlushAfter(seconds(1));
}

void SimStore::FlushAfter(Duration delay) {
  clock_.At(clock_.Now() + delay, [this, life = life_] {
    if (life == life_) Flush();
  });
}

void SimStore::Flush() {
  std::deque<Entry> entries = std::exchange(queue_, {});
  behind_is_due_ = false;
  const bool behind_fails = dice_.Chance(faults_.behind);
  for (Entry& entry : entries) {
    if (!entry.answer && behind_fails) {
      queue_.push_back(std::move(entry));
      if (!std::exchange(behind_is_due_, true)) FlushAfter(seconds(1));
      continue;
    }
    if (!entry.answer || !dice_.Chance(faults_.commit)) {
      durable_.WriteBehind(std::move(entry.changes));
      if (entry.answer) entry.answer->status = absl::OkStatus();
    } else {
      entry.answer->status = dice_.Chance(0.5)
                                 ? absl::ResourceExhaustedError("cannot write the state: disk full")
                                 : absl::InternalError("disk I/O error");
    }
    if (entry.answer) entry.answer->alarm->Ring();
  }
}

}  // namespace ctr::sim
