#include "agent/control/class_meter.h"

#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "agent/config/memory_size.h"

namespace ctr {
namespace {

constexpr Duration kLookInterval = std::chrono::seconds(10);
constexpr Duration kTellInterval = std::chrono::minutes(1);
// A look at an instance takes some 60 us: others on the loop have their turn in between.
constexpr int kLooksPerTurn = 16;

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

awaitable<void> ClassMeter::Run() {
  MonoTime told = clock_.Now();
  for (;;) {
    co_await Look();
    const MonoTime now = clock_.Now();
    if (now - told >= kTellInterval) Tell(now - std::exchange(told, now));
    co_await clock_.SleepUntil(now + kLookInterval);
  }
}

ClassMeter::Use ClassMeter::Of(const std::string& class_name) const {
  auto found = uses_.find(class_name);
  return found == uses_.end() ? Use() : found->second;
}

awaitable<void> ClassMeter::Look() {
  std::vector<std::shared_ptr<Instance>> live;
  for (const auto& [name, instance] : instances_) {
    if (instance->container()) live.push_back(instance);
  }
  std::map<std::string, Use> uses;
  std::map<std::string, Seen> all_seen;
  int turn = 0;
  for (const auto& [name, class_state] : classes_) uses[name].cpu_time = Of(name).cpu_time;
  for (const std::shared_ptr<Instance>& instance : live) {
    if (++turn % kLooksPerTurn == 0) co_await clock_.SleepUntil(clock_.Now());
    if (!instance->container()) continue;
    const std::string& container = instance->container()->id;
    StatusOr<ResourceUsage> usage = runtime_.Usage(container);
    auto use = uses.find(instance->name().class_name);
    if (!usage.ok() || use == uses.end()) continue;
    auto before = seen_.find(container);
    Seen& seen = all_seen[container];
    if (before != seen_.end()) {
      seen = before->second;
    } else if (!looked_) {
      // What it did before this agent began is not ours to tell.
      seen = {usage->cpu_time, usage->oom_kills, usage->refused_processes, {}};
    }
    LookAtLimits(*instance, *instance->class_state()->config, *usage, seen);
    use->second.cpu_time += usage->cpu_time - seen.cpu_time;
    use->second.memory_bytes += usage->memory_bytes;
    ++use->second.instances;
    seen.cpu_time = usage->cpu_time;
  }
  looked_ = true;
  uses_ = std::move(uses);
  seen_ = std::move(all_seen);
}

void ClassMeter::LookAtLimits(const Instance& instance, const ClassConfig& config,
                              const ResourceUsage& usage, Seen& seen) {
  const MonoTime now = clock_.Now();
  if (seen.told && now - *seen.told < kTellInterval) return;
  const int64_t kills = usage.oom_kills - seen.oom_kills;
  const int64_t refused = usage.refused_processes - seen.refused_processes;
  std::vector<std::string> told;
  if (refused > 0) {
    told.push_back(absl::StrCat("it wanted more processes than resources.pids (",
                                config.resources.pids, ") ", refused, " times"));
  }
  if (kills > 0) {
    told.push_back(
        absl::StrCat("the kernel killed ", kills, " of its processes for want of memory",
                     config.resources.memory_bytes
                         ? absl::StrCat(" (resources.memory ",
                                        FormatMemorySize(*config.resources.memory_bytes), ")")
                         : " on the host"));
  }
  if (told.empty()) return;
  seen.told = now;
  seen.oom_kills = usage.oom_kills;
  seen.refused_processes = usage.refused_processes;
  events_.Record({.type = event::kLimited,
                  .instance = instance.name(),
                  .generation = instance.observed().generation,
                  .message = absl::StrJoin(told, "; ")});
}

void ClassMeter::Tell(Duration since) {
  std::erase_if(told_, [this](const auto& told) { return !classes_.contains(told.first); });
  for (const auto& [name, state] : classes_) TellOf(name, state->traffic->Read(), since);
}

void ClassMeter::TellOf(const std::string& class_name, const Traffic::Sums& sums, Duration since) {
  const Use use = Of(class_name);
  const Told now = {
      .requests = std::accumulate(sums.answers.begin(), sums.answers.end(), uint64_t{0}),
      .seconds = sums.took.sum_seconds,
      .cpu_time = use.cpu_time};
  const Told before = std::exchange(told_[class_name], now);
  if (now.requests <= before.requests) return;
  const uint64_t count = now.requests - before.requests;
  const auto each = [&](double all) { return all / static_cast<double>(count); };
  const double memory =
      use.instances > 0 ? static_cast<double>(use.memory_bytes) / use.instances : 0;
  // The CLI reads this again (cli/trace).
  events_.Record({.type = event::kTraffic,
                  .instance = {class_name, ""},
                  .message = absl::StrFormat(
                      "%d requests in %.1f s: %.4f s and %.4f CPU s each; %.1f MiB an instance",
                      count, Seconds(since), each(now.seconds - before.seconds),
                      each(Seconds(now.cpu_time - before.cpu_time)), memory / (1 << 20))});
}

}  // namespace ctr
