// What clients asked for and were told, and what follows from it.
#include "tests/unit/sim/judge.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ctr::sim {
namespace {

using std::chrono::seconds;

// By when a wake is on the disk, although commits fail.
constexpr Duration kWakeIsWritten = seconds(30);

bool Overlaps(uint64_t before, int open_before, uint64_t now, int open_now) {
  return open_before > 0 || now != before || open_now > 0;
}

}  // namespace

void Judge::Fail(const std::string& what) {
  if (!failure_.empty()) return;
  failure_ = what;
  OnTrace("BROKEN: " + what);
}

void Judge::OnTrace(const std::string& line) {
  if (trace) trace(line);
}

uint64_t Judge::ClassIssued(const std::string& name, const ClassConfig* config) {
  ExpectedClass& expected = expected_classes_[name];
  ++expected.issued, ++expected.open;
  std::string revision;
  if (config != nullptr) {
    revision = RevisionOf(*config);
    if (!config->hooks.on_activity_expired.empty()) hooked_classes_.insert(name);
    configs_[revision] = std::make_shared<const ClassConfig>(*config);
  }
  expected.revisions.insert(std::move(revision));
  return expected.open == 1 ? expected.issued : 0;
}

void Judge::ClassReturned(const std::string& name, const std::string& revision, uint64_t issued,
                          bool ok) {
  ExpectedClass& expected = expected_classes_[name];
  if (ok && issued == expected.issued) expected.revisions = {revision};
  --expected.open;
}

void Judge::AgentStarts() {
  ++life_;
  for (auto& [name, expected] : expected_) expected.found_generation = 0;
  for (auto& [name, expected] : expected_) expected.surely_active = clock_.Now();
}

void Judge::AgentRecovered(const Supervisor* supervisor) {
  supervisor_ = supervisor;
  recovered_at_ = clock_.Now();
  for (auto& [name, expected] : expected_) {
    expected.maybe_active = clock_.Now();
    auto found = supervisor->instances().find(name);
    const bool stays = found != supervisor->instances().end() && !found->second->destroying();
    if (!stays) expected.found_generation = 0;
    expected.seen = State::kStopped;
    expected.seen_since = clock_.Now();
  }
  CheckKnown();
  for (const auto& [name, instance] : supervisor->instances()) {
    auto row = rows_.find(name);
    if (row == rows_.end() || !instance->container()) continue;
    const Observed& seen = row->second.observed;
    if (seen.state == State::kStopped && seen.generation >= instance->container()->generation) {
      Fail(absl::StrCat(name.ToString(), " had been seen to end, and is taken over"));
    }
  }
}

void Judge::AgentDied(const FakeStore& durable) {
  // A stop that is on the disk goes on, if it was one that might begin.
  for (const auto& [id, box] : runtime_.boxes()) {
    auto row = durable.instances.find(box->spec.name);
    if (row != durable.instances.end() && row->second.observed.state == State::kStopping &&
        row->second.observed.generation == box->spec.generation) {
      NoteGivenUp(*box, expected_[box->spec.name]);
    }
  }
  supervisor_ = nullptr;
  starting_ = 0;
  died_at_ = clock_.Now();
  // A wake is written soon after it, not before.
  rows_ = durable.instances;
  unwritten_.clear();
  for (const auto& [id, box] : runtime_.boxes()) {
    const bool young = clock_.Now() - box->started_at.value_or(clock_.Now()) < kWakeIsWritten;
    auto row = rows_.find(box->spec.name);
    if (young && row != rows_.end() && row->second.desired == Desired::kStopped) {
      unwritten_.insert(box->spec.name);
    }
  }
  for (auto& [name, expected] : expected_) {
    expected.stays.clear();
  }
}

void Judge::Sets(Issued& call, std::string value) {
  Expected& expected = expected_[call.name];
  ++expected.sets, ++expected.sets_open;
  expected.values.insert(value);
  call.value = std::move(value);
}

Issued Judge::Issue(Verb verb, InstanceName name) {
  Expected& expected = expected_[name];
  Issued call{.verb = verb, .name = std::move(name), .before = expected, .at = clock_.Now()};
  call.creates = verb == Verb::kGet || verb == Verb::kStart || verb == Verb::kRequest;
  call.destroys = verb == Verb::kDestroy;
  call.starts = call.creates || verb == Verb::kRestart || verb == Verb::kVisit;
  call.stops = verb == Verb::kStop || verb == Verb::kRestart || call.destroys;
  if (call.creates) {
    ++expected.creates, ++expected.creates_open;
    if (expected.known == Known::kNo) expected.known = Known::kMaybe;
  }
  if (call.destroys) {
    ++expected.destroys, ++expected.destroys_open;
    if (expected.known == Known::kYes) expected.known = Known::kMaybe;
    expected.values.insert("");
  }
  if (call.starts) {
    ++expected.starts, ++expected.starts_open;
    expected.stopped = expected.stop_was_answered = false;
  }
  if (call.stops) {
    expected.first_stop = std::min(expected.first_stop, clock_.Now());
    expected.last_stop = clock_.Now();
    ++expected.stops, ++expected.stops_open;
  }
  return call;
}

