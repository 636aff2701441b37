#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/store/store.h"

namespace ctr::sqlite {

// What waits to be written, in the order in which it came. On the store's thread.
class WriteQueue {
 public:
  // Makes all of the changes durable, or none.
  using Write = std::function<Status(const std::vector<const Change*>&)>;

  explicit WriteQueue(Write write) : write_(std::move(write)) {}

  // `done` is called once, by a later Flush.
  void Add(std::vector<Change> changes, std::function<void(Status)> done);
  void AddBehind(std::vector<Change> changes);

  // Writes everything in one transaction; if that fails, each entry in its own, so that only what
  // can't be written fails. What was written behind and failed stays, but what a later entry made
  // out of date; returns whether there is any.
  bool Flush();
  // Instead: nothing of it is ever written.
  void Fail(const Status& status);

 private:
  struct Entry {
    std::vector<Change> changes;
    std::deque<Change> events;                // written behind; they depend on nothing else
    std::function<void(Status)> done;         // null: written behind
    std::map<InstanceName, size_t> observed;  // where `changes` has the last PutObserved of a name
  };

  static std::vector<const Change*> ChangesOf(std::span<const Entry> entries);
  void Finish(Entry& entry, const Status& status);
  void Keep(Entry& entry, const Status& status);
  void DropOlder(const Entry& written);
  void AppendBehind(Change change);
  void AppendEvent(std::deque<Change>& events, Change change);

  const Write write_;
  std::vector<Entry> entries_;
  int failures_ = 0;            // of writing behind, since it last worked
  int64_t dropped_events_ = 0;  // since then
};

}  // namespace ctr::sqlite
