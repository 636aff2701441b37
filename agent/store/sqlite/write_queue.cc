#include "agent/store/sqlite/write_queue.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include <spdlog/spdlog.h>

namespace ctr::sqlite {
namespace {

// Far more than instances fit on a host. Beyond it the disk has failed for long, and what was
// observed is rebuilt from the containers' labels anyway.
constexpr size_t kMaxBehind = 100'000;
// A few megabytes. Events go on while a disk is full; then the newest are worth most.
constexpr size_t kMaxEventsBehind = 10'000;

}  // namespace

void WriteQueue::Add(std::vector<Change> changes, std::function<void(Status)> done) {
  entries_.push_back({std::move(changes), {}, std::move(done), {}});
}

void WriteQueue::AddBehind(std::vector<Change> changes) {
  if (changes.empty()) return;
  if (entries_.empty() || entries_.back().done) entries_.emplace_back();
  for (Change& change : changes) AppendBehind(std::move(change));
}

void WriteQueue::AppendBehind(Change change) {
  Entry& entry = entries_.back();
  if (std::holds_alternative<PutEvent>(change)) {
    AppendEvent(entry.events, std::move(change));
    return;
  }
  if (const auto* put = std::get_if<PutObserved>(&change)) {
    auto [at, is_first] = entry.observed.try_emplace(put->name, entry.changes.size());
    if (!is_first) {
      entry.changes[at->second] = std::move(change);
      return;
    }
  } else {
    // What comes after it must not move before it.
    entry.observed.clear();
  }
  if (entry.changes.size() >= kMaxBehind) {
    spdlog::error("dropped {} changes that were to be written behind: too many wait",
                  entry.changes.size());
    entry.changes.clear();
    entry.observed.clear();
    return;
  }
  entry.changes.push_back(std::move(change));
}

void WriteQueue::AppendEvent(std::deque<Change>& events, Change change) {
  events.push_back(std::move(change));
  if (events.size() <= kMaxEventsBehind) return;
  events.pop_front();
  ++dropped_events_;
}

bool WriteQueue::Flush() {
  std::vector<Entry> entries = std::exchange(entries_, {});
  const std::vector<const Change*> all = ChangesOf(entries);
  Status together = all.empty() ? absl::OkStatus() : write_(all);
  for (size_t i = 0; i < entries.size(); ++i) {
    Status alone = together;
    if (!together.ok() && entries.size() > 1) {
      alone = write_(ChangesOf(std::span(&entries[i], 1)));
    }
    if (alone.ok()) DropOlder(entries[i]);
    Finish(entries[i], alone);
  }
  return !entries_.empty();
}

void WriteQueue::Fail(const Status& status) {
  for (Entry& entry : std::exchange(entries_, {})) {
    if (entry.done) entry.done(status);
  }
}

std::vector<const Change*> WriteQueue::ChangesOf(std::span<const Entry> entries) {
  std::vector<const Change*> changes;
  for (const Entry& entry : entries) {
    for (const Change& change : entry.changes) changes.push_back(&change);
    for (const Change& event : entry.events) changes.push_back(&event);
  }
  return changes;
}

void WriteQueue::Finish(Entry& entry, const Status& status) {
  if (entry.done) {
    entry.done(status);
  } else if (!status.ok()) {
    Keep(entry, status);
  } else if (failures_ > 0) {
    spdlog::info("the state is written again, after {} failures; {} events were dropped",
                 std::exchange(failures_, 0), std::exchange(dropped_events_, 0));
  }
}

// What was observed and is kept to be tried again, of the names of which `written` says more.
void WriteQueue::DropOlder(const Entry& written) {
  if (entries_.empty()) return;
  std::set<InstanceName> names;
  for (const Change& change : written.changes) {
    if (const auto* put = std::get_if<PutObserved>(&change)) names.insert(put->name);
    if (const auto* gone = std::get_if<DeleteInstance>(&change)) names.insert(gone->name);
  }
  for (Entry& entry : entries_) {
    std::erase_if(entry.changes, [&](const Change& change) {
      const auto* put = std::get_if<PutObserved>(&change);
      return put != nullptr && names.contains(put->name);
    });
    entry.observed.clear();
  }
}

void WriteQueue::Keep(Entry& entry, const Status& status) {
  // Refused for what it says, not for the disk: it would be refused forever.
  std::vector<Change> events(std::make_move_iterator(entry.events.begin()),
                             std::make_move_iterator(entry.events.end()));
  if (absl::IsAlreadyExists(status)) {
    AddBehind(std::move(events));
    const bool is_one = entry.changes.size() == 1;
    for (Change& change : entry.changes) {
      Status alone = is_one ? status : write_({&change});
      if (absl::IsAlreadyExists(alone)) {
        spdlog::error("dropped a change that was to be written behind: {}", alone.ToString());
      } else if (!alone.ok()) {
        AddBehind({std::move(change)});
      }
    }
    return;
  }
  if (failures_++ == 0) {
    spdlog::error("cannot write what changed behind, and tries again each second: {}",
                  status.ToString());
  }
  AddBehind(std::move(entry.changes));
  AddBehind(std::move(events));
}

}  // namespace ctr::sqlite
