#include "agent/policy/simulate.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <random>

#include "agent/policy/rounding.h"
#include "agent/policy/simulated_instance.h"

namespace ctr::policy {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kLeastService = 1e-6;          // seconds
constexpr double kMostRequests = 1e8;           // what is done within minutes
constexpr double kMostAtOnce = 1e5;             // a second
constexpr double kLongestTrace = 31.0 * 86400;  // seconds
constexpr int64_t kMostSteps = 100'000;
constexpr int64_t kMostUnderWay = 1'000'000;  // requests in instances and waiting
constexpr int64_t kPiece = 20'000;            // requests and seconds, of a hundred requests each
constexpr size_t kCpuWindow = 15;             // seconds that a CPU sample is averaged over

Duration ToDuration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

MonoTime ToTime(double seconds) { return MonoTime(ToDuration(seconds)); }

double ToSeconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

double EndOf(std::span<const TraceRow> trace) {
  const size_t count = trace.size();
  return trace.back().at + (count > 1 ? trace.back().at - trace[count - 2].at : 1);
}

// Nearest rank.
double Quantile(std::vector<double>& values, double part) {
  const auto rank = static_cast<size_t>(std::ceil(part * static_cast<double>(values.size())));
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

// Counts by size, a percent wide each.
class Histogram {
 public:
  void Add(double value) {
    const auto bucket = static_cast<size_t>(std::log(std::max(value, kLeast) / kLeast) / kWidth);
    if (bucket >= counts_.size()) counts_.resize(bucket + 1);
    ++counts_[bucket];
    ++total_;
  }

  double Quantile(double part) const {
    int64_t rank = static_cast<int64_t>(std::ceil(part * static_cast<double>(total_)));
    for (size_t bucket = 0; bucket < counts_.size(); ++bucket) {
      rank -= counts_[bucket];
      if (rank <= 0) return kLeast * std::exp((static_cast<double>(bucket) + 0.5) * kWidth);
    }
    return 0;
  }

 private:
  static constexpr double kLeast = 1e-6;
  static constexpr double kWidth = 0.01;  // of the logarithm
  std::vector<int64_t> counts_;
  int64_t total_ = 0;
};

}  // namespace

class Simulation::Fleet {
 public:
  Fleet(std::span<const TraceRow> trace, const SimulationConfig& config)
      : trace_(trace),
        config_(config),
        seconds_(static_cast<int64_t>(std::ceil(EndOf(trace) - kEpsilon))),
        random_(config.seed) {
    result_.step_seconds = std::max<int64_t>(1, (seconds_ + kMostSteps - 1) / kMostSteps);
    for (int i = 0; i < config.instances; ++i) {
      Start(i, 0, 0);
      instances_.at(i).phase = Phase::kHealthy;
    }
    scaler_.emplace(config.autoscale, View(), ToTime(0));
  }

  bool GoOn() {
    for (int64_t done = 0; second_ < seconds_ && done < kPiece;) {
      const int64_t arrivals = RunSecond(second_++);
      if (const int64_t under_way = result_.totals.requests - result_.totals.completed;
          under_way > kMostUnderWay) {
        result_ = {};
        result_.error = "in second " + std::to_string(second_) + " of the trace " +
                        std::to_string(under_way) +
                        " requests are under way or wait: they need more instances (max, "
                        "max_instances, what the host can hold) or take less time";
        return false;
      }
      done += 100 + arrivals;
    }
    return second_ < seconds_;
  }

  SimulationResult TakeResult() {
    if (!result_.error.empty()) return std::move(result_);
    for (const auto& [index, instance] : instances_) {
      result_.totals.instance_seconds += now_ - instance.started_at;
    }
    result_.totals.latency_p50 = latencies_.Quantile(0.50);
    result_.totals.latency_p99 = latencies_.Quantile(0.99);
    return std::move(result_);
  }

 private:
  using Phase = ScaledInstance::Phase;

