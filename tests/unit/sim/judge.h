#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/control/supervisor.h"
#include "tests/fakes/fake_store.h"
#include "tests/unit/sim/sim_runtime.h"

namespace ctr::sim {

enum class Verb { kGet, kStart, kStop, kRestart, kDestroy, kRenew, kWait, kRequest, kVisit };

// Whether an ID is known, as far as the answers that clients got say.
enum class Known { kNo, kYes, kMaybe };

// What the clients of one ID have asked for and been told.
struct Expected {
  Known known = Known::kNo;
  uint32_t address = 0;  // while kYes
  // Calls that were ever made, and those that have not returned.
  uint64_t creates = 0, destroys = 0, starts = 0, stops = 0, sets = 0;
  int creates_open = 0, destroys_open = 0, starts_open = 0, stops_open = 0, sets_open = 0;
  bool stopped = false;              // a stop was waited for, and nobody asked for a start since
  bool stop_was_answered = false;    // the same, also of stops that were not waited for
  std::set<std::string> values{""};  // what the variable V may be in the next start
  // Requests and visits (generation 0) that are let in. The slot tells one life of the ID from the
  // next, after a destroy.
  struct Stay {
    std::shared_ptr<const Slot> slot;
    uint64_t generation = 0;
    bool operator==(const Stay&) const = default;
  };
  std::vector<Stay> stays;
  MonoTime surely_active;                 // the agent must have seen activity then
  MonoTime maybe_active;                  // it may have seen some as late as that
  MonoTime first_stop = MonoTime::max();  // since the newest process was started; max: none
  MonoTime last_stop;
  uint64_t found_generation = 0;  // the newest that the agent found as it recovered
  uint64_t found_destroys = 0;    // `destroys` then
  State seen = State::kStopped;
  std::string seen_container;
  MonoTime seen_since;
};

// A call at the moment when it was made, to compare with when it returns.
struct Issued {
  Verb verb = Verb::kGet;
  InstanceName name;
  bool creates = false, destroys = false, starts = false, stops = false;
  std::optional<std::string> value = {};  // of V that it sets
  Expected before = {};
  MonoTime at = {};
  MonoTime deadline = {};
  bool waits = true;
  bool answered = false;  // a request or a visit that is let in
};

// Holds the agent to what it promised. Knows what the clients were told, and what the runtime and
// the processes really do; the first promise that is broken is kept in `failure`.
class Judge final : public RuntimeObserver {
 public:
  Judge(const SimClock& clock, const SimRuntime& runtime, int parallel_starts)
      : clock_(clock), runtime_(runtime), parallel_starts_(parallel_starts) {}

  const std::string& failure() const { return failure_; }
  void Fail(const std::string& what);
  std::map<InstanceName, Expected>& expected() { return expected_; }

  // A class is being applied; `config` null: removed. Returns what ClassReturned is to be given:
  // the number of the call, 0 if others are under way.
  uint64_t ClassIssued(const std::string& name, const ClassConfig* config);
  void ClassReturned(const std::string& name, const std::string& revision, uint64_t issued,
                     bool ok);

  // The agent's life.
  void AgentStarts();
  void AgentRecovered(const Supervisor* supervisor);
  void AgentDied(const FakeStore& durable);

  // Clients' calls.
  Issued Issue(Verb verb, InstanceName name);
  // It sets the variable V for later starts.
  void Sets(Issued& call, std::string value);
  void Created(const Issued& call, const Instance& instance);
  void Returned(const Issued& call, const Status& status);
  // A request or a visit was let in: it no longer asks for a start.
  void Answered(Issued& call);
  // A request was let in, or a visit.
  void LetIn(const InstanceName& name, const Expected::Stay& stay);
  void Left(const InstanceName& name, const Expected::Stay& stay);
  void Active(const InstanceName& name, bool surely);

  // While the world runs: limits, states that last too long.
  void Look();
  // After faults have ended and things have settled.
  void CheckSettled(const FakeStore& durable);

  void OnCreate(const ContainerSpec& spec) override;
  void OnSignal(const Box& box, int signal) override;
  void OnRemove(const Box& box) override;
  void OnRemoveDisk(const InstanceName& name) override;
  void OnListed(const Box& box) override;
  void OnStarted(const Box& box) override;
  void OnStarting(int change) override;
  bool tracing() const override { return trace != nullptr; }
  void OnTrace(const std::string& line) override;

  std::function<void(const std::string&)> trace;

 private:
  struct BoxFacts {
    std::shared_ptr<const ClassConfig> config;
    uint64_t stops_before = 0;  // stops that had been asked for and returned as it was made
    int life = 0;               // of the agent that made it
    int ended_life = 0;         // of the agent that signalled or removed it last
    bool given_up = false;      // with a reason; a later agent goes on with it
  };

  // What clients were told about a class.
  struct ExpectedClass {
    std::set<std::string> revisions{""};  // it may have; "": unknown
    uint64_t issued = 0;
    int open = 0;
  };

  void CheckKnown();
  // Those of `stay`'s life of the ID that are inside the present one.
  bool IsPresent(const InstanceName& name, const Expected::Stay& stay) const;
  bool MayGiveUp(const Box& box, const BoxFacts& facts, const Expected& expected) const;
  bool MayKill(const Box& box, const Expected& expected);
  bool NoteGivenUp(const Box& box, const Expected& expected);
  void CheckDrained(const Box& box, const Expected& expected);
  void LookAt(const Instance& instance, Expected& expected);
  bool Passing(const Expected& expected) const;
  void CheckBoxes();
  void CheckRows(const FakeStore& durable);
  bool AsksHook(const Box& box) const;
  const ClassConfig& ConfigOf(const Box& box) const;

  const SimClock& clock_;
  const SimRuntime& runtime_;
  const int parallel_starts_;
  const Supervisor* supervisor_ = nullptr;
  MonoTime recovered_at_;
  MonoTime died_at_;
  int life_ = 0;
  std::map<InstanceName, Expected> expected_;
  std::map<std::string, std::shared_ptr<const ClassConfig>> configs_;  // by revision
  std::map<std::string, ExpectedClass> expected_classes_;
  std::set<std::string> hooked_classes_;         // that ever had on_activity_expired
  std::map<std::string, BoxFacts> facts_;        // by container
  std::map<InstanceName, InstanceRecord> rows_;  // on the disk at the last crash
  // Then: those whose wish to run may not have been on the disk yet.
  std::set<InstanceName> unwritten_;
  int starting_ = 0;
  std::string failure_;
};

}  // namespace ctr::sim
