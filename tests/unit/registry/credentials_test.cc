#include "agent/registry/credentials.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("a credential helper that writes without end is told as such, at once") {
  char folder[] = "/tmp/ctr-test-helper-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::filesystem::path path = folder;
  std::ofstream(path / "config.json") << R"({"credsStore": "chatty"})";
  std::ofstream(path / "docker-credential-chatty") << "#!/bin/sh\nexec yes\n";
  std::filesystem::permissions(path / "docker-credential-chatty", std::filesystem::perms::all);
  const std::string before = ::getenv("PATH");
  ::setenv("PATH", (path.string() + ":" + before).c_str(), 1);
  const auto begun = std::chrono::steady_clock::now();
  const Status refused = LookUpLogin(path / "config.json", "registry.example").status();
  ::setenv("PATH", before.c_str(), 1);
  std::filesystem::remove_all(path);
  CAPTURE(refused.ToString());
  CHECK(absl::IsFailedPrecondition(refused));
  CHECK(refused.message().find("chatty wrote more than 64 KiB") != std::string::npos);
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(9));
}

}  // namespace ctr
