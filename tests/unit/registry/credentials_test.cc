#include "agent/registry/credentials.h"

#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>

namespace ctr {
namespace {

// A login by a credential helper, a shell script in PATH.
class Helper {
 public:
  explicit Helper(const std::string& script) {
    char folder[] = "/tmp/ctr-test-helper-XXXXXX";
    REQUIRE(::mkdtemp(folder) != nullptr);
    folder_ = folder;
    std::ofstream(folder_ / "config.json") << R"({"credsStore": "test"})";
    std::ofstream(folder_ / "docker-credential-test") << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(folder_ / "docker-credential-test", std::filesystem::perms::all);
    ::setenv("PATH", (folder_.string() + ":" + before_).c_str(), 1);
  }
  Helper(const Helper&) = delete;
  ~Helper() {
    ::setenv("PATH", before_.c_str(), 1);
    std::filesystem::remove_all(folder_);
  }

  Status LookUp(bool abandoned = false) {
    const auto begun = std::chrono::steady_clock::now();
    const std::atomic<bool> given_up = abandoned;
    Status status = LookUpLogin(folder_ / "config.json", "registry.example", given_up).status();
    CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(9));
    return status;
  }

 private:
  const std::string before_ = ::getenv("PATH");
  std::filesystem::path folder_;
};

TEST_CASE("a credential helper that writes without end is told as such, at once") {
  const Status refused = Helper("exec yes").LookUp();
  CAPTURE(refused.ToString());
  CHECK(absl::IsFailedPrecondition(refused));
  CHECK(refused.message().find("test wrote more than 64 KiB") != std::string::npos);
}

TEST_CASE("a credential helper that hangs goes with the pull that asked it") {
  CHECK(absl::IsCancelled(Helper("exec sleep 30").LookUp(true)));
  CHECK(absl::IsCancelled(Helper("exec >&-; exec sleep 30").LookUp(true)));
}

}  // namespace
}  // namespace ctr
