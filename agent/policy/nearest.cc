#include "agent/policy/nearest.h"

#include <algorithm>
#include <limits>

#include "agent/policy/routing.h"

namespace ctr::policy {
namespace {

// How far a candidate is from what one would want; who can't take the request has none. The lowest
// rank that somebody has is served.
enum class Rank { kReady, kOverloaded, kEjected, kEjectedAndOverloaded };

// A new instance is taken for that much slower than the fastest known until it has answered.
constexpr double kNewcomerFactor = 2;

double Ns(Duration duration) {
  return static_cast<double>(std::max(duration, Duration::zero()).count());
}

Duration FromNs(double ns) {
  // The largest double below 2^63.
  constexpr double kMost = 9223372036854774784.0;
  return Duration(static_cast<int64_t>(std::min(ns, kMost)));
}

bool IsFull(const Candidate& candidate) {
  return candidate.max_concurrency != 0 && candidate.in_flight >= candidate.max_concurrency;
}

bool CanServe(const Candidate& candidate) { return candidate.healthy && !IsFull(candidate); }

Rank RankOf(const Candidate& candidate) {
  if (candidate.ejected) {
    return candidate.overloaded ? Rank::kEjectedAndOverloaded : Rank::kEjected;
  }
  return candidate.overloaded ? Rank::kOverloaded : Rank::kReady;
}

// It has been sent something and never answered: what it costs depends on the others.
bool IsUnproven(const Candidate& candidate) {
  return !candidate.latency.has_sample() && candidate.in_flight > 0;
}

double KnownLatencyNs(const Candidate& candidate, MonoTime now) {
  const double estimate = candidate.latency.has_sample() ? EstimateNs(candidate.latency, now) : 0;
  return std::max(estimate, candidate.in_flight > 0 ? Ns(candidate.oldest_in_flight) : 0);
}

double CostNs(const Candidate& candidate, double latency_ns) {
  return latency_ns * (static_cast<double>(candidate.in_flight) + 1) + Ns(candidate.distance);
}

// Finds the fastest known latency, and from it what unproven ones are taken for.
class Newcomers {
 public:
  void Learn(const Candidate& candidate, double latency_ns) {
    if (candidate.latency.has_sample()) fastest_ns_ = std::min(fastest_ns_, latency_ns);
  }
  double LatencyNs(const Candidate& candidate, MonoTime now) const {
    const bool known = fastest_ns_ < std::numeric_limits<double>::infinity();
    const double assumed = known ? kNewcomerFactor * fastest_ns_ : Ns(kUnknownLatency);
    return std::max(assumed, KnownLatencyNs(candidate, now));
  }

 private:
  double fastest_ns_ = std::numeric_limits<double>::infinity();
};

// The best so far; of equals each is kept with the same probability (reservoir sampling).
class Best {
 public:
  explicit Best(uint64_t random_bits) : random_(random_bits) {}

  void Offer(size_t index, Rank rank, double cost_ns) {
    if (equals_ > 0 && (rank > rank_ || (rank == rank_ && cost_ns > cost_ns_))) return;
    if (equals_ == 0 || rank < rank_ || cost_ns < cost_ns_) equals_ = 0;
    ++equals_;
    if (equals_ > 1 && PickUniform(NextRandom(), equals_) != 0) return;
    index_ = index;
    rank_ = rank;
    cost_ns_ = cost_ns;
  }

  bool found() const { return equals_ > 0; }
  size_t index() const { return index_; }

 private:
  // SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
  uint64_t NextRandom() {
    random_ += 0x9e3779b97f4a7c15;
    uint64_t z = random_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  uint64_t random_;
  int equals_ = 0;
  size_t index_ = 0;
  Rank rank_ = Rank::kReady;
  double cost_ns_ = 0;
};

// Calls visit(index, latency in ns) for all; unproven ones last, when the fastest is known.
template <typename Visit>
void ForEachLatency(std::span<const Candidate> candidates, MonoTime now, Visit visit) {
  Newcomers newcomers;
  bool unproven = false;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& candidate = candidates[i];
    if (IsUnproven(candidate)) {
      unproven = true;
      continue;
    }
    const double latency_ns = KnownLatencyNs(candidate, now);
    if (candidate.healthy) newcomers.Learn(candidate, latency_ns);
    visit(i, latency_ns);
  }
  if (!unproven) return;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (IsUnproven(candidates[i])) visit(i, newcomers.LatencyNs(candidates[i], now));
  }
}

Verdict VerdictOf(const Candidate& candidate, const Candidate* chosen, bool equal_cost) {
  if (!candidate.healthy) return Verdict::kUnhealthy;
  if (IsFull(candidate)) return Verdict::kFull;
  // Who can serve is passed over only for one that was chosen.
  if (RankOf(candidate) != RankOf(*chosen)) {
    return candidate.ejected && !chosen->ejected ? Verdict::kEjected : Verdict::kOverloaded;
  }
  return equal_cost ? Verdict::kEqual : Verdict::kDearer;
}

}  // namespace

Choice Choose(std::span<const Candidate> candidates, MonoTime now, uint64_t random_bits) {
  Best best(random_bits);
  ForEachLatency(candidates, now, [&](size_t i, double latency_ns) {
    if (!CanServe(candidates[i])) return;
    best.Offer(i, RankOf(candidates[i]), CostNs(candidates[i], latency_ns));
  });
  if (best.found()) return {Choice::Outcome::kChosen, best.index()};
  const bool healthy = std::any_of(candidates.begin(), candidates.end(),
                                   [](const Candidate& candidate) { return candidate.healthy; });
  return {healthy ? Choice::Outcome::kAllFull : Choice::Outcome::kNoneHealthy, 0};
}

Explanation Explain(std::span<const Candidate> candidates, MonoTime now, uint64_t random_bits) {
  Explanation explanation;
  explanation.choice = Choose(candidates, now, random_bits);
  explanation.candidates.resize(candidates.size());
  std::vector<double> costs(candidates.size());
  ForEachLatency(candidates, now, [&](size_t i, double latency_ns) {
    costs[i] = CostNs(candidates[i], latency_ns);
    explanation.candidates[i].latency = FromNs(latency_ns);
    explanation.candidates[i].cost = FromNs(costs[i]);
  });
  const bool any = explanation.choice.outcome == Choice::Outcome::kChosen;
  const size_t index = explanation.choice.index;
  for (size_t i = 0; i < candidates.size(); ++i) {
    explanation.candidates[i].verdict =
        any && i == index ? Verdict::kChosen
                          : VerdictOf(candidates[i], any ? &candidates[index] : nullptr,
                                      any && costs[i] == costs[index]);
  }
  return explanation;
}

}  // namespace ctr::policy
