#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

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

TEST_CASE("a program that is there and does not run is not well") {
  char folder[] = "/tmp/ctr-doctor-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const auto write = [&](const std::string& name, const char* text) {
    const std::string path = folder + ("/" + name);
    std::ofstream(path) << text;
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  };
  write("runc", "#!/bin/sh\nexit 3\n");
  write("nft", "\x7f garbage");
  write("containerd", "#!/bin/sh\necho containerd somewhere 1.2.3 x\n");
  const std::string before = ::getenv("PATH");
  ::setenv("PATH", (folder + (":" + before)).c_str(), 1);
  const std::vector<Finding> findings = CheckPrograms();
  ::setenv("PATH", before.c_str(), 1);
  std::filesystem::remove_all(folder);
  const auto of = [&](const std::string& check) {
    return *std::find_if(findings.begin(), findings.end(),
                         [&](const Finding& finding) { return finding.check == check; });
  };
  CHECK(of("containerd").outcome == Finding::Outcome::kOk);
  CHECK(of("containerd").detail == folder + std::string("/containerd, 1.2.3"));
  CHECK(of("runc").outcome == Finding::Outcome::kMissing);
  CHECK(of("runc").detail.starts_with(folder + std::string("/runc does not run: ")));
  CHECK_FALSE(of("runc").advice.empty());
  CHECK(of("nft").outcome == Finding::Outcome::kWarning);
  CHECK(of("nft").detail.find("/nft does not run: ") != std::string::npos);
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
