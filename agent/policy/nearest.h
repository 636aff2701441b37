#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "agent/base/time.h"
#include "agent/policy/peak_ewma.h"

namespace ctr::policy {

// An instance that a request could go to, as a data loop sees it at that moment.
struct Candidate {
  uint64_t in_flight = 0;
  uint32_t max_concurrency = 0;                  // 0: no limit
  PeakEwma latency;                              // of this start; no sample: it is new
  Duration oldest_in_flight = Duration::zero();  // how long that has waited for its answer
  Duration distance = Duration::zero();          // what the way there adds; 0 on this host
  bool healthy = false;
  bool overloaded = false;
  bool ejected = false;
};

// What a new instance is expected to need while nobody knows any better: linkerd's default.
inline constexpr Duration kUnknownLatency = std::chrono::milliseconds(30);

struct Choice {
  enum class Outcome {
    kChosen,
    kNoneHealthy,  // somebody has to be woken, or waited for
    kAllFull,      // all that are healthy are at max_concurrency
  } outcome = Outcome::kNoneHealthy;
  size_t index = 0;  // of the candidate, if kChosen

  bool operator==(const Choice&) const = default;
};

// The nearest ready instance: that of the lowest cost, which is expected latency times (in flight +
// 1) plus distance (Finagle's and linkerd's load, and the way). The expected latency is the
// peak-EWMA, or the age of the oldest request in flight once that is more: an instance that has
// stalled becomes dearer though it never answers. Of equal ones each is as likely.
//
// Who is not healthy or full never gets a request. Who is overloaded or ejected gets one only if
// nobody else can take it, and then an overloaded one rather than an ejected one, since it answers.
//
// An instance without any sample gets one request at once and is not flooded before it has
// answered: it then counts as twice as slow as the fastest known.
//
// All candidates are looked at. To compare two at random instead (power of two choices), as Finagle
// does, protects from a herd that decides by stale counts. Ours are counted on this host before the
// request is sent: stale only while two loops are in the same 0.1 us. By simulation (scripts/bench
// choose) the full look has the lower p99 unless four decide at the very same moment.
//
// Needs no lock and allocates nothing; random_bits are 64 uniformly random ones.
Choice Choose(std::span<const Candidate> candidates, MonoTime now, uint64_t random_bits);

// Why a candidate was taken or not.
enum class Verdict {
  kChosen,
  kEqual,   // the lot fell on another of the same cost
  kDearer,  // another costs less
  kUnhealthy,
  kFull,
  kOverloaded,  // and another can serve
  kEjected,     // and another can serve
};

struct Considered {
  Verdict verdict = Verdict::kUnhealthy;
  Duration latency = Duration::zero();  // expected; zero for a new one that is to be tried
  Duration cost = Duration::zero();
};

struct Explanation {
  Choice choice;
  std::vector<Considered> candidates;  // in their order
};

// What Choose does with the same arguments, and why. Allocates.
Explanation Explain(std::span<const Candidate> candidates, MonoTime now, uint64_t random_bits);

}  // namespace ctr::policy
