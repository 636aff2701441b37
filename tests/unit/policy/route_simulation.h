#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <random>
#include <span>
#include <vector>

#include "agent/policy/in_flight_watch.h"
#include "agent/policy/nearest.h"
#include "agent/policy/outlier.h"
#include "agent/policy/routing.h"

namespace ctr::policy {

// A queueing model of instances behind a routing policy, in virtual time: open-loop Poisson
// arrivals, and in each instance a queue before `workers` servers. The same seed gives the same
// run. Tests and benches only.
struct SimInstance {
  double service_s = 0.02;  // mean
  int workers = 1;
  bool broken = false;            // answers 503 at once
  double stalls_at_s = INFINITY;  // SIGSTOP: from then on it answers nothing
};

struct SimConfig {
  enum class Service { kExponential, kNarrow } service = Service::kExponential;  // kNarrow: +-20 %
  std::vector<SimInstance> instances = {};
  double arrivals_per_s = 0;
  double seconds = 120;  // of arrivals
  double measured_from_s = 20;
  double timeout_s = 30;    // of the upstream
  int decided_at_once = 1;  // that many arrivals see the same state: data loops that race
  bool ejection = false;
  uint64_t seed = 1;
};

using SimPolicy = std::function<size_t(std::span<const Candidate> candidates, MonoTime now,
                                       uint64_t random_bits)>;

struct SimResult {
  std::vector<double> latencies_s;  // sorted, of what was answered well and arrived while measured
  std::vector<uint64_t> sent;       // to each instance, while measured
  std::vector<uint64_t> sent_after_stall;
  uint64_t failed = 0;  // answered 503 or timed out, while measured

  double Quantile(double q) const {
    if (latencies_s.empty()) return 0;
    const auto rank = static_cast<size_t>(q * static_cast<double>(latencies_s.size()));
    return latencies_s[std::min(rank, latencies_s.size() - 1)];
  }
  double Share(size_t instance) const {
    double all = 0;
    for (uint64_t count : sent) all += static_cast<double>(count);
    return static_cast<double>(sent[instance]) / all;
  }
};

inline size_t NearestPolicy(std::span<const Candidate> candidates, MonoTime now,
                            uint64_t random_bits) {
  return Choose(candidates, now, random_bits).index;
}

// The lower cost of two at random.
inline size_t TwoChoicesPolicy(std::span<const Candidate> candidates, MonoTime now,
                               uint64_t random_bits) {
  const int n = static_cast<int>(candidates.size());
  const int first = PickUniform(random_bits, n);
  const int offset = 1 + static_cast<int>(random_bits % static_cast<uint64_t>(n - 1));
  const int second = (first + offset) % n;
  const Candidate two[] = {candidates[static_cast<size_t>(first)],
                           candidates[static_cast<size_t>(second)]};
  return static_cast<size_t>(Choose(two, now, random_bits).index == 0 ? first : second);
}

// HAProxy's: the fewest in flight, in turns among equals.
inline SimPolicy LeastConnPolicy() {
  return [last = size_t{0}](std::span<const Candidate> candidates, MonoTime, uint64_t) mutable {
    size_t best = candidates.size();
    for (size_t k = 1; k <= candidates.size(); ++k) {
      const size_t i = (last + k) % candidates.size();
      if (best == candidates.size() || candidates[i].in_flight < candidates[best].in_flight) {
        best = i;
      }
    }
    return last = best;
  };
}

class RouteSimulation {
 public:
  RouteSimulation(SimConfig config, SimPolicy policy)
      : config_(std::move(config)),
        policy_(std::move(policy)),
        random_(config_.seed),
        states_(config_.instances.size()) {
    result_.sent.resize(states_.size());
    result_.sent_after_stall.resize(states_.size());
  }

  SimResult Run() {
    double next_arrival = 0;
    const double batches_per_s = config_.arrivals_per_s / config_.decided_at_once;
    while (next_arrival < config_.seconds) {
      while (!events_.empty() && events_.top().at_s <= next_arrival) Handle();
      now_s_ = next_arrival;
      Arrive();
      next_arrival += std::exponential_distribution<>(batches_per_s)(random_);
    }
    while (!events_.empty()) Handle();
    std::sort(result_.latencies_s.begin(), result_.latencies_s.end());
    return std::move(result_);
  }

