#include "agent/control/why.h"

#include <string.h>
#include <time.h>

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "agent/base/duration.h"

namespace ctr {
namespace {

using Sentences = std::vector<std::string>;

// Whole seconds, or milliseconds of less than one.
std::string Text(Duration duration) {
  duration = std::max(duration, Duration::zero());
  if (duration < std::chrono::seconds(1)) {
    return FormatDuration(std::chrono::floor<std::chrono::milliseconds>(duration));
  }
  return FormatDuration(std::chrono::floor<std::chrono::seconds>(duration));
}

std::string Clock(WallTime time) {
  const time_t seconds = std::chrono::system_clock::to_time_t(time);
  tm utc = {};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  ::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string Ago(WallTime then, WallTime now) {
  return absl::StrCat(Text(now - then), " ago (", Clock(then), ")");
}

std::string Size(int64_t bytes) {
  if (bytes % (int64_t{1} << 30) == 0) return absl::StrCat(bytes >> 30, "GiB");
  if (bytes % (int64_t{1} << 20) == 0) return absl::StrCat(bytes >> 20, "MiB");
  return absl::StrCat(bytes, " bytes");
}

std::string Count(uint64_t count, std::string_view thing) {
  return absl::StrCat(count, " ", std::string(thing), count == 1 ? "" : "s");
}

// "status 1", "status 139, that is by signal 11 (SIGSEGV)".
std::string ExitText(int code) {
  std::string text = absl::StrCat("status ", code);
  const int signal = code - 128;
  if (signal <= 0 || signal >= 65) return text;
  const char* name = ::sigabbrev_np(signal);
  absl::StrAppend(&text, ", that is by signal ", signal);
  if (name != nullptr) absl::StrAppend(&text, " (SIG", name, ")");
  return text;
}

// The sentences about one instance.
class Explanation {
 public:
  explicit Explanation(const WhyView& view)
      : view_(view), observed_(view.record.observed), name_(view.record.name.ToString()) {}

  Sentences Tell() {
    switch (observed_.state) {
      case State::kStopped:
        TellStopped();
        break;
      case State::kStarting:
        TellStarting();
        break;
      case State::kRunning:
        TellRunning();
        break;
      case State::kHealthy:
        TellHealthy();
        break;
      case State::kFrozen:
        Say(name_, " has been frozen for ", InState(),
            ": it keeps its memory and uses no CPU; the "
            "next request thaws it.");
        break;
      case State::kStopping:
        TellStopping();
        break;
    }
    return std::move(sentences_);
  }

 private:
  template <typename... Parts>
  void Say(const Parts&... parts) {
    sentences_.push_back(absl::StrCat(parts...));
  }

  std::string InState() const { return Text(view_.now - observed_.since); }
  std::string Since() const { return Ago(observed_.since, view_.now); }

  // The newest event of one of these types; with `this_start`, of the newest start alone.
  const Event* Newest(std::initializer_list<std::string_view> types,
                      bool this_start = false) const {
    auto found = std::find_if(view_.events.rbegin(), view_.events.rend(), [&](const Event& event) {
      return std::find(types.begin(), types.end(), event.type) != types.end() &&
             (!this_start || event.generation == observed_.generation);
    });
    return found == view_.events.rend() ? nullptr : &*found;
  }
  // " by CAUSE" of the newest event of one of these types that says one.
  std::string By(std::initializer_list<std::string_view> types) const {
    for (auto event = view_.events.rbegin(); event != view_.events.rend(); ++event) {
      if (std::find(types.begin(), types.end(), event->type) == types.end()) continue;
      if (!event->cause.empty()) return absl::StrCat(" by ", event->cause);
    }
    return "";
  }

  void TellStopped() {
    switch (observed_.reason) {
      case StopReason::kNeverStarted:
        Say(name_, " has never been started; it was created ",
            Ago(view_.record.created_at, view_.now), By({event::kCreated}), ".");
        break;
      case StopReason::kRequested:
        Say(name_, " was stopped ", Since(), By({event::kStopping, event::kStopped}), ".");
        TellHowItEnded();
        break;
      case StopReason::kSlept:
        TellSlept();
        break;
      case StopReason::kExited:
        Say(name_, " ended by itself ", Since(), ", with ",
            observed_.exit_code ? ExitText(*observed_.exit_code) : "an unknown status", ".");
        break;
      case StopReason::kOomKilled:
        TellOutOfMemory();
        break;
      case StopReason::kDiskFull:
        Say(name_, " was stopped ", Since(), " because a disk is full",
            observed_.message.empty() ? "" : ": ", observed_.message, ".");
        break;
      case StopReason::kStartFailed:
        Say(name_, " could not be started ", Since(), ": ", observed_.message, ".");
        break;
      case StopReason::kHostLost:
        Say(name_, " was found gone ", Since(),
            ": its container had ended while the agent could not watch it, as when the host "
            "restarts; its exit status is not known.");
        break;
    }
    TellRestarts();
    TellWhatStartsIt();
  }

  // Why the autoscaler stopped it; nothing if it was not that.
  std::optional<std::string> ScaledDown() const {
    if (!RoutedIndexOf(view_.record.name.id)) return std::nullopt;
    for (auto event = view_.events.rbegin(); event != view_.events.rend(); ++event) {
      if (event->type != event::kSlept) continue;
      absl::string_view cause = event->cause;
      if (!absl::ConsumePrefix(&cause, kAutoscaleCause)) return std::nullopt;
      return std::string(cause);
    }
    return std::nullopt;
  }

  void TellSlept() {
    if (const std::optional<std::string> reason = ScaledDown()) {
      Say(name_, " has been asleep for ", InState(), ", since ", Clock(observed_.since),
          ": its class's autoscaler stopped it (", *reason, ").");
      return TellHowItEnded();
    }
    const std::string idle =
        view_.config.sleep_after
            ? absl::StrCat("for sleep_after (", FormatDuration(*view_.config.sleep_after), ")")
            : std::string("for as long as its class said then");
    Say(name_, " has been asleep for ", InState(), ", since ", Clock(observed_.since),
        ": nothing was active in it ", idle, ".");
    TellHowItEnded();
  }

  void TellHowItEnded() {
    if (Newest({event::kKilled}, true) != nullptr) {
      Say("It did not end within its grace after the stop signal, and was killed.");
    } else if (observed_.exit_code && *observed_.exit_code != 0) {
      Say("Its process ended with ", ExitText(*observed_.exit_code), ".");
    }
  }

  void TellOutOfMemory() {
    const std::optional<int64_t>& limit = view_.config.resources.memory_bytes;
    Say(name_, " was killed by the kernel ", Since(), " for want of memory",
        limit ? absl::StrCat(": its limit is ", Size(*limit))
              : std::string(": it has no limit, so the host itself ran out"),
        ".");
    if (limit) {
      Say("Give it more ([resources] memory in its class, then ctr class apply), or make it use "
          "less; ctr stats shows what instances use.");
    } else {
      Say("Set [resources] memory in its class, so that it cannot take the host's.");
    }
  }

  void TellRestarts() {
    const bool failed = observed_.reason == StopReason::kExited ||
                        observed_.reason == StopReason::kOomKilled ||
                        observed_.reason == StopReason::kStartFailed;
    if (observed_.failures > 1) {
      Say("It is in a crash loop: it failed ", observed_.failures, " times in a row.");
    }
    if (observed_.next_start && view_.awaits_room) {
      Say("It is to start again, and waits for room on the disk.");
    } else if (observed_.next_start && *observed_.next_start <= view_.now) {
      Say("The next attempt is due now.");
    } else if (observed_.next_start) {
      Say("The next attempt is due in ", Text(*observed_.next_start - view_.now), " (",
          Clock(*observed_.next_start), "); a request until then gets 502 start_failed.");
    } else if (const Event* gave_up = Newest({event::kGaveUp}, true);
               gave_up != nullptr && failed) {
      Say("It gave up", gave_up->message.empty() ? "" : ": ", gave_up->message, ".");
    } else if (failed && view_.config.restart == RestartPolicy::kNever) {
      Say("It is not restarted: its class says restart = \"never\".");
    } else if (observed_.reason == StopReason::kExited && observed_.exit_code == 0 &&
               view_.config.restart == RestartPolicy::kOnFailure) {
      Say("It is not restarted: restart = \"on-failure\" takes status 0 for success.");
    }
    if (failed && observed_.exit_code.value_or(1) != 0) {
      Say("Its last output: ctr logs --tail 20 ", name_);
    }
  }

  void TellWhatStartsIt() {
    if (view_.record.desired == Desired::kDestroyed) {
      Say("It is being destroyed.");
    } else if (view_.awaits_room) {
      Say("Until there is room, requests and ctr start are refused: make room on that disk, or let "
          "it go with what it wrote: ctr destroy ",
          name_);
    } else if (observed_.next_start) {
      Say("ctr start ", name_, " starts it now.");
    } else if (view_.config.manual_start) {
      Say("Its class says manual_start: requests are refused until it is started with: ctr start ",
          name_);
    } else if (view_.config.IsJob()) {
      Say("It is a job: ctr get, ctr start or ctr run start it again.");
    } else {
      Say("The next request, or ctr get ", name_, ", starts it.");
    }
  }

  void TellStarting() {
    Say(name_, " has been starting for ", InState(), WokenBy(), ".");
    const Event* wake = Newest({event::kWake, event::kRestart});
    const Event* starting = Newest({event::kStarting});
    if (wake != nullptr && (starting == nullptr || starting->number < wake->number)) {
      Say("It waits for its turn: the agent makes a few containers at a time.");
    } else {
      Say("Its container is being made.");
    }
    TellTimeout();
    TellEarlierFailures();
  }

  void TellRunning() {
    Say(name_, "'s process has been running for ", InState(), WokenBy(),
        Newest({event::kHealthy}, true) != nullptr ? ", and is no longer healthy."
                                                   : ", and is not healthy yet.");
    if (!view_.config.required_ports.empty()) {
      Say("It is healthy once these ports listen: ",
          absl::StrJoin(view_.config.required_ports, ", "), ".");
    }
    TellTimeout();
    TellLimits();
    TellEarlierFailures();
  }

  void TellTimeout() {
    Say("If it is not healthy within start_timeout (", FormatDuration(view_.config.start_timeout),
        "), it is torn down.");
  }

  void TellEarlierFailures() {
    if (observed_.failures > 0) {
      Say("It failed ", Count(static_cast<uint64_t>(observed_.failures), "time"),
          " in a row before.");
    }
  }

  // Of the newest start.
  std::string WokenBy() const {
    const std::string by = By({event::kWake, event::kRestart});
    return by.empty() ? "" : absl::StrCat(", woken", by);
  }

  void TellHealthy() {
    if (view_.passing) {
      Say(name_, " has been healthy for ", InState(), " in its start ", observed_.generation,
          WokenBy(), ".");
    } else {
      const Event* unready = Newest({event::kUnready}, true);
      Say(name_, "'s process runs in its start ", observed_.generation, WokenBy(),
          ", but its readiness check fails",
          unready ? absl::StrCat(" and has for ", Text(view_.now - unready->at)) : std::string(),
          ": it is not routed to while another one is ready.");
      if (unready && !unready->message.empty()) Say("Told then: ", unready->message, ".");
    }
    if (view_.in_flight > 0) Say(Count(view_.in_flight, "request"), " in flight keep it awake.");
    if (view_.visits > 0) {
      Say("Exec sessions and copies in it: ", view_.visits, "; they keep it awake.");
    }
    if (view_.sleeps_at) {
      Say("Nothing is in flight",
          view_.last_activity
              ? absl::StrCat("; its last activity was ", Ago(*view_.last_activity, view_.now))
              : std::string(),
          ". It goes to sleep in ", Text(*view_.sleeps_at - view_.now),
          " if nothing more happens.");
    } else if (!view_.config.sleep_after) {
      Say("It does not go to sleep: its class says sleep_after = \"never\".");
    }
    if (const Event* stayed = Newest({event::kStayedAwake}, true)) {
      Say("It was to go to sleep ", Ago(stayed->at, view_.now), " and was kept awake",
          stayed->message.empty() ? "" : ": ", stayed->message, ".");
    }
    TellLimits();
    if (view_.behind) Say("It keeps a CPU busy, and gets it only when no other instance wants it.");
    if (view_.old_image && view_.config.disk == Disk::kKeep) {
      Say("Its kept disk is of an older revision of its class's image, and stays so; ctr destroy ",
          name_, " makes way for the newest, and removes what it wrote.");
    } else if (view_.outdated) {
      Say("It runs an older revision of its class", view_.old_image ? "'s image" : "",
          "; ctr restart ", name_, " gives it the newest.");
    }
    TellEarlierFailures();
  }

  void TellLimits() {
    if (const Event* limited = Newest({event::kLimited}, true)) {
      Say("It was held to its limits, last told ", Ago(limited->at, view_.now), ": ",
          limited->message, ".");
    }
  }

  void TellStopping() {
    Say(name_, " has been stopping for ", InState(), By({event::kStopping}), ".");
    if (view_.in_flight > 0) {
      Say("It waits for ", Count(view_.in_flight, "request"), " in flight, for at most drain (",
          FormatDuration(view_.config.drain), ").");
    } else {
      Say("Its process is given stop_grace (", FormatDuration(view_.config.stop_grace),
          ") after the stop signal, and is then killed.");
    }
    Say("A request that comes now waits for its next start.");
  }

  const WhyView& view_;
  const Observed& observed_;
  const std::string name_;
  Sentences sentences_;
};

}  // namespace

std::vector<std::string> Explain(const WhyView& view) { return Explanation(view).Tell(); }

}  // namespace ctr
