#include "agent/control/hook.h"

#include <signal.h>

#include <optional>

#include <doctest/doctest.h>

#include "tests/fakes/loop.h"
#include "tests/fakes/manual_clock.h"

namespace ctr::hook_test {
namespace {

// Real processes, on a clock that stands still.
struct Fixture {
  std::shared_ptr<std::optional<Status>> Begin(std::vector<std::string> command,
                                               std::map<std::string, std::string> env = {}) {
    auto result = std::make_shared<std::optional<Status>>();
    asio::co_spawn(
        io, RunHook(&clock, work.get_executor(), {std::move(command), std::move(env)}),
        asio::bind_cancellation_slot(cancel.slot(), [result](std::exception_ptr thrown, Status s) {
          *result = thrown ? absl::CancelledError("") : std::move(s);
        }));
    return result;
  }
  void RunUntil(const std::function<bool()>& condition) {
    while (!condition()) {
      io.restart();
      io.run_one_for(std::chrono::milliseconds(5));
    }
  }
  Status Run(std::vector<std::string> command, std::map<std::string, std::string> env = {}) {
    auto result = Begin(std::move(command), std::move(env));
    RunUntil([&] { return result->has_value(); });
    return **result;
  }
  ~Fixture() {
    work.join();
    io.DropHandlers();
  }

  Loop io;
  asio::thread_pool work{1};
  ManualClock clock;
  asio::cancellation_signal cancel;
};

TEST_CASE("a hook that exits with 0 is OK, and sees its variables") {
  Fixture t;
  CHECK(t.Run({"sh", "-c", "test \"$CTR_ID\" = alice && test -n \"$PATH\""}, {{"CTR_ID", "alice"}})
            .ok());
}

TEST_CASE("a hook that fails says how, with the last line of its output") {
  Fixture t;
  CHECK(t.Run({"sh", "-c", "echo one; echo two >&2; exit 3"}).message() == "sh exited with 3: two");
  CHECK(t.Run({"sh", "-c", "kill -9 $$"}).message() == "sh was ended by signal 9");
  Status missing = t.Run({"/no/such/program"});
  CHECK(missing.message().find("cannot start /no/such/program") != std::string::npos);
}

TEST_CASE("a hook may write more than a pipe holds") {
  Fixture t;
  CHECK(t.Run({"sh", "-c", "head -c 500000 /dev/zero; exit 0"}).ok());
}

TEST_CASE("a hook that does not end is killed with what it started") {
  Fixture t;
  auto result = t.Begin({"sh", "-c", "sleep 1000 & echo $!; wait"});
  for (int i = 0; i < 20; ++i) {
    t.io.restart();
    t.io.run_one_for(std::chrono::milliseconds(10));
  }
  CHECK_FALSE(result->has_value());
  t.clock.Advance(std::chrono::seconds(30));
  t.RunUntil([&] { return result->has_value(); });
  CHECK(absl::IsDeadlineExceeded(**result));
  const std::string message((*result)->message());
  const int child = std::stoi(message.substr(message.rfind(' ') + 1));
  t.RunUntil([&] { return ::kill(child, 0) != 0; });
}

TEST_CASE("a hook that is cancelled is killed") {
  Fixture t;
  auto result = t.Begin({"sleep", "1000"});
  for (int i = 0; i < 20; ++i) {
    t.io.restart();
    t.io.run_one_for(std::chrono::milliseconds(10));
  }
  t.cancel.emit(asio::cancellation_type::terminal);
  t.RunUntil([&] { return result->has_value(); });
  CHECK_FALSE((*result)->ok());
}

}  // namespace
}  // namespace ctr::hook_test