void Judge::Created(const Issued& call, const Instance& instance) {
  Expected& expected = expected_[call.name];
  const bool certain = !Overlaps(call.before.destroys, call.before.destroys_open, expected.destroys,
                                 expected.destroys_open);
  if (!certain) return;
  const uint32_t address = instance.record().address;
  if (expected.known == Known::kYes && expected.address != address) {
    Fail(absl::StrCat(call.name.ToString(), ": its address changed"));
  }
  expected.known = Known::kYes;
  expected.address = address;
  // Its own, if no other call set it meanwhile; this one is among `sets` and `sets_open`.
  if (call.value && expected.sets == call.before.sets + 1 && call.before.sets_open == 0) {
    expected.values = {*call.value};
  }
}

void Judge::Answered(Issued& call) {
  Expected& expected = expected_[call.name];
  if (call.creates) --expected.creates_open;
  if (call.starts) --expected.starts_open;
  call.answered = true;
}

void Judge::Returned(const Issued& call, const Status& status) {
  Expected& expected = expected_[call.name];
  if (call.creates && !call.answered) --expected.creates_open;
  if (call.destroys) --expected.destroys_open;
  if (call.starts && !call.answered) --expected.starts_open;
  if (call.stops) --expected.stops_open;
  if (call.value) --expected.sets_open;
  if (!call.answered && clock_.Now() > call.deadline + seconds(20)) {
    Fail(absl::StrCat("a call on ", call.name.ToString(), " returned ",
                      (clock_.Now() - call.deadline) / seconds(1), " s after its deadline"));
  }
  if (!status.ok()) return;
  if (call.destroys && !Overlaps(call.before.creates, call.before.creates_open, expected.creates,
                                 expected.creates_open)) {
    expected.known = Known::kNo;
    expected.stopped = expected.stop_was_answered = false;
    expected.values = {""};
  }
  if (call.verb == Verb::kStop && !Overlaps(call.before.starts, call.before.starts_open,
                                            expected.starts, expected.starts_open)) {
    expected.stop_was_answered = true;
    expected.stopped = call.waits;
  }
}

void Judge::Active(const InstanceName& name, bool surely) {
  Expected& expected = expected_[name];
  if (surely) expected.surely_active = clock_.Now();
  expected.maybe_active = clock_.Now();
}

bool Judge::IsPresent(const InstanceName& name, const Expected::Stay& stay) const {
  if (supervisor_ == nullptr) return false;
  auto found = supervisor_->instances().find(name);
  return found != supervisor_->instances().end() && found->second->slot() == stay.slot;
}

void Judge::LetIn(const InstanceName& name, const Expected::Stay& stay) {
  Expected& expected = expected_[name];
  expected.stays.push_back(stay);
  expected.maybe_active = clock_.Now();
  const uint64_t generation = stay.generation;
  if (generation == 0 || !IsPresent(name, stay)) return;
  const Box* entered = nullptr;
  for (const auto& [id, box] : runtime_.boxes()) {
    if (box->spec.name != name || !box->started_at) continue;
    if (box->spec.generation > generation && box->live()) {
      Fail(absl::StrCat("a request was let into an older start than ", box->Where()));
    }
    if (box->spec.generation == generation) entered = box.get();
  }
  if (entered == nullptr) {
    Fail(absl::StrCat("a request was let into ", name.ToString(), " g", generation,
                      ", which is gone"));
  } else if (entered->listens_at > clock_.Now() && !ConfigOf(*entered).IsJob()) {
    Fail(absl::StrCat("a request was let into ", entered->Where(), ", which does not listen"));
  } else if (facts_.at(entered->spec.id).ended_life == life_) {
    Fail(absl::StrCat("a request was let into ", entered->Where(), ", which is being stopped"));
  }
}

void Judge::Left(const InstanceName& name, const Expected::Stay& stay) {
  Expected& expected = expected_[name];
  auto found = std::find(expected.stays.begin(), expected.stays.end(), stay);
  if (found != expected.stays.end()) expected.stays.erase(found);
  Active(name, IsPresent(name, stay));
}

}  // namespace ctr::sim
