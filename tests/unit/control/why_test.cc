#include "agent/control/why.h"

#include <doctest/doctest.h>

#include "absl/strings/str_join.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

const WallTime kNow{std::chrono::milliseconds(1'795'467'600'250)};  // 2026-11-23T21:00:00.250Z

// alice of web, stopped five minutes ago.
WhyView Stopped(StopReason reason) {
  WhyView view;
  view.config.name = "web";
  view.config.default_port = 8080;
  view.config.ports = {{8080, Protocol::kHttp}};
  view.config.required_ports = {8080};
  view.record.name = {"web", "alice"};
  view.record.created_at = kNow - 2h;
  view.record.observed.reason = reason;
  view.record.observed.generation = 3;
  view.record.observed.since = kNow - 5min;
  view.now = kNow;
  return view;
}

WhyView In(State state) {
  WhyView view = Stopped(StopReason::kSlept);
  view.record.observed.state = state;
  return view;
}

void Happened(WhyView& view, const char* type, const std::string& cause = "",
              const std::string& message = "") {
  view.events.push_back({.number = static_cast<int64_t>(view.events.size()) + 1,
                         .at = kNow - 6min,
                         .type = type,
                         .instance = view.record.name,
                         .generation = 3,
                         .message = message,
                         .cause = cause});
}

bool Says(const WhyView& view, const std::string& text) {
  const std::string all = absl::StrJoin(Explain(view), "\n");
  INFO(all);
  const bool says = all.find(text) != std::string::npos;
  CHECK_MESSAGE(says, text);
  return says;
}

bool IsSilentAbout(const WhyView& view, const std::string& text) {
  const std::string all = absl::StrJoin(Explain(view), "\n");
  INFO(all);
  return all.find(text) == std::string::npos;
}

TEST_CASE("one that fails its readiness check is not called healthy") {
  WhyView view = In(State::kHealthy);
  view.passing = false;
  Happened(view, "unready");
  CHECK(Says(
      view,
      "web/alice's process runs in its start 3, but its readiness check fails and has for 6m"));
  CHECK(IsSilentAbout(view, "has been healthy"));
}

TEST_CASE("who was stopped by the autoscaler is told its reason") {
  WhyView view = Stopped(StopReason::kSlept);
  view.record.name.id = "instance-1";
  Happened(view, event::kSlept, "autoscale: fewer are wanted");
  Says(view, "its class's autoscaler stopped it (fewer are wanted)");
}

TEST_CASE("who was held to its limits in this start is told by what") {
  WhyView view = In(State::kHealthy);
  Happened(view, event::kLimited, "", "it wanted more processes than resources.pids (32) 7 times");
  Says(view,
       "It was held to its limits, last told 6m ago (2026-11-23T20:54:00Z): it wanted more "
       "processes than resources.pids (32) 7 times.");
  view.record.observed.generation = 4;
  CHECK(IsSilentAbout(view, "limits"));
}

TEST_CASE("why: never started, by whom created and what starts it") {
  WhyView view = Stopped(StopReason::kNeverStarted);
  Happened(view, event::kCreated, "ctr get by root");
  Says(view,
       "web/alice has never been started; it was created 2h ago (2026-11-23T19:00:00Z) by ctr get "
       "by root.");
  Says(view, "The next request, or ctr get web/alice, starts it.");
}

TEST_CASE("why: asleep since when, and what wakes it") {
  WhyView view = Stopped(StopReason::kSlept);
  Says(view,
       "web/alice has been asleep for 5m, since 2026-11-23T20:55:00Z: nothing was active in it for "
       "sleep_after (10m).");
  Says(view, "The next request");
}

TEST_CASE("why: stopped by whom, and whether it had to be killed") {
  WhyView view = Stopped(StopReason::kRequested);
  Happened(view, event::kStopping, "ctr stop by root");
  Happened(view, event::kStopped);
  view.record.observed.exit_code = 143;
  Says(view, "web/alice was stopped 5m ago (2026-11-23T20:55:00Z) by ctr stop by root.");
  Says(view, "Its process ended with status 143, that is by signal 15 (SIGTERM).");
  Happened(view, event::kKilled);
  Says(view, "It did not end within its grace after the stop signal, and was killed.");
}

