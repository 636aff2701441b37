// What happens in a run: classes, faults, events, and the calm in which everything must settle.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/config/class_file.h"
#include "tests/unit/sim/sim_world.h"

namespace ctr::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Beyond every deadline, grace and backoff that is drawn.
constexpr Duration kSettles = seconds(200);
// How long a request and a start may take together while nothing fails.
constexpr Duration kWakes = seconds(2);

template <size_t N>
const char* Pick(Dice& dice, const char* const (&choices)[N]) {
  return choices[dice.Below(static_cast<int>(N))];
}

// Class files refuse what the runtime can't do yet.
bool CanKeepDisks() {
  static const bool can =
      ParseClassFile("name = \"a\"\nimage = \"b\"\ndisk = \"keep\"\n", "sim.toml").ok();
  return can;
}

}  // namespace

void SimWorld::DrawClasses() {
  for (int i = 0; i < 2; ++i) {
    const bool job = i == 1 && dice_.Chance(0.3);
    std::string text = absl::StrCat("name = \"c", i, "\"\nimage = \"demo:latest\"\n");
    if (!job) {
      absl::StrAppend(&text, "default_port = 8080\nsleep_after = \"",
                      Pick(dice_, {"1s", "5s", "30s", "3m", "never"}), "\"\n");
      if (dice_.Chance(0.2)) absl::StrAppend(&text, "max_concurrency = 2\n");
      if (dice_.Chance(0.15)) absl::StrAppend(&text, "create = \"request\"\n");
    }
    absl::StrAppend(&text, "start_timeout = \"", Pick(dice_, {"2s", "4s", "10s"}), "\"\n");
    absl::StrAppend(&text, "stop_grace = \"", Pick(dice_, {"1s", "3s", "8s"}), "\"\n");
    absl::StrAppend(&text, "drain = \"", Pick(dice_, {"100ms", "1s", "3s"}), "\"\n");
    absl::StrAppend(&text, "restart = \"", Pick(dice_, {"never", "on-failure", "always"}), "\"\n");
    absl::StrAppend(&text, "max_instances = ", 1 + dice_.Below(6), "\n");
    if (dice_.Chance(0.3) && CanKeepDisks()) absl::StrAppend(&text, "disk = \"keep\"\n");
    if (dice_.Chance(0.15)) absl::StrAppend(&text, "manual_start = true\n");
    if (dice_.Chance(0.2)) absl::StrAppend(&text, "busy_cpu = 0.5\n");
    classes_.push_back(std::move(text));
  }
  const int ids = 3 + dice_.Below(5);
  for (int i = 0; i < ids; ++i) {
    names_.push_back({i % 3 == 2 ? "c1" : "c0", absl::StrCat("i", i)});
  }
}

std::string SimWorld::ClassText(int index) {
  std::string text = absl::StrCat(classes_[index], "env = { REV = \"", ++revision_, "\" }\n");
  if (dice_.Chance(0.3)) {
    absl::StrAppend(&text, "[hooks]\non_start = [\"a\"]\non_stop = [\"b\"]\non_error = [\"c\"]\n");
    if (dice_.Chance(0.5)) absl::StrAppend(&text, "on_activity_expired = [\"d\"]\n");
  }
  return text;
}

// Some kinds at a time, and how often, differ from one episode to the next.
Faults SimWorld::DrawFaults() {
  Faults faults;
  auto draw = [this](double often) { return dice_.Chance(0.5) ? often * (1 + dice_.Below(4)) : 0; };
  faults.slow = draw(0.03);
  faults.refused = draw(0.05);
  faults.lost_answer = draw(0.03);
  faults.exit_lost = draw(0.05);
  faults.commit = draw(0.05);
  faults.behind = draw(0.1);
  faults.process = draw(0.1);
  faults.stubborn = draw(0.05);
  busy_ = dice_.Chance(0.3) ? 0.2 : 1;
  return faults;
}

void SimWorld::Chaos() {
  faults_ = DrawFaults();
  const int count = 15 + dice_.Below(45);
  for (int i = 0; i < count && !broken(); ++i) {
    OneEvent();
    ++events_;
    if (dice_.Chance(0.5)) {
      RunFor(dice_.Within(Duration::zero(), milliseconds(60)));
    } else if (dice_.Chance(0.95)) {
      RunFor(dice_.Within(Duration::zero(), seconds(10)) * (busy_ < 1 ? 1 : 2) / 2);
    } else {
      RunFor(dice_.Within(seconds(1), seconds(240)));
    }
  }
}

