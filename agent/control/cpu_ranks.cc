#include "agent/control/cpu_ranks.h"

#include <algorithm>
#include <set>
#include <utility>

#include "agent/policy/cpu_rank.h"

namespace ctr {
namespace {

constexpr Duration kRankInterval = std::chrono::milliseconds(500);
// Each takes some 10 us: others on the loop have their turn in between.
constexpr int kRanksPerTurn = 64;

}  // namespace

awaitable<void> CpuRanks::Run() {
  // The agent before this one may have left some behind.
  int turn = 0;
  for (const std::shared_ptr<Instance>& instance : Live()) {
    if (++turn % kRanksPerTurn == 0) co_await clock_.SleepUntil(clock_.Now());
    if (instance->container()) {
      runtime_.SetBehind(instance->container()->id, false).IgnoreError();
    }
  }
  for (;;) {
    if (!held_) co_await Look();
    co_await clock_.SleepUntil(clock_.Now() + kRankInterval);
  }
}

void CpuRanks::LetGo() {
  for (const auto& [container, seen] : seen_) {
    if (seen.behind) runtime_.SetBehind(container, false).IgnoreError();
  }
  seen_.clear();
  together_.reset();
}

bool CpuRanks::IsBehind(const std::string& container) const {
  auto found = seen_.find(container);
  return found != seen_.end() && found->second.behind;
}

std::vector<std::shared_ptr<Instance>> CpuRanks::Live() const {
  std::vector<std::shared_ptr<Instance>> live;
  for (const auto& [name, instance] : instances_) {
    if (instance->container()) live.push_back(instance);
  }
  return live;
}

awaitable<void> CpuRanks::Look() {
  if (IsCalm()) {
    seen_.clear();
    co_return;
  }
  std::set<std::string> live;
  int turn = 0;
  for (const std::shared_ptr<Instance>& instance : Live()) {
    if (++turn % kRanksPerTurn == 0) {
      co_await clock_.SleepUntil(clock_.Now());
      if (held_) co_return;
    }
    if (!instance->container()) continue;
    LookAt(instance->container()->id);
    live.insert(instance->container()->id);
  }
  std::erase_if(seen_, [&](const auto& seen) { return !live.contains(seen.first); });
}

bool CpuRanks::IsCalm() {
  const StatusOr<Duration> cpu_time = runtime_.CpuTime("");
  const Seen now = {.at = clock_.Now(), .cpu_time = cpu_time.value_or(Duration::zero())};
  const Seen before = std::exchange(together_, now).value_or(now);
  if (std::any_of(seen_.begin(), seen_.end(), [](const auto& seen) { return seen.second.behind; }))
    return false;
  return !policy::GoesBehind(false, now.cpu_time - before.cpu_time, now.at - before.at);
}

void CpuRanks::LookAt(const std::string& container) {
  const StatusOr<Duration> cpu_time = runtime_.CpuTime(container);
  if (!cpu_time.ok()) return;
  const MonoTime now = clock_.Now();
  auto [at, is_first] = seen_.try_emplace(container, Seen{.at = now, .cpu_time = *cpu_time});
  if (is_first) return;
  Seen& seen = at->second;
  const bool behind = policy::GoesBehind(seen.behind, *cpu_time - seen.cpu_time, now - seen.at);
  seen.at = now;
  seen.cpu_time = *cpu_time;
  // What fails is tried again at the next look; where the kernel has no such ranks all stay equals.
  if (behind != seen.behind && runtime_.SetBehind(container, behind).ok()) seen.behind = behind;
}

}  // namespace ctr
