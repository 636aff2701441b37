// What the agent does, held against what is expected of it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/unit/sim/judge.h"

namespace ctr::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// How much later than promised something may be.
constexpr Duration kSlack = seconds(1);
// The longest that a stop's calls to the runtime may take beside its drain and its grace.
constexpr Duration kStopOverhead = seconds(40);

}  // namespace

const ClassConfig& Judge::ConfigOf(const Box& box) const { return *facts_.at(box.spec.id).config; }

void Judge::OnCreate(const ContainerSpec& spec) {
  Expected& expected = expected_[spec.name];
  // One of this very moment may have come too late for the start to be called off.
  const uint64_t open = expected.stops_open + (expected.last_stop == clock_.Now() ? 1 : 0);
  facts_[spec.id] = {configs_.at(spec.revision), expected.stops - std::min(expected.stops, open),
                     life_};
  if (expected.stopped) {
    Fail(absl::StrCat(spec.name.ToString(),
                      " is started although it was stopped, and nobody asked"));
  }
  if (expected.known == Known::kNo) {
    Fail(absl::StrCat(spec.name.ToString(), " is started although it was destroyed"));
  }
  auto value = spec.env.find("V");
  if (!expected.values.contains(value == spec.env.end() ? "" : value->second)) {
    Fail(absl::StrCat(spec.name.ToString(),
                      " is started without the environment that was accepted"));
  }
  if (expected.found_destroys == expected.destroys &&
      spec.generation <= expected.found_generation) {
    Fail(absl::StrCat(spec.name.ToString(), " is started again as generation ", spec.generation));
  }
}

void Judge::OnListed(const Box& box) {
  if (supervisor_ != nullptr) return;
  Expected& expected = expected_[box.spec.name];
  const uint64_t before =
      expected.found_destroys == expected.destroys ? expected.found_generation : 0;
  expected.found_generation = std::max(before, box.spec.generation);
  expected.found_destroys = expected.destroys;
}

void Judge::OnStarted(const Box& box) {
  Expected& expected = expected_[box.spec.name];
  expected.first_stop =
      expected.stops > facts_.at(box.spec.id).stops_before ? expected.last_stop : MonoTime::max();
  for (const auto& [id, other] : runtime_.boxes()) {
    if (other.get() != &box && other->spec.name == box.spec.name && other->live()) {
      Fail(absl::StrCat("two live containers: ", other->Where(), " and ", box.Where()));
    }
  }
}

void Judge::OnStarting(int change) {
  starting_ += change;
  if (starting_ > parallel_starts_) Fail(absl::StrCat(starting_, " starts at once"));
}

bool Judge::MayKill(const Box& box, const Expected& expected) {
  facts_.at(box.spec.id).ended_life = life_;
  return NoteGivenUp(box, expected);
}

bool Judge::NoteGivenUp(const Box& box, const Expected& expected) {
  BoxFacts& facts = facts_.at(box.spec.id);
  if (!facts.given_up) facts.given_up = MayGiveUp(box, facts, expected);
  return facts.given_up;
}

bool Judge::MayGiveUp(const Box& box, const BoxFacts& facts, const Expected& expected) const {
  const ClassConfig& config = *facts.config;
  const MonoTime now = clock_.Now();
  if (!box.live() || box.unsure || box.signalled_at) return true;
  if (expected.known != Known::kYes || expected.stops > facts.stops_before) return true;
  if (!config.IsJob() && box.listens_at > now) return true;
  // Nobody saw it start.
  if (facts.life < life_ && box.started_at > died_at_) return true;
  // Its wish to run was not yet on the disk as the agent was killed.
  if (unwritten_.contains(box.spec.name) && facts.life < life_) return true;
  const bool busy = std::any_of(expected.stays.begin(), expected.stays.end(),
                                [&](const auto& stay) { return IsPresent(box.spec.name, stay); });
  if (busy) return false;
  MonoTime active = std::max(expected.surely_active, std::min(box.listens_at, now));
  return config.sleep_after && now - active >= *config.sleep_after;
}

