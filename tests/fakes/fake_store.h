#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/store/store.h"

namespace ctr {

// A store in memory. `error` is what every commit answers; what was written behind is applied at
// once.
class FakeStore final : public Store {
 public:
  Status error;
  int commits = 0;
  std::map<std::string, ClassRecord> classes;
  std::map<InstanceName, InstanceRecord> instances;
  AddressCursors cursors;
  std::vector<Event> events;
  std::string lost;
  bool loses_behind = false;  // as when the agent is killed before it is on disk

  awaitable<StatusOr<StoredState>> Load() override {
    StoredState state;
    for (const auto& [name, record] : classes) state.classes.push_back(record);
    for (const auto& [name, record] : instances) state.instances.push_back(record);
    state.cursors = cursors;
    state.last_event = events.empty() ? 0 : events.back().number;
    state.lost = lost;
    co_return state;
  }

  awaitable<StatusOr<std::vector<Event>>> ReadEvents(EventQuery query) override {
    std::vector<Event> found;
    for (const Event& event : events) {
      if (query.Wants(event)) found.push_back(event);
    }
    const size_t limit = std::min(found.size(), static_cast<size_t>(query.limit));
    if (query.pick == EventQuery::Pick::kNewest) {
      found.erase(found.begin(), found.end() - static_cast<ptrdiff_t>(limit));
    } else {
      found.resize(limit);
    }
    co_return found;
  }

  awaitable<Status> Commit(std::vector<Change> changes) override {
    ++commits;
    co_await asio::post(co_await asio::this_coro::executor, use_awaitable);
    if (!error.ok()) co_return error;
    ApplyAll(changes);
    co_return absl::OkStatus();
  }

  void WriteBehind(std::vector<Change> changes) override {
    if (!loses_behind) ApplyAll(changes);
  }

 private:
  void ApplyAll(std::vector<Change>& changes) {
    for (Change& change : changes) std::visit([this](auto& one) { Apply(one); }, change);
  }
  void Apply(PutClass& put) { classes[put.record.config.name] = put.record; }
  void Apply(DeleteClass& del) { classes.erase(del.name); }
  void Apply(PutInstance& put) {
    auto found = instances.find(put.record.name);
    Observed observed = found == instances.end() ? put.record.observed : found->second.observed;
    instances[put.record.name] = put.record;
    instances[put.record.name].observed = observed;
  }
  void Apply(PutObserved& put) {
    auto found = instances.find(put.name);
    if (found != instances.end()) found->second.observed = put.observed;
  }
  void Apply(DeleteInstance& del) { instances.erase(del.name); }
  void Apply(PutCursors& put) { cursors = put.cursors; }
  void Apply(PutEvent& put) { events.push_back(put.event); }
  void Apply(AcceptLoss&) { lost.clear(); }
};

}  // namespace ctr
