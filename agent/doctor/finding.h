#pragma once

#include <string>
#include <vector>

namespace ctr {

// What one check of `ctr doctor` found.
struct Finding {
  enum class Outcome {
    kOk,
    kWarning,  // ctr runs, and lacks something that it could use
    kMissing,  // ctr needs it
  };

  std::string check;  // a word or two: "containerd"
  Outcome outcome = Outcome::kOk;
  std::string detail;  // what was found
  std::string advice;  // what to do; "" if it is well
};

// "ok", "warning", "missing".
const char* OutcomeName(Finding::Outcome outcome);

// An object with the array `findings`, for programs.
std::string ToJson(const std::vector<Finding>& findings);

}  // namespace ctr
