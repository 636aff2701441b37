#include "agent/control/cpu_ranks.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/policy/cpu_rank.h"

namespace ctr {
namespace {

constexpr Duration kRankInterval = std::chrono::milliseconds(500);
// Each takes some 10 us: others on the loop have their turn in between.
constexpr int kRanksPerTurn = 64;

}  // namespace

awaitable<void> CpuRanks::Run() {
  // The agent before this one may have left some behind.
  for (const auto& [name, instance] : instances_) {
    if (!instance->container()) continue;
    runtime_.SetBehind(instance->container()->id, false).IgnoreError();
  }
  for (;;) {
    co_await Look();
    co_await clock_.SleepUntil(clock_.Now() + kRankInterval);
  }
}

bool CpuRanks::IsBehind(const std::string& container) const {
  auto found = seen_.find(container);
  return found != seen_.end() && found->second.behind;
}

awaitable<void> CpuRanks::Look() {
  if (IsCalm()) {
    seen_.clear();
    co_return;
  }
  std::vector<std::shared_ptr<Instance>> live;
  for (const auto& [name, instance] : instances_) {
    if (instance->container()) live.push_back(instance);
  }
  std::map<std::string, Seen> all_seen;
  int turn = 0;
  for (const std::shared_ptr<Instance>& instance : live) {
    if (++turn % kRanksPerTurn == 0) co_await clock_.SleepUntil(clock_.Now());
    if (instance->container()) LookAt(instance->container()->id, all_seen);
  }
  seen_ = std::move(all_seen);
}

bool CpuRanks::IsCalm() {
  const StatusOr<Duration> cpu_time = runtime_.CpuTime("");
  const Seen now = {.at = clock_.Now(), .cpu_time = cpu_time.value_or(Duration::zero())};
  const Seen before = std::exchange(together_, now).value_or(now);
  if (std::any_of(seen_.begin(), seen_.end(), [](const auto& seen) { return seen.second.behind; }))
    return false;
  return !policy::GoesBehind(false, now.cpu_time - before.cpu_time, now.at - before.at);
}

void CpuRanks::LookAt(const std::string& container, std::map<std::string, Seen>& all_seen) {
  const StatusOr<Duration> cpu_time = runtime_.CpuTime(container);
  if (!cpu_time.ok()) return;
  Seen& now = all_seen[container] = {.at = clock_.Now(), .cpu_time = *cpu_time};
  auto before = seen_.find(container);
  if (before == seen_.end()) return;
  const Seen& then = before->second;
  now.behind = policy::GoesBehind(then.behind, *cpu_time - then.cpu_time, now.at - then.at);
  // A kernel that has no such ranks (before 5.15) refuses: then all stay equals.
  if (now.behind != then.behind) runtime_.SetBehind(container, now.behind).IgnoreError();
}

}  // namespace ctr
