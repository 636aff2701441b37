#include "agent/runtime/apparmor.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

namespace ctr {
namespace {

namespace fs = std::filesystem;

// A /sys and an /etc, and a PATH in which only what the test puts there is found.
class AppArmorFixture {
 public:
  AppArmorFixture() {
    char folder[] = "/tmp/ctr-apparmor-XXXXXX";
    REQUIRE(::mkdtemp(folder) != nullptr);
    folder_ = folder;
    fs::create_directories(folder_ / "bin");
    path_ = ::getenv("PATH");
    ::setenv("PATH", (folder_ / "bin").c_str(), 1);
  }
  ~AppArmorFixture() {
    ::setenv("PATH", path_.c_str(), 1);
    fs::remove_all(folder_);
  }

  void Write(const std::string& name, const std::string& text) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  // An apparmor_parser that ends with this status.
  void WriteParser(const std::string& script) {
    Write("bin/apparmor_parser", "#!/bin/sh\n" + script + "\n");
    fs::permissions(folder_ / "bin/apparmor_parser", fs::perms::owner_all);
  }
  AppArmor Load() { return LoadAppArmor(folder_ / "sys", folder_ / "etc"); }

  fs::path folder_;
  std::string path_;
};

constexpr char kEnabled[] = "sys/module/apparmor/parameters/enabled";

}  // namespace

TEST_CASE_FIXTURE(AppArmorFixture, "a kernel without AppArmor needs no profile, and no warning") {
  AppArmor apparmor = Load();
  CHECK(!apparmor.enabled);
  CHECK(apparmor.profile.empty());
  CHECK(apparmor.warning.empty());
  Write(kEnabled, "N\n");
  CHECK(!Load().enabled);
}

TEST_CASE_FIXTURE(AppArmorFixture, "the profile is loaded by apparmor_parser, by its text") {
  Write(kEnabled, "Y\n");
  Write("etc/apparmor.d/tunables/global", "");
  WriteParser("test \"$1\" = -Kr && while read -r line; do echo \"$line\"; done < \"$2\" > \"" +
              (folder_ / "loaded").string() + "\"");
  AppArmor apparmor = Load();
  CHECK(apparmor.profile == kAppArmorProfile);
  CHECK(apparmor.warning.empty());
  std::ifstream loaded(folder_ / "loaded");
  std::string first;
  std::getline(loaded, first);
  CHECK(first == "#include <tunables/global>");
}

TEST_CASE_FIXTURE(AppArmorFixture,
                  "without apparmor_parser there is a warning that says what to do") {
  Write(kEnabled, "Y\n");
  AppArmor apparmor = Load();
  CHECK(apparmor.enabled);
  CHECK(apparmor.profile.empty());
  CHECK(apparmor.warning.find("install the package apparmor") != std::string::npos);
  Write("sys/kernel/security/apparmor/profiles", "other (enforce)\nctr-default (enforce)\n");
  apparmor = Load();
  CHECK(apparmor.profile == kAppArmorProfile);
  CHECK(apparmor.warning.find("an earlier one holds") != std::string::npos);
}

TEST_CASE_FIXTURE(AppArmorFixture, "a profile that is refused leaves instances without one") {
  Write(kEnabled, "Y\n");
  WriteParser("exit 1");
  AppArmor apparmor = Load();
  CHECK(apparmor.profile.empty());
  CHECK(apparmor.warning.find("instances run without one") != std::string::npos);
}

TEST_CASE("the profile builds on what the host's AppArmor has") {
  CHECK(AppArmorProfileText({}).starts_with("@{PROC}=/proc/\n\nprofile ctr-default "));
  const std::string text = AppArmorProfileText({.abi = true, .tunables = true, .base = true});
  CHECK(text.starts_with("abi <abi/3.0>,\n#include <tunables/global>\n"));
  CHECK(text.find("#include <abstractions/base>") != std::string::npos);
  CHECK(text.find("deny network alg") != std::string::npos);
}

}  // namespace ctr
