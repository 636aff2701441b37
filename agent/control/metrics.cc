#include "agent/control/metrics.h"

#include <array>
#include <limits>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include <prometheus/text_serializer.h>

#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// The families of metrics, in the order in which they were first named.
class Families {
 public:
  void Count(const char* name, const char* help, Labels labels, double value) {
    Add(name, help, MetricType::Counter, std::move(labels)).counter.value = value;
  }
  void Gauge(const char* name, const char* help, Labels labels, double value) {
    Add(name, help, MetricType::Gauge, std::move(labels)).gauge.value = value;
  }
  void Durations(const char* name, const char* help, Labels labels,
                 const DurationHistogram& durations) {
    ClientMetric::Histogram& histogram =
        Add(name, help, MetricType::Histogram, std::move(labels)).histogram;
    for (size_t i = 0; i < durations.buckets.size(); ++i) {
      histogram.sample_count += durations.buckets[i];
      const double bound =
          i < kDurationBounds.size() ? kDurationBounds[i] : std::numeric_limits<double>::infinity();
      histogram.bucket.push_back({histogram.sample_count, bound});
    }
    histogram.sample_sum = durations.sum_seconds;
  }
  std::string Text() const {
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, families_);
    return std::move(out).str();
  }

 private:
  ClientMetric& Add(const char* name, const char* help, MetricType type, Labels labels) {
    auto [index, is_new] = index_.emplace(name, families_.size());
    if (is_new) families_.push_back({name, help, type, {}});
    std::vector<ClientMetric>& metrics = families_[index->second].metric;
    metrics.emplace_back().label = std::move(labels);
    return metrics.back();
  }

  std::map<std::string, size_t> index_;
  std::vector<MetricFamily> families_;
};

void AddTraffic(Families& families, const std::string& name, const Traffic::Sums& sums) {
  for (size_t i = 0; i < sums.answers.size(); ++i) {
    families.Count("ctr_requests_total", "Requests that were answered, by the status's class.",
                   {{"class", name}, {"status", absl::StrCat(i + 1, "xx")}},
                   static_cast<double>(sums.answers[i]));
  }
  families.Durations("ctr_request_duration_seconds",
                     "From a request's head read to its answer's end.", {{"class", name}},
                     sums.took);
  families.Count("ctr_connections_total",
                 "Connections to TCP ports, WebSockets and the like, ended.", {{"class", name}},
                 static_cast<double>(sums.connections));
  families.Count("ctr_bytes_total", "Bytes from clients (in) and to them (out).",
                 {{"class", name}, {"direction", "in"}}, static_cast<double>(sums.bytes_in));
  families.Count("ctr_bytes_total", "", {{"class", name}, {"direction", "out"}},
                 static_cast<double>(sums.bytes_out));
}

void AddWakes(Families& families, const std::string& name, const WakeTimes& times) {
  const char* const kHelp = "Starts that became healthy, by phase.";
  const std::array<std::pair<const char*, const DurationHistogram*>, 5> phases = {{
      {"queue", &times.queue},
      {"create", &times.create},
      {"start", &times.start},
      {"ready", &times.ready},
      {"total", &times.total},
  }};
  for (const auto& [phase, durations] : phases) {
    families.Durations("ctr_wake_duration_seconds", kHelp, {{"class", name}, {"phase", phase}},
                       *durations);
  }
  families.Count("ctr_wakes_failed_total", "Starts that failed.", {{"class", name}},
                 static_cast<double>(times.failed));
}

struct Now {
  uint64_t in_flight = 0;
  uint64_t tunnels = 0;
  uint64_t held = 0;
  uint64_t overloaded = 0;
  std::map<State, uint64_t> states;
};

void AddNow(Families& families, const std::string& name, const Now& now) {
  families.Gauge("ctr_in_flight", "Requests and connections in instances.", {{"class", name}},
                 static_cast<double>(now.in_flight));
  families.Gauge("ctr_connections", "Those of them that are connections.", {{"class", name}},
                 static_cast<double>(now.tunnels));
  families.Gauge("ctr_held", "Requests and connections that wait for an instance.",
                 {{"class", name}}, static_cast<double>(now.held));
  for (State each : {State::kStopped, State::kStarting, State::kRunning, State::kHealthy,
                     State::kFrozen, State::kStopping}) {
    auto found = now.states.find(each);
    families.Gauge("ctr_instances", "Instances, by state.",
                   {{"class", name}, {"state", std::string(ToString(each))}},
                   found == now.states.end() ? 0 : static_cast<double>(found->second));
  }
  families.Gauge("ctr_overloaded", "Healthy instances that routing avoids.", {{"class", name}},
                 static_cast<double>(now.overloaded));
}

void AddScale(Families& families, const std::string& name, const ClassPool& pool) {
  if (!pool.decision()) return;
  families.Gauge("ctr_autoscale_desired", "Instances that there are to be.", {{"class", name}},
                 pool.decision()->desired);
  families.Gauge("ctr_autoscale_panic", "1 while the traffic is in panic mode.", {{"class", name}},
                 pool.decision()->panicking.has_value());
}

void AddUse(Families& families, const std::string& name, const ClassMeter::Use& use) {
  families.Count("ctr_cpu_seconds_total", "CPU time of instances, every ten seconds.",
                 {{"class", name}}, std::chrono::duration<double>(use.cpu_time).count());
  families.Gauge("ctr_memory_bytes",
                 "Memory of instances, every ten seconds, without cache that the kernel can drop.",
                 {{"class", name}}, static_cast<double>(use.memory_bytes));
}

}  // namespace

std::string MetricsText(const Supervisor& supervisor, WallTime now) {
  Families families;
  // First: where several scrapes stand one after the other, it says where one begins.
  families.Gauge("ctr_time_seconds", "Unix time of this text.", {},
                 std::chrono::duration<double>(now.time_since_epoch()).count());
  std::map<std::string, Now> classes;
  for (const auto& [name, instance] : supervisor.instances()) {
    Now& of_class = classes[name.class_name];
    const State state = instance->state();
    of_class.in_flight += instance->slot()->in_flight();
    of_class.tunnels += instance->slot()->tunnels();
    of_class.held += instance->held();
    of_class.overloaded += state == State::kHealthy && instance->slot()->load().overloaded();
    ++of_class.states[state];
  }
  for (const auto& [name, state] : supervisor.classes()) {
    const std::shared_ptr<ClassPool> pool = supervisor.FindPool(name);
    if (pool) classes[name].held += pool->queued();
    AddTraffic(families, name, state->traffic->Read());
    AddWakes(families, name, state->wake_times);
    AddNow(families, name, classes[name]);
    AddUse(families, name, supervisor.meter().Of(name));
    if (pool) AddScale(families, name, *pool);
  }
  return families.Text();
}

}  // namespace ctr