// Requests in flight get the drain time before a stop cuts them; a destroy does not wait.
void Judge::CheckDrained(const Box& box, const Expected& expected) {
  const auto in_flight =
      std::count_if(expected.stays.begin(), expected.stays.end(), [&](const auto& stay) {
        return stay.generation == box.spec.generation && IsPresent(box.spec.name, stay);
      });
  if (in_flight == 0 || !box.live() || box.unsure) return;
  if (expected.destroys > 0 && expected.known != Known::kYes) return;
  if (expected.first_stop == MonoTime::max()) return;
  if (clock_.Now() - expected.first_stop < ConfigOf(box).drain) {
    Fail(absl::StrCat(box.Where(), " is signalled while ", in_flight,
                      " requests are in flight, before its drain time is over"));
  }
}

void Judge::OnSignal(const Box& box, int signal) {
  const Expected& expected = expected_[box.spec.name];
  if (!MayKill(box, expected)) {
    Fail(absl::StrCat(box.Where(), " gets signal ", signal,
                      " without a reason; inside: ", expected.stays.size(), ", idle for ",
                      (clock_.Now() - expected.surely_active) / milliseconds(1), " ms"));
  }
  CheckDrained(box, expected);
}

void Judge::OnRemove(const Box& box) {
  const Expected& expected = expected_[box.spec.name];
  if (!MayKill(box, expected)) Fail(absl::StrCat(box.Where(), " is removed without a reason"));
  CheckDrained(box, expected);
}

void Judge::OnRemoveDisk(const InstanceName& name) {
  if (expected_[name].known == Known::kYes) {
    Fail(absl::StrCat("the disk of ", name.ToString(), " is removed, which was not destroyed"));
  }
}

void Judge::CheckKnown() {
  if (supervisor_ == nullptr) return;
  for (const auto& [name, expected] : expected_classes_) {
    auto found = supervisor_->classes().find(name);
    const bool there = found != supervisor_->classes().end();
    if (!expected.revisions.contains(there ? found->second->revision : "")) {
      Fail(absl::StrCat("class ", name, " is not as it was acknowledged"));
    }
  }
  std::set<uint32_t> addresses;
  for (const auto& [name, instance] : supervisor_->instances()) {
    if (!addresses.insert(instance->record().address).second) {
      Fail(absl::StrCat(name.ToString(), " has another's address"));
    }
  }
  for (const auto& [name, expected] : expected_) {
    auto found = supervisor_->instances().find(name);
    const bool there = found != supervisor_->instances().end();
    if (expected.known == Known::kYes && !there) {
      Fail(absl::StrCat(name.ToString(), " was acknowledged and is unknown"));
    }
    if (expected.known == Known::kNo && there) {
      Fail(absl::StrCat(name.ToString(), " was destroyed and is known again"));
    }
    if (expected.known == Known::kYes && there &&
        found->second->record().address != expected.address) {
      Fail(absl::StrCat(name.ToString(), ": its address changed"));
    }
  }
}

void Judge::Look() {
  if (supervisor_ == nullptr) return;
  std::map<std::string, int> live;
  for (const auto& [name, instance] : supervisor_->instances()) {
    if (instance->state() != State::kStopped) ++live[name.class_name];
    LookAt(*instance, expected_[name]);
  }
  for (const auto& [name, state] : supervisor_->classes()) {
    if (live[name] > state->config->max_instances) {
      Fail(absl::StrCat(live[name], " instances of ", name, " are live, more than max_instances"));
    }
    if (live[name] != state->live) {
      Fail(absl::StrCat("class ", name, " counts ", state->live, " live instances, not ",
                        live[name]));
    }
  }
}

// Whether a hook may keep it awake: of the class as the box was started, or, where a later agent
// took it over, as the class was then.
bool Judge::AsksHook(const Box& box) const {
  const BoxFacts& facts = facts_.at(box.spec.id);
  return !facts.config->hooks.on_activity_expired.empty() ||
         (facts.life < life_ && hooked_classes_.contains(box.spec.name.class_name));
}

