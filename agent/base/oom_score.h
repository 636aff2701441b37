#pragma once

#include <string>

namespace ctr {

// Whom the kernel's OOM killer takes first: a process's adjustment, from -1000 (never) to 1000.

// The agent goes after every instance, and before containerd. Containers begin at 0.
inline constexpr int kAgentOomScore = -900;

// Lowers our own to `score`, unless it is lower. Where that is not allowed it stays as it is.
void LowerOomScore(int score, const std::string& file = "/proc/self/oom_score_adj");

// Takes from a process that has inherited it what ours is below 0.
void ResetOomScore(int pid);

}  // namespace ctr