void SimWorld::OneEvent() {
  const int kind = dice_.Below(100);
  if (kind < 6) {
    if (life_ && crash_after_ == 0) crash_after_ = 1 + dice_.Below(250);
  } else if (kind < 10) {
    runtime_.Outage(dice_.Within(milliseconds(50), seconds(15)));
  } else if (kind < 16) {
    if (runtime_.boxes().empty()) return;
    // In the order of their making: their IDs are random.
    std::vector<const Box*> boxes;
    for (const auto& [id, box] : runtime_.boxes()) boxes.push_back(box.get());
    std::sort(boxes.begin(), boxes.end(),
              [](const Box* a, const Box* b) { return a->number < b->number; });
    const std::string id = boxes[dice_.Below(static_cast<int>(boxes.size()))]->spec.id;
    const bool oom = dice_.Chance(0.3);
    runtime_.Exit(id, {.code = oom ? 137 : dice_.Below(3), .oom_killed = oom});
  } else if (kind < 22) {
    if (open_.empty()) return;
    auto client = std::next(open_.begin(), dice_.Below(static_cast<int>(open_.size())));
    judge_.OnTrace("a client goes away: " + (*client)->call.name.ToString());
    (*client)->gone.emit(asio::cancellation_type::terminal);
  } else if (kind < 25) {
    ApplyClass(dice_.Below(2));
  } else if (kind < 26) {
    RemoveClass(dice_.Below(2));
  } else {
    CallAtRandom();
  }
}

void SimWorld::Calm() {
  if (broken()) return;
  judge_.OnTrace("faults end");
  faults_ = Faults();
  crash_after_ = 0;
  RunFor(kSettles);
  if (broken()) return;
  judge_.Look();
  if (!open_.empty()) {
    judge_.Fail(absl::StrCat("a call on ", open_.front()->call.name.ToString(), " is stuck"));
  }
  judge_.CheckSettled(store_.durable());
}

// Whatever they have been through, they start.
void SimWorld::WakeAll() {
  judge_.OnTrace("every ID is woken");
  auto known = [this](const InstanceName& name) {
    return supervisor()->instances().contains(name);
  };
  auto expect = [this](const InstanceName& name, const char* what, const Status& status) {
    if (status.ok() || broken()) return;
    judge_.Fail(
        absl::StrCat(name.ToString(), " cannot be ", what, ": ", std::string(status.message())));
  };
  auto quickly = [this](const InstanceName& name, const char* what, MonoTime since) {
    if (clock_.Now() - since < kWakes || broken()) return;
    judge_.Fail(absl::StrCat(name.ToString(), " was ", what, " only after ",
                             (clock_.Now() - since) / milliseconds(1), " ms"));
  };
  for (const InstanceName& name : names_) {
    if (broken() || !known(name)) continue;
    expect(name, "stopped", Await(NewCall(Verb::kStop, name), Stop));
  }
  for (const InstanceName& name : names_) {
    if (broken() || !known(name)) continue;
    const ClassConfig& config = *supervisor()->FindClass(name.class_name).value()->config;
    const MonoTime begin = clock_.Now();
    if (!config.IsJob()) {
      Status woken = Await(NewCall(Verb::kRequest, name), [](SimWorld* world, ClientPtr client) {
        return Request(world, std::move(client), milliseconds(100));
      });
      const bool refused = ErrorCodeOf(woken) == code::kManualStart;
      if (config.manual_start != refused) expect(name, "woken", woken);
    }
    auto start = [](SimWorld* world, ClientPtr client) {
      return Get(world, std::move(client), true);
    };
    expect(name, "started", Await(NewCall(Verb::kStart, name), start));
    quickly(name, "woken", begin);
    expect(name, "stopped", Await(NewCall(Verb::kStop, name), Stop));
  }
  for (const InstanceName& name : names_) {
    if (broken() || !known(name)) continue;
    expect(name, "destroyed", Await(NewCall(Verb::kDestroy, name), Destroy));
  }
  RunFor(seconds(5));
  if (!broken()) judge_.CheckSettled(store_.durable());
  if (!broken() && !runtime_.disks().empty()) judge_.Fail("a disk is left");
}

}  // namespace ctr::sim