  // Of the rows that hold within that second, each for its part of it and of the requests.
  TraceRow AverageOf(int64_t second) {
    const auto begin = static_cast<double>(second);
    const double end = begin + 1;
    while (row_ + 1 < trace_.size() && trace_[row_ + 1].at <= begin + kEpsilon) ++row_;
    TraceRow average;
    for (size_t i = row_; i < trace_.size() && trace_[i].at < end - kEpsilon; ++i) {
      const double until = i + 1 < trace_.size() ? std::min(trace_[i + 1].at, end) : end;
      const double came = trace_[i].arrivals * (until - std::max(trace_[i].at, begin));
      average.arrivals += came;
      average.service += trace_[i].service * came;
      average.cpu += trace_[i].cpu * came;
      average.memory = trace_[i].memory;
    }
    if (average.arrivals > 0) {
      average.service /= average.arrivals;
      average.cpu /= average.arrivals;
    }
    return average;
  }

  // The moments of a second's requests; fractions of them are carried on.
  std::vector<double> Arrivals(int64_t second, double rate) {
    owed_ += rate;
    std::vector<double> times(static_cast<size_t>(owed_ + kEpsilon));
    owed_ = std::max(0.0, owed_ - static_cast<double>(times.size()));
    for (double& time : times) {
      time = static_cast<double>(second) + static_cast<double>(random_() >> 11) * 0x1.0p-53;
    }
    std::sort(times.begin(), times.end());
    return times;
  }

  // Returns how many came.
  int64_t RunSecond(int64_t second) {
    const TraceRow row = AverageOf(second);
    memory_ = row.memory;
    if (second % result_.step_seconds == 0) {
      step_ = {};
      step_.second = second;
      ended_.clear();
    }
    queue_area_ = 0;
    burst_ = 0;
    // What uses more CPU than it takes time would need threads of its own: it takes longer.
    const double service = std::max({row.service, row.cpu, kLeastService});
    const std::vector<double> arrivals = Arrivals(second, row.arrivals);
    for (const double time : arrivals) {
      RunUntil(time);
      ++step_.arrivals;
      Arrive({time, service, row.cpu / service});
    }
    RunUntil(static_cast<double>(second + 1));
    const auto came = static_cast<int>(arrivals.size());
    result_.totals.ideal_instance_seconds += Ideal(came, service, row.cpu);
    EndSecond(came);
    if (second_ == seconds_ || (second + 1) % result_.step_seconds == 0) EndStep();
    return came;
  }

  // Ends of requests and starts of instances, up to that time.
  void RunUntil(double time) {
    for (;;) {
      double next = kNever;
      SimulatedInstance* which = nullptr;
      for (auto& [index, instance] : instances_) {
        const double at = instance.phase == Phase::kStarting ? instance.healthy_at
                                                             : instance.NextEnd(config_.cpu_limit);
        if (at < next) {
          next = at;
          which = &instance;
        }
      }
      if (!which || next > time) break;
      PassTo(std::max(next, now_));
      if (which->phase == Phase::kStarting) {
        MakeHealthy();
      } else {
        End(*which);
      }
    }
    PassTo(time);
  }

  void PassTo(double time) {
    queue_area_ += (time - now_) * static_cast<double>(queue_.size());
    now_ = time;
  }

  // All whose time has come at once, so that the first does not take the whole queue.
  void MakeHealthy() {
    for (auto& [index, instance] : instances_) {
      if (instance.phase != Phase::kStarting || instance.healthy_at > now_) continue;
      instance.phase = Phase::kHealthy;
      instance.last_activity = now_;
      instance.AdvanceTo(now_, config_.cpu_limit);
    }
    ServeQueue();
  }

  void End(SimulatedInstance& instance) {
    const SimulatedRequest request = instance.Finish(now_, config_.cpu_limit);
    last_activity_ = now_;
    ended_.push_back(now_ - request.came);
    latencies_.Add(now_ - request.came);
    ++step_.completed;
    ++result_.totals.completed;
    if (instance.phase == Phase::kDraining && instance.in_flight() == 0) Remove(instance.index);
    ServeQueue();
  }

  SimulatedInstance* Place() {
    SimulatedInstance* best = nullptr;
    for (auto& [index, instance] : instances_) {
      if (instance.phase != Phase::kHealthy) continue;
      if (config_.autoscale.max_concurrency &&
          instance.in_flight() >= *config_.autoscale.max_concurrency) {
        continue;
      }
      if (!best || instance.in_flight() < best->in_flight()) best = &instance;
    }
    return best;
  }

