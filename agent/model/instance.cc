#include "agent/model/instance.h"

#include <array>
#include <utility>

namespace ctr {
namespace {

constexpr std::array<std::pair<State, std::string_view>, 6> kStates = {{
    {State::kStopped, "stopped"},
    {State::kStarting, "starting"},
    {State::kRunning, "running"},
    {State::kHealthy, "healthy"},
    {State::kFrozen, "frozen"},
    {State::kStopping, "stopping"},
}};

constexpr std::array<std::pair<StopReason, std::string_view>, 8> kReasons = {{
    {StopReason::kNeverStarted, "never_started"},
    {StopReason::kRequested, "requested"},
    {StopReason::kSlept, "slept"},
    {StopReason::kExited, "exited"},
    {StopReason::kOomKilled, "oom_killed"},
    {StopReason::kDiskFull, "disk_full"},
    {StopReason::kStartFailed, "start_failed"},
    {StopReason::kHostLost, "host_lost"},
}};

template <typename Table, typename Value>
std::string_view NameOf(const Table& table, Value value) {
  for (const auto& [entry, name] : table) {
    if (entry == value) return name;
  }
  return "unknown";
}

template <typename Value, typename Table>
std::optional<Value> ValueOf(const Table& table, std::string_view text) {
  for (const auto& [entry, name] : table) {
    if (name == text) return entry;
  }
  return std::nullopt;
}

}  // namespace

std::string_view ToString(State state) { return NameOf(kStates, state); }
std::string_view ToString(StopReason reason) { return NameOf(kReasons, reason); }
std::optional<State> ParseState(std::string_view text) { return ValueOf<State>(kStates, text); }
std::optional<StopReason> ParseStopReason(std::string_view text) {
  return ValueOf<StopReason>(kReasons, text);
}

bool CanTransition(State from, State to) {
  switch (from) {
    case State::kStopped:
      return to == State::kStarting;
    case State::kStarting:
      return to == State::kRunning || to == State::kStopping || to == State::kStopped;
    case State::kRunning:
      return to == State::kHealthy || to == State::kStopping || to == State::kStopped;
    case State::kHealthy:
      return to == State::kRunning || to == State::kFrozen || to == State::kStopping ||
             to == State::kStopped;
    case State::kFrozen:
      return to == State::kHealthy || to == State::kStopping || to == State::kStopped;
    case State::kStopping:
      return to == State::kStopped;
  }
  return false;
}

}  // namespace ctr
