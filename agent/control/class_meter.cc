#include "agent/control/class_meter.h"

#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

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
  std::map<std::string, Duration> cpu_times;
  int turn = 0;
  for (const auto& [name, class_state] : classes_) uses[name].cpu_time = Of(name).cpu_time;
  for (const std::shared_ptr<Instance>& instance : live) {
    if (++turn % kLooksPerTurn == 0) co_await clock_.SleepUntil(clock_.Now());
    if (!instance->container()) continue;
    const std::string& container = instance->container()->id;
    StatusOr<ResourceUsage> usage = runtime_.Usage(container);
    auto use = uses.find(instance->name().class_name);
    if (!usage.ok() || use == uses.end()) continue;
    auto before = cpu_times_.find(container);
    // What it used before this agent began is not ours to tell.
    const Duration base = before != cpu_times_.end() ? before->second
                          : looked_                  ? Duration(0)
                                                     : usage->cpu_time;
    use->second.cpu_time += usage->cpu_time - base;
    use->second.memory_bytes += usage->memory_bytes;
    ++use->second.instances;
    cpu_times[container] = usage->cpu_time;
  }
  looked_ = true;
  uses_ = std::move(uses);
  cpu_times_ = std::move(cpu_times);
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
