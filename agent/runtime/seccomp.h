#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "agent/runtime/platform.h"

namespace ctr {

struct KernelVersion {
  int major = 0;
  int minor = 0;

  auto operator<=>(const KernelVersion&) const = default;
};

// A kernel release such as "6.1.0-13-amd64"; 0.0 if it is not one.
KernelVersion ParseKernelVersion(const std::string& release);

// Docker's default profile (seccomp/default.json, compiled in), parsed. A broken one is a bug.
nlohmann::json DefaultSeccompProfile();

// Conditions on the argument `index`, of which one holds for each number that has none of `values`
// in the bits of `mask`, whatever its others are: a filter compares either all 64 bits, which are
// more than the kernel looks at, or those of a mask with one value.
std::vector<nlohmann::json> ArgumentIsNone(int index, uint32_t mask,
                                           const std::vector<uint32_t>& values);

// A profile of Docker's form as the runtime spec's `linux.seccomp`: its rules for this platform and
// kernel, and for a process with these capabilities in its bounding set. Beyond Docker's, a rule
// may have `argsExcept`, {"index", "mask", "values"}: see ArgumentIsNone.
nlohmann::json TranslateSeccomp(const nlohmann::json& profile,
                                const std::vector<std::string>& capabilities,
                                const Platform& platform, KernelVersion kernel);

}  // namespace ctr