TEST_CASE("why: an exit has its code, or its signal by name, and where the output is") {
  WhyView view = Stopped(StopReason::kExited);
  view.record.observed.exit_code = 1;
  view.config.restart = RestartPolicy::kNever;
  Says(view, "web/alice ended by itself 5m ago (2026-11-23T20:55:00Z), with status 1.");
  Says(view, "It is not restarted: its class says restart = \"never\".");
  Says(view, "Its last output: ctr logs --tail 20 web/alice");
  view.record.observed.exit_code = 139;
  Says(view, "with status 139, that is by signal 11 (SIGSEGV).");
}

TEST_CASE("why: an exit with status 0 is no failure") {
  WhyView view = Stopped(StopReason::kExited);
  view.record.observed.exit_code = 0;
  Says(view, "restart = \"on-failure\" takes status 0 for success.");
  CHECK(IsSilentAbout(view, "ctr logs"));
}

TEST_CASE("why: out of memory names the limit and what to do") {
  WhyView view = Stopped(StopReason::kOomKilled);
  view.config.resources.memory_bytes = int64_t{64} << 20;
  Says(view, "for want of memory: its limit is 64MiB.");
  Says(view, "[resources] memory");
  view.config.resources.memory_bytes.reset();
  Says(view, "it has no limit, so the host itself ran out.");
}

TEST_CASE("why: a crash loop says how often, when the next attempt is, and where the output is") {
  WhyView view = Stopped(StopReason::kExited);
  view.record.observed.exit_code = 1;
  view.record.observed.failures = 4;
  view.record.observed.next_start = kNow + 12s;
  Says(view, "It is in a crash loop: it failed 4 times in a row.");
  Says(view, "The next attempt is due in 12s (2026-11-23T21:00:12Z)");
  Says(view, "ctr logs --tail 20 web/alice");
  Says(view, "ctr start web/alice starts it now.");
  CHECK(IsSilentAbout(view, "The next request"));
  view.record.observed.next_start.reset();
  Happened(view, event::kGaveUp, "", "not restarted any more: 10 starts in a row failed");
  Says(view, "It gave up: not restarted any more: 10 starts in a row failed.");
}

TEST_CASE("why: one failure is no crash loop") {
  WhyView view = Stopped(StopReason::kExited);
  view.record.observed.exit_code = 1;
  view.record.observed.failures = 1;
  view.record.observed.next_start = kNow + 1s;
  CHECK(IsSilentAbout(view, "crash loop"));
  Says(view, "due in 1s");
}

TEST_CASE("why: a start that failed says how") {
  WhyView view = Stopped(StopReason::kStartFailed);
  view.record.observed.message = "web/alice was not healthy in time: port 8080 must listen";
  Says(view,
       "web/alice could not be started 5m ago (2026-11-23T20:55:00Z): web/alice was not healthy in "
       "time: port 8080 must listen.");
}

TEST_CASE("why: manual_start is refused until ctr start, and a job is started by verbs alone") {
  WhyView view = Stopped(StopReason::kRequested);
  view.config.manual_start = true;
  Says(view, "requests are refused until it is started with: ctr start web/alice");
  WhyView job = Stopped(StopReason::kExited);
  job.config.ports.clear();
  Says(job, "It is a job: ctr get, ctr start or ctr run start it again.");
}

TEST_CASE("why: host lost and disk full") {
  Says(Stopped(StopReason::kHostLost), "its exit status is not known");
  WhyView full = Stopped(StopReason::kDiskFull);
  full.record.observed.message = "no space on /var";
  Says(full, "because a disk is full: no space on /var.");
  Says(full, "The next request, or ctr get web/alice, starts it.");
}

TEST_CASE(
    "why: who waits for room says so and what to do, not when it was due, or what is refused") {
  WhyView full = Stopped(StopReason::kDiskFull);
  full.awaits_room = true;
  full.record.observed.next_start = kNow - 30s;
  Says(full, "It is to start again, and waits for room on the disk.");
  Says(full, "make room on that disk, or let it go with what it wrote: ctr destroy web/alice");
  CHECK(IsSilentAbout(full, "The next attempt"));
  CHECK(IsSilentAbout(full, "starts it now"));
  // As after a stop.
  full.record.observed.next_start.reset();
  full.config.ports.clear();
  Says(full, "Until there is room, requests and ctr start are refused");
  CHECK(IsSilentAbout(full, "It is a job"));
  CHECK(IsSilentAbout(full, "It is to start again"));
}

