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
  void Count(const char* name, const char* help, Labels labels, uint64_t value) {
    Add(name, help, MetricType::Counter, std::move(labels)).counter.value =
        static_cast<double>(value);
  }
  void Gauge(const char* name, const char* help, Labels labels, uint64_t value) {
    Add(name, help, MetricType::Gauge, std::move(labels)).gauge.value = static_cast<double>(value);
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
                   {{"class", name}, {"status", absl::StrCat(i + 1, "xx")}}, sums.answers[i]);
  }
  families.Durations("ctr_request_duration_seconds",
                     "From a request's head read to its answer's end.", {{"class", name}},
                     sums.took);
  families.Count("ctr_connections_total",
                 "Connections to TCP ports, WebSockets and the like, ended.", {{"class", name}},
                 sums.connections);
  families.Count("ctr_bytes_total", "Bytes from clients (in) and to them (out).",
                 {{"class", name}, {"direction", "in"}}, sums.bytes_in);
  families.Count("ctr_bytes_total", "", {{"class", name}, {"direction", "out"}}, sums.bytes_out);
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
  families.Count("ctr_wakes_failed_total", "Starts that failed.", {{"class", name}}, times.failed);
}

struct Now {
  uint64_t in_flight = 0;
  uint64_t tunnels = 0;
  uint64_t held = 0;
  std::map<State, uint64_t> states;
};

}  // namespace

std::string MetricsText(const Supervisor& supervisor) {
  Families families;
  std::map<std::string, Now> classes;
  for (const auto& [name, state] : supervisor.classes()) classes[name];
  for (const auto& [name, instance] : supervisor.instances()) {
    Now& now = classes[name.class_name];
    now.in_flight += instance->slot()->in_flight();
    now.tunnels += instance->slot()->tunnels();
    now.held += instance->held();
    ++now.states[instance->state()];
  }
  for (const auto& [name, state] : supervisor.classes()) {
    AddTraffic(families, name, state->traffic->Read());
    AddWakes(families, name, state->wake_times);
    const Now& now = classes[name];
    families.Gauge("ctr_in_flight", "Requests and connections in instances.", {{"class", name}},
                   now.in_flight);
    families.Gauge("ctr_connections", "Those of them that are connections.", {{"class", name}},
                   now.tunnels);
    families.Gauge("ctr_held", "Requests and connections that wait for a wake.", {{"class", name}},
                   now.held);
    for (State each : {State::kStopped, State::kStarting, State::kRunning, State::kHealthy,
                       State::kFrozen, State::kStopping}) {
      auto found = now.states.find(each);
      families.Gauge("ctr_instances", "Instances, by state.",
                     {{"class", name}, {"state", std::string(ToString(each))}},
                     found == now.states.end() ? 0 : found->second);
    }
  }
  return families.Text();
}

}  // namespace ctr