  void ServeQueue() {
    while (!queue_.empty()) {
      SimulatedInstance* place = Place();
      if (!place) return;
      const double waited = now_ - queue_.front().came;
      result_.totals.worst_wait = std::max(result_.totals.worst_wait, waited);
      place->Take(queue_.front(), now_, config_.cpu_limit);
      queue_.pop_front();
    }
  }

  void Arrive(const SimulatedRequest& request) {
    ++result_.totals.requests;
    last_activity_ = now_;
    if (SimulatedInstance* place = queue_.empty() ? Place() : nullptr) {
      place->Take(request, now_, config_.cpu_limit);
      return;
    }
    queue_.push_back(request);
    ++step_.waited;
    ++result_.totals.waited;
    int healthy = 0, live = 0;
    for (const auto& [index, instance] : instances_) {
      healthy += instance.phase == Phase::kHealthy;
      live += instance.phase != Phase::kDraining;
    }
    const int wish = BurstWish(config_.autoscale, static_cast<int>(queue_.size()), healthy);
    if (wish <= live || wish <= burst_) return;
    burst_ = wish;
    Decide();
  }

  AutoscaleView View() {
    list_.clear();
    for (const auto& [index, instance] : instances_) {
      ScaledInstance scaled;
      scaled.index = index;
      scaled.generation = instance.generation;
      scaled.phase = instance.phase;
      scaled.in_flight = instance.in_flight();
      scaled.last_activity = ToTime(instance.last_activity);
      scaled.cpu_limit = config_.cpu_limit;
      scaled.started_at = ToTime(instance.started_at);
      scaled.ready_changed_at = ToTime(instance.healthy_at);
      if (!instance.cpu_seconds.empty()) {
        double sum = 0;
        for (const double used : instance.cpu_seconds) sum += used;
        const auto window = static_cast<double>(instance.cpu_seconds.size());
        // Of the time before it was healthy there are no seconds: the sample is all its own.
        scaled.cpu = CpuSample{sum / window, ToTime(now_), Duration::zero()};
      }
      scaled.memory_limit = config_.memory_limit;
      if (memory_ > 0) scaled.memory_used = memory_;
      list_.push_back(scaled);
    }
    AutoscaleView view;
    view.instances = list_;
    view.queued = static_cast<int>(queue_.size());
    view.last_activity = ToTime(last_activity_);
    view.max_instances = config_.max_instances;
    view.host_capacity = config_.host_capacity;
    return view;
  }

  AutoscaleDecision Decide() {
    AutoscaleDecision decision = scaler_->Decide(View(), ToTime(now_));
    for (const int index : decision.start) {
      Start(index, now_, now_ + ToSeconds(config_.start_time));
    }
    for (const int index : decision.drain) {
      instances_.at(index).phase = Phase::kDraining;
      if (instances_.at(index).in_flight() == 0) Remove(index);
    }
    result_.totals.most = std::max(result_.totals.most, static_cast<int>(instances_.size()));
    return decision;
  }

  void Start(int index, double start, double healthy_at) {
    instances_.try_emplace(index, index, ++generation_, start, healthy_at);
    ++result_.totals.starts;
    result_.totals.most = std::max(result_.totals.most, static_cast<int>(instances_.size()));
  }

  void Remove(int index) {
    result_.totals.instance_seconds += now_ - instances_.at(index).started_at;
    instances_.erase(index);
  }

  void EndSecond(int came) {
    double area = 0;
    for (auto& [index, instance] : instances_) {
      instance.AdvanceTo(now_, config_.cpu_limit);
      area += instance.busy_area;
      if (instance.phase == Phase::kHealthy) instance.cpu_seconds.push_back(instance.cpu_used);
      if (instance.cpu_seconds.size() > kCpuWindow) instance.cpu_seconds.pop_front();
      if (instance.in_flight() > 0) last_activity_ = instance.last_activity = now_;
      instance.busy_area = instance.cpu_used = 0;
    }
    scaler_->Record(
        {.at = ToTime(now_), .concurrency = area + queue_area_, .rps = static_cast<double>(came)});
    const AutoscaleDecision decision = Decide();
    step_.desired = decision.desired;
    step_.panic |= decision.panicking.has_value();
    step_.reason = decision.reason;
    step_.in_flight += area;
  }