 private:
  struct Request {
    double arrived_s = 0;
    size_t instance = 0;
    bool watched = false;
    bool ended = false;
  };
  struct State {
    uint64_t in_flight = 0;
    int busy = 0;
    std::deque<size_t> queue;
    SharedPeakEwma latency;
    InFlightWatch watch;
    FailureStreak streak;
    Ejection ejection;
  };
  struct Event {
    double at_s = 0;
    enum Kind { kServed, kTimedOut } kind = kServed;
    size_t request = 0;
    bool operator>(const Event& other) const { return at_s > other.at_s; }
  };

  MonoTime Now() const {
    return MonoTime(std::chrono::hours(1)) + Duration(static_cast<int64_t>(now_s_ * 1e9));
  }
  bool Measured(double arrived_s) const { return arrived_s >= config_.measured_from_s; }

  void Arrive() {
    std::vector<Candidate> candidates(states_.size());
    for (size_t i = 0; i < states_.size(); ++i) {
      candidates[i] = {.in_flight = states_[i].in_flight,
                       .latency = states_[i].latency.Load(Now()),
                       .oldest_in_flight = states_[i].watch.Age(Now()),
                       .healthy = true,
                       .ejected = IsEjected(states_[i].ejection, Now())};
    }
    for (int k = 0; k < config_.decided_at_once; ++k) {
      Send(policy_(candidates, Now(), random_()));
    }
  }

  void Send(size_t instance) {
    State& state = states_[instance];
    const SimInstance& model = config_.instances[instance];
    const size_t id = requests_.size();
    requests_.push_back({now_s_, instance, state.watch.Begin(Now()), false});
    ++state.in_flight;
    if (Measured(now_s_)) ++result_.sent[instance];
    if (now_s_ >= model.stalls_at_s) ++result_.sent_after_stall[instance];
    events_.push({now_s_ + config_.timeout_s, Event::kTimedOut, id});
    if (model.broken) {
      events_.push({now_s_ + 0.0002, Event::kServed, id});
    } else {
      state.queue.push_back(id);
      Serve(instance);
    }
  }

  void Serve(size_t instance) {
    State& state = states_[instance];
    const SimInstance& model = config_.instances[instance];
    while (state.busy < model.workers && !state.queue.empty()) {
      const size_t id = state.queue.front();
      state.queue.pop_front();
      if (requests_[id].ended) continue;
      ++state.busy;
      const double factor = config_.service == SimConfig::Service::kExponential
                                ? std::exponential_distribution<>(1)(random_)
                                : std::uniform_real_distribution<>(0.8, 1.2)(random_);
      const double done_s = now_s_ + model.service_s * factor;
      if (done_s < model.stalls_at_s) events_.push({done_s, Event::kServed, id});
    }
  }

  void Handle() {
    const Event event = events_.top();
    events_.pop();
    now_s_ = event.at_s;
    Request& request = requests_[event.request];
    const size_t instance = request.instance;
    const bool broken = config_.instances[instance].broken;
    if (event.kind == Event::kServed && !broken) --states_[instance].busy;
    if (!request.ended) End(request, event.kind == Event::kTimedOut || broken);
    if (event.kind == Event::kServed && !broken) Serve(instance);
  }

  void End(Request& request, bool failed) {
    State& state = states_[request.instance];
    request.ended = true;
    --state.in_flight;
    if (request.watched) state.watch.End();
    const auto latency = Duration(static_cast<int64_t>((now_s_ - request.arrived_s) * 1e9));
    failed ? state.latency.SampleFailure(latency, Now()) : state.latency.Sample(latency, Now());
    if (state.streak.Note(failed) && config_.ejection) Eject(request.instance);
    if (!Measured(request.arrived_s)) return;
    failed ? void(++result_.failed) : result_.latencies_s.push_back(now_s_ - request.arrived_s);
  }

  void Eject(size_t instance) {
    size_t ejected = 0;
    for (const State& state : states_) ejected += IsEjected(state.ejection, Now());
    const auto next = DecideEjection(states_[instance].ejection, {states_.size(), ejected}, Now());
    if (!next) return;
    states_[instance].ejection = *next;
    states_[instance].streak.BeginTrial();
  }

  const SimConfig config_;
  SimPolicy policy_;
  std::mt19937_64 random_;
  std::vector<State> states_;
  std::vector<Request> requests_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  double now_s_ = 0;
  SimResult result_;
};

}  // namespace ctr::policy