void Judge::LookAt(const Instance& instance, Expected& expected) {
  const MonoTime now = clock_.Now();
  const std::string& container = instance.observed().container_id;
  if (instance.state() != expected.seen || container != expected.seen_container) {
    expected.seen = instance.state();
    expected.seen_container = container;
    expected.seen_since = now;
    if (instance.state() == State::kHealthy) expected.maybe_active = now;
  }
  const Duration lasts = now - expected.seen_since;
  auto found = runtime_.boxes().find(container);
  if (found == runtime_.boxes().end()) return;
  const Box& box = *found->second;
  const ClassConfig& config = ConfigOf(box);
  if (instance.state() == State::kHealthy && config.sleep_after && expected.stays.empty() &&
      !AsksHook(box) &&
      now - std::max(expected.maybe_active, expected.seen_since) > *config.sleep_after + kSlack) {
    Fail(absl::StrCat(box.Where(), " is awake beyond its sleep_after"));
  }
  if (instance.state() == State::kRunning && lasts > config.start_timeout + kSlack) {
    Fail(absl::StrCat(box.Where(), " is not healthy, and not given up"));
  }
  if (instance.state() == State::kStopping &&
      lasts > config.drain + config.stop_grace + kStopOverhead) {
    Fail(absl::StrCat(box.Where(), " is still being stopped"));
  }
}

void Judge::CheckSettled(const FakeStore& durable) {
  if (supervisor_ == nullptr) {
    Fail("the agent did not recover");
    return;
  }
  for (auto& [name, expected] : expected_) {
    auto found = supervisor_->instances().find(name);
    const bool there = found != supervisor_->instances().end();
    if (expected.known == Known::kMaybe) expected.known = there ? Known::kYes : Known::kNo;
    if (there && expected.address == 0) expected.address = found->second->record().address;
    if (!there) expected.address = 0;
    if (there && found->second->destroying()) {
      Fail(absl::StrCat(name.ToString(), " was to be destroyed and is still there"));
    }
    if (!there) {
      expected.stopped = expected.stop_was_answered = false;
      expected.values = {""};
      continue;
    }
    expected.address = found->second->record().address;
    if (expected.stop_was_answered && found->second->state() != State::kStopped) {
      Fail(absl::StrCat(name.ToString(), " was stopped and is ",
                        std::string(ToString(found->second->state()))));
    }
    const State state = found->second->state();
    if (Passing(expected) || state == State::kStopped || state == State::kHealthy) continue;
    Fail(absl::StrCat(name.ToString(), " is still ", std::string(ToString(state))));
  }
  CheckKnown();
  CheckBoxes();
  CheckRows(durable);
}

// A restart may be due just now.
bool Judge::Passing(const Expected& expected) const {
  return expected.seen != State::kStopped && clock_.Now() - expected.seen_since < seconds(30);
}

// What is on the disk is what the agent goes by.
void Judge::CheckRows(const FakeStore& durable) {
  for (const auto& [name, row] : durable.instances) {
    auto found = supervisor_->instances().find(name);
    if (found == supervisor_->instances().end()) {
      Fail(absl::StrCat(name.ToString(), " has a row and is unknown"));
      continue;
    }
    const InstanceRecord& record = found->second->record();
    if (row.desired != record.desired || row.env != record.env || row.address != record.address) {
      Fail(absl::StrCat("the row of ", name.ToString(), " is not what the agent goes by"));
    }
  }
  for (const auto& [name, instance] : supervisor_->instances()) {
    if (!durable.instances.contains(name)) {
      Fail(absl::StrCat(name.ToString(), " is known and has no row"));
    }
  }
}

// What the runtime has is exactly what the agent knows.
void Judge::CheckBoxes() {
  for (const auto& [id, box] : runtime_.boxes()) {
    const bool just_ended = box->exit && clock_.Now() - box->exited_at < seconds(30);
    if (just_ended || Passing(expected_[box->spec.name])) continue;
    auto found = supervisor_->instances().find(box->spec.name);
    if (found == supervisor_->instances().end() || found->second->state() == State::kStopped ||
        !found->second->container() || found->second->container()->id != id) {
      Fail(absl::StrCat("the container of ", box->Where(), " has leaked"));
    }
  }
  for (const auto& [name, instance] : supervisor_->instances()) {
    if (instance->state() == State::kStopped || Passing(expected_[name])) continue;
    auto found = runtime_.boxes().find(instance->observed().container_id);
    const bool dead =
        found == runtime_.boxes().end() ||
        (found->second->exit && clock_.Now() - found->second->exited_at > seconds(30));
    if (dead) {
      Fail(absl::StrCat(name.ToString(), " is called healthy and is dead"));
    }
  }
  for (const auto& [name, record] : runtime_.disks()) {
    if (!supervisor_->instances().contains(name)) {
      Fail(absl::StrCat("the disk of ", name.ToString(), " has leaked"));
    }
  }
}

}  // namespace ctr::sim
