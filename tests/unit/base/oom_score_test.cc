#include "agent/base/oom_score.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include "agent/base/read_file.h"
#include "agent/base/spawn.h"

namespace ctr {
namespace {

constexpr char kOwn[] = "/proc/self/oom_score_adj";

std::string ScoreOfChild(bool keeps) {
  StatusOr<int> pid = Spawn(
      {.argv = {"sleep", "1000"}, .environment = {"PATH=/usr/bin:/bin"}, .keeps_oom_score = keeps});
  REQUIRE(pid.ok());
  std::string score = ReadFirstLine("/proc/" + std::to_string(*pid) + "/oom_score_adj");
  ::kill(*pid, SIGKILL);
  ::waitpid(*pid, nullptr, 0);
  return score;
}

}  // namespace

TEST_CASE("an OOM score is lowered, and a lower one left") {
  char name[] = "/tmp/ctr-oom-XXXXXX";
  ::close(::mkstemp(name));
  const auto lowered = [&](const char* before) {
    std::ofstream(name) << before << "\n";
    LowerOomScore(kAgentOomScore, name);
    return std::stoi(ReadFirstLine(name));
  };
  CHECK(lowered("0") == -900);
  CHECK(lowered("500") == -900);
  CHECK(lowered("-900") == -900);
  CHECK(lowered("-1000") == -1000);
  std::filesystem::remove(name);
}

TEST_CASE("what we start is killed before us, but for what is as important") {
  const std::string before = ReadFirstLine(kOwn);
  LowerOomScore(-500);
  const std::string ours = ReadFirstLine(kOwn);  // as before, where we may not
  CHECK(ScoreOfChild(true) == ours);
  CHECK(ScoreOfChild(false) == (std::stoi(ours) < 0 ? "0" : ours));
  std::ofstream(kOwn) << before << std::flush;
}

}  // namespace ctr
