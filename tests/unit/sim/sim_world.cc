#include "tests/unit/sim/sim_world.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ctr::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kKeptSteps = 60;
// With CTR_SIM_TELL every step is told as it is made: for what ends the process.
const bool kTold = std::getenv("CTR_SIM_TELL") != nullptr;

}  // namespace

SimWorld::SimWorld(uint64_t seed, bool trace)
    : SimHost(seed), judge_(clock_, runtime_, parallel_starts_), began_(clock_.Now()) {
  runtime_.set_observer(&judge_);
  if (trace) {
    judge_.trace = [this](const std::string& line) {
      steps_.push_back(absl::StrCat((clock_.Now() - began_) / milliseconds(1), " ms: ", line));
      if (steps_.size() > kKeptSteps) steps_.pop_front();
      if (kTold) std::fprintf(stderr, "%s\n", steps_.back().c_str());
    };
  }
}

SimWorld::~SimWorld() { Crash(); }

void SimWorld::AgentDied() {
  judge_.AgentDied(store_.durable());
  for (const ClientPtr& client : std::list<ClientPtr>(open_)) {
    Returned(client, absl::UnavailableError("the agent has ended"));
  }
}

std::string SimWorld::Run() {
  DrawClasses();
  StartAgent();
  RunFor(seconds(1));
  ApplyClass(0);
  ApplyClass(1);
  RunFor(seconds(1));
  const int episodes = 2 + dice_.Below(3);
  for (int i = 0; i < episodes && !broken(); ++i) {
    Chaos();
    Calm();
  }
  if (!broken()) WakeAll();
  if (!broken()) return "";
  return absl::StrCat("seed ", seed_, ", after ", (clock_.Now() - began_) / milliseconds(1),
                      " ms: ", judge_.failure());
}

}  // namespace ctr::sim