  void EndStep() {
    step_.in_flight /= static_cast<double>(second_ - step_.second);
    step_.queued = static_cast<int>(queue_.size());
    for (const auto& [index, instance] : instances_) {
      step_.ready += instance.phase == Phase::kHealthy;
      step_.starting += instance.phase == Phase::kStarting;
      step_.draining += instance.phase == Phase::kDraining;
    }
    if (!ended_.empty()) {
      step_.latency_p50 = Quantile(ended_, 0.50);
      step_.latency_p99 = Quantile(ended_, 0.99);
    }
    result_.steps.push_back(step_);
  }

  // Little's law: what comes in a second and stays for the service time is in flight.
  double Ideal(int arrivals, double service, double cpu) const {
    const TrafficConfig traffic = TrafficOf(config_.autoscale);
    const bool rps = traffic.metric == TrafficConfig::Metric::kRps;
    const double load = rps ? arrivals : arrivals * service;
    double ideal = std::ceil(load / SteeredTarget(traffic) - kEpsilon);
    if (config_.autoscale.target_cpu && config_.cpu_limit > 0) {
      const double each = config_.cpu_limit * *config_.autoscale.target_cpu;
      ideal = std::max(ideal, std::ceil(arrivals * cpu / each - kEpsilon));
    }
    return std::clamp<double>(ideal, config_.autoscale.min, config_.autoscale.max);
  }

  const std::span<const TraceRow> trace_;
  const SimulationConfig config_;
  const int64_t seconds_;
  int64_t second_ = 0;  // the next
  std::mt19937_64 random_;
  std::optional<Autoscaler> scaler_;
  std::map<int, SimulatedInstance> instances_;  // by index
  std::deque<SimulatedRequest> queue_;
  std::vector<ScaledInstance> list_;
  size_t row_ = 0;
  double now_ = 0;  // seconds
  double owed_ = 0;
  double memory_ = 0;
  double last_activity_ = 0;
  uint64_t generation_ = 0;
  Histogram latencies_;
  SimulationResult result_;
  // Of this step.
  SimulationStep step_;
  std::vector<double> ended_;  // latencies
  // Of this second.
  double queue_area_ = 0;  // requests * seconds
  int burst_ = 0;          // what was decided for
};

std::string CheckTrace(std::span<const TraceRow> trace) {
  if (trace.empty()) return "the trace is empty";
  double requests = 0;
  for (size_t i = 0; i < trace.size(); ++i) {
    const TraceRow& row = trace[i];
    const auto complain = [&](const std::string& what) {
      return "row " + std::to_string(i + 1) + ": " + what;
    };
    for (const double value : {row.at, row.arrivals, row.service, row.cpu, row.memory}) {
      if (!std::isfinite(value) || value < 0) return complain("a number is negative or not finite");
    }
    if (i > 0 && row.at <= trace[i - 1].at) return complain("its time is not after the one before");
    if (row.at > kLongestTrace) return complain("its time is more than 31 days: cut the trace");
    if (row.arrivals > kMostAtOnce) return complain("more than 100,000 requests a second");
    const double end = i + 1 < trace.size() ? trace[i + 1].at : EndOf(trace);
    requests += row.arrivals * (end - row.at);
    if (requests > kMostRequests) return complain("more than 100 million requests up to here");
  }
  return "";
}

Simulation::Simulation(std::span<const TraceRow> trace, const SimulationConfig& config) {
  std::string& error = result_.error = CheckTrace(trace);
  if (error.empty()) error = CheckAutoscale(config.autoscale);
  if (error.empty() && config.start_time < Duration::zero()) {
    error = "the start time must not be negative";
  }
  if (error.empty() && (config.instances < 0 || config.instances > config.autoscale.max)) {
    error = "instances must be 0 to max";
  }
  if (error.empty()) fleet_ = std::make_unique<Fleet>(trace, config);
}

Simulation::~Simulation() = default;

bool Simulation::GoOn() { return fleet_ && fleet_->GoOn(); }

SimulationResult Simulation::TakeResult() {
  return fleet_ ? fleet_->TakeResult() : std::move(result_);
}

SimulationResult Simulate(std::span<const TraceRow> trace, const SimulationConfig& config) {
  Simulation simulation(trace, config);
  while (simulation.GoOn()) {
  }
  return simulation.TakeResult();
}

}  // namespace ctr::policy