TEST_CASE("why: an attempt that is overdue is not said to be due at a time that is past") {
  WhyView view = Stopped(StopReason::kExited);
  view.record.observed.next_start = kNow - 30s;
  Says(view, "The next attempt is due now.");
}

TEST_CASE("why: healthy since when, woken by what, and when it sleeps") {
  WhyView view = In(State::kHealthy);
  Happened(view, event::kWake, "GET /x from 10.0.0.1");
  Happened(view, event::kHealthy);
  view.last_activity = kNow - 20s;
  view.sleeps_at = kNow + 9min + 40s;
  Says(view, "web/alice has been healthy for 5m in its start 3, woken by GET /x from 10.0.0.1.");
  Says(view, "its last activity was 20s ago (2026-11-23T20:59:40Z)");
  Says(view, "It goes to sleep in 9m40s if nothing more happens.");
}

TEST_CASE("why: healthy and busy, never sleeping, kept awake, outdated") {
  WhyView view = In(State::kHealthy);
  view.in_flight = 2;
  view.visits = 1;
  view.config.sleep_after.reset();
  view.outdated = true;
  Happened(view, event::kStayedAwake, "", "it uses 0.3 of a core");
  Says(view, "2 requests in flight keep it awake.");
  Says(view, "Exec sessions and copies in it: 1; they keep it awake.");
  Says(view, "sleep_after = \"never\"");
  Says(view, "was kept awake: it uses 0.3 of a core.");
  Says(view, "an older revision of its class; ctr restart web/alice gives it the newest.");
  view.behind = true;
  Says(view, "It keeps a CPU busy, and gets it only when no other instance wants it.");
  view.old_image = true;
  Says(view, "an older revision of its class's image; ctr restart web/alice gives it the newest.");
  view.config.disk = Disk::kKeep;
  Says(view, "ctr destroy web/alice makes way for the newest, and removes what it wrote.");
}

TEST_CASE("why: starting, in the queue or being made, and by when") {
  WhyView view = In(State::kStarting);
  view.record.observed.since = kNow - 250ms;
  Happened(view, event::kWake, "ctr start by root");
  Says(view, "web/alice has been starting for 250ms, woken by ctr start by root.");
  Says(view, "It waits for its turn");
  Happened(view, event::kStarting);
  Says(view, "Its container is being made.");
  Says(view, "If it is not healthy within start_timeout (20s), it is torn down.");
}

TEST_CASE("why: running and not healthy, yet or any more") {
  WhyView view = In(State::kRunning);
  Says(view, "and is not healthy yet.");
  Says(view, "once these ports listen: 8080.");
  Happened(view, event::kHealthy);
  Says(view, "and is no longer healthy.");
}

TEST_CASE("why: stopping waits for requests first, then for the process") {
  WhyView view = In(State::kStopping);
  view.record.observed.since = kNow - 2s;
  view.in_flight = 1;
  Happened(view, event::kStopping, "ctr stop by root");
  Says(view, "web/alice has been stopping for 2s by ctr stop by root.");
  Says(view, "It waits for 1 request in flight, for at most drain (30s).");
  view.in_flight = 0;
  Says(view, "Its process is given stop_grace (10s) after the stop signal, and is then killed.");
}

TEST_CASE("why: whatever the state and the reason, there is something to say") {
  for (State state : {State::kStopped, State::kStarting, State::kRunning, State::kHealthy,
                      State::kFrozen, State::kStopping}) {
    for (StopReason reason : {StopReason::kNeverStarted, StopReason::kRequested, StopReason::kSlept,
                              StopReason::kExited, StopReason::kOomKilled, StopReason::kDiskFull,
                              StopReason::kStartFailed, StopReason::kHostLost}) {
      WhyView view = Stopped(reason);
      view.record.observed.state = state;
      REQUIRE_FALSE(Explain(view).empty());
      for (const std::string& sentence : Explain(view)) CHECK(sentence.size() > 10);
    }
  }
}

}  // namespace
}  // namespace ctr
