#include "agent/base/oom_score.h"

#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/base/read_file.h"

namespace ctr {
namespace {

int ScoreIn(const std::string& file) {
  int score = 0;
  return absl::SimpleAtoi(ReadFirstLine(file), &score) ? score : 0;
}

// Needs CAP_SYS_RESOURCE to lower it.
void Write(const std::string& file, int score) { std::ofstream(file) << score << std::flush; }

}  // namespace

void LowerOomScore(int score, const std::string& file) {
  if (ScoreIn(file) > score) Write(file, score);
}

void ResetOomScore(int pid) {
  if (ScoreIn("/proc/self/oom_score_adj") < 0)
    Write(absl::StrCat("/proc/", pid, "/oom_score_adj"), 0);
}

}  // namespace ctr
