#include "agent/runtime/seccomp.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>

// Generated from seccomp/default.json.
extern const char kSeccompProfile[];

namespace ctr {
namespace {

using nlohmann::json;

bool Contains(const json& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// A condition that is not named holds for `includes` and does not for `excludes`, so the two are
// read apart.
const json& Condition(const json& rule, const char* when, const char* name) {
  static const json kNone = json::array();
  auto conditions = rule.find(when);
  if (conditions == rule.end()) return kNone;
  auto condition = conditions->find(name);
  return condition == conditions->end() ? kNone : *condition;
}

bool Applies(const json& rule, const std::vector<std::string>& capabilities,
             const Platform& platform, KernelVersion kernel) {
  auto has_capability = [&](const json& name) {
    return std::find(capabilities.begin(), capabilities.end(), name.get<std::string>()) !=
           capabilities.end();
  };
  const json& with_caps = Condition(rule, "includes", "caps");
  const json& with_arches = Condition(rule, "includes", "arches");
  const json& with_kernel = Condition(rule, "includes", "minKernel");
  const json& without_caps = Condition(rule, "excludes", "caps");
  if (!std::all_of(with_caps.begin(), with_caps.end(), has_capability)) return false;
  if (!with_arches.empty() && !Contains(with_arches, platform.architecture)) return false;
  if (with_kernel.is_string() && kernel < ParseKernelVersion(with_kernel)) return false;
  if (std::any_of(without_caps.begin(), without_caps.end(), has_capability)) return false;
  return !Contains(Condition(rule, "excludes", "arches"), platform.architecture);
}

json Architectures(const json& profile, const Platform& platform) {
  json architectures = json::array();
  if (platform.seccomp_architecture.empty()) return architectures;
  architectures.push_back(platform.seccomp_architecture);
  for (const json& entry : profile.at("archMap")) {
    if (entry.at("architecture") != platform.seccomp_architecture) continue;
    for (const json& sub : entry.at("subArchitectures")) architectures.push_back(sub);
  }
  return architectures;
}

}  // namespace

KernelVersion ParseKernelVersion(const std::string& release) {
  KernelVersion version;
  if (std::sscanf(release.c_str(), "%d.%d", &version.major, &version.minor) != 2) return {};
  return version;
}

json DefaultSeccompProfile() { return json::parse(kSeccompProfile); }

std::vector<json> ArgumentIsNone(int index, uint32_t mask, const std::vector<uint32_t>& values) {
  std::vector<json> conditions;
  // Numbers that have the same in some bits of the mask, and those halved by the next one as long
  // as a value is among them.
  struct Block {
    uint32_t bits, fixed;
  };
  std::vector<Block> blocks = {{0, 0}};
  while (!blocks.empty()) {
    const auto [bits, fixed] = blocks.back();
    blocks.pop_back();
    const bool is_free = std::none_of(values.begin(), values.end(),
                                      [&](uint32_t value) { return (value & bits) == fixed; });
    if (is_free) {
      conditions.push_back(
          {{"index", index}, {"value", bits}, {"valueTwo", fixed}, {"op", "SCMP_CMP_MASKED_EQ"}});
    } else if (bits != mask) {
      const uint32_t next = std::bit_floor(mask & ~bits);
      blocks.push_back({bits | next, fixed});
      blocks.push_back({bits | next, fixed | next});
    }
  }
  return conditions;
}

json TranslateSeccomp(const json& profile, const std::vector<std::string>& capabilities,
                      const Platform& platform, KernelVersion kernel) {
  json seccomp = {{"defaultAction", profile.at("defaultAction")},
                  {"defaultErrnoRet", profile.at("defaultErrnoRet")},
                  {"architectures", Architectures(profile, platform)},
                  {"syscalls", json::array()}};
  for (const json& rule : profile.at("syscalls")) {
    if (!Applies(rule, capabilities, platform, kernel)) continue;
    json translated = {{"names", rule.at("names")}, {"action", rule.at("action")}};
    for (const char* key : {"args", "errnoRet"}) {
      if (rule.contains(key)) translated[key] = rule[key];
    }
    if (!rule.contains("argsExcept")) {
      seccomp["syscalls"].push_back(std::move(translated));
      continue;
    }
    const json& except = rule["argsExcept"];
    for (json& condition :
         ArgumentIsNone(except.at("index"), except.at("mask"), except.at("values"))) {
      translated["args"] = json::array({std::move(condition)});
      seccomp["syscalls"].push_back(translated);
    }
  }
  return seccomp;
}

}  // namespace ctr
