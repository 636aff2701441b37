#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/proxy/waker.h"

namespace ctr {

// Tells control what one data loop refused, so that a flood of refusals costs control nothing: a
// few kinds (instance and code) a second are told at once, everything else is counted and told at
// the second's end. Home: its loop, which calls Sweep now and then.
class RefusalLog {
 public:
  static constexpr Duration kWindow = std::chrono::seconds(1);
  static constexpr size_t kMaxKinds = 4;  // told apart in a window

  explicit RefusalLog(std::function<void(Refusal)> tell) : tell_(std::move(tell)) {}

  // `cause` is called only if it is told now.
  void Add(const InstanceName& name, const Status& error, const std::function<std::string()>& cause,
           MonoTime now);
  // Tells the counts of a window that has ended.
  void Sweep(MonoTime now);

 private:
  struct Kind {
    Refusal first;  // as it was told
    uint64_t more = 0;
  };

  const std::function<void(Refusal)> tell_;
  absl::flat_hash_map<std::pair<InstanceName, std::string>, Kind> kinds_;
  uint64_t others_ = 0;
  MonoTime end_;  // of the window
};

}  // namespace ctr
