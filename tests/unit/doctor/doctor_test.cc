#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "agent/doctor/host_checks.h"

namespace ctr {

TEST_CASE("each version of cgroups needs its own controllers") {
  using Outcome = Finding::Outcome;
  CHECK(JudgeCgroups(true, {"cpuset", "cpu", "io", "memory", "pids"}).outcome == Outcome::kOk);
  CHECK(JudgeCgroups(false, {"cpu", "memory", "pids", "freezer", "devices"}).outcome ==
        Outcome::kOk);
  const Finding finding = JudgeCgroups(true, {"cpu", "pids"});
  CHECK(finding.outcome == Outcome::kMissing);
  CHECK(finding.detail == "v2 without memory");
  CHECK_FALSE(finding.advice.empty());
  CHECK(JudgeCgroups(false, {"cpu", "memory", "pids"}).detail == "v1 without freezer devices");
}

TEST_CASE("containerd's program is not needed where instances live in somebody else's") {
  using Outcome = Finding::Outcome;
  const Finding missing = {"containerd", Outcome::kMissing, "there is no program containerd", "x"};
  CHECK(JudgeContainerd(missing, "private").outcome == Outcome::kMissing);
  CHECK(JudgeContainerd(missing, "").outcome == Outcome::kMissing);
  const Finding elsewhere = JudgeContainerd(missing, "/run/containerd/containerd.sock");
  CHECK(elsewhere.outcome == Outcome::kWarning);
  CHECK_FALSE(elsewhere.advice.empty());
}

TEST_CASE("everything is looked at, and what is not well says what to do") {
  const std::vector<Finding> findings = CheckHost("/var/lib/ctr");
  CHECK(findings.size() > 12);
  for (const Finding& finding : findings) {
    CAPTURE(finding.check);
    CHECK_FALSE(finding.detail.empty());
    CHECK((finding.outcome == Finding::Outcome::kOk) == finding.advice.empty());
  }
  const auto json = nlohmann::json::parse(ToJson(findings));
  CHECK(json["findings"].size() == findings.size());
  CHECK(json["findings"][0]["check"] == "containerd");
}

}  // namespace ctr
