#include "agent/runtime/apparmor.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

namespace ctr {
namespace {

namespace fs = std::filesystem;

// A /sys and an /etc, and an apparmor_parser if the test puts one there.
class AppArmorFixture {
 public:
  AppArmorFixture() {
    char folder[] = "/tmp/ctr-apparmor-XXXXXX";
    REQUIRE(::mkdtemp(folder) != nullptr);
    folder_ = folder;
    places_ = {folder_ / "sys", folder_ / "etc", folder_ / "bin/apparmor_parser"};
  }
  ~AppArmorFixture() { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  // An apparmor_parser that ends with this status.
  void WriteParser(const std::string& script) {
    Write("bin/apparmor_parser", "#!/bin/sh\n" + script + "\n");
    fs::permissions(folder_ / "bin/apparmor_parser", fs::perms::owner_all);
  }
  // A kernel with AppArmor, and what it has loaded.
  void Enable(const std::string& profiles) {
    Write("sys/module/apparmor/parameters/enabled", "Y\n");
    Write("sys/kernel/security/apparmor/profiles", profiles);
  }
  AppArmor Load() { return LoadAppArmor(places_); }
  Status Hold() { return HoldAppArmor(places_); }

  fs::path folder_;
  AppArmorPlaces places_;
};

constexpr char kLoaded[] = "other (enforce)\nctr-default (enforce)\n";

}  // namespace

TEST_CASE_FIXTURE(AppArmorFixture, "a kernel without AppArmor needs no profile, and no warning") {
  AppArmor apparmor = Load();
  CHECK(!apparmor.enabled);
  CHECK(apparmor.profile.empty());
  CHECK(apparmor.warning.empty());
  CHECK(Hold().ok());
  Write("sys/module/apparmor/parameters/enabled", "N\n");
  CHECK(!Load().enabled);
}

TEST_CASE_FIXTURE(AppArmorFixture, "where the kernel can't be told profiles there is a warning") {
  Write("sys/module/apparmor/parameters/enabled", "Y\n");
  AppArmor apparmor = Load();
  CHECK(!apparmor.enabled);  // runc thinks so, too
  CHECK(apparmor.warning.find("instances run without a profile") != std::string::npos);
  CHECK(Hold().ok());
}

TEST_CASE_FIXTURE(AppArmorFixture, "the profile is loaded by apparmor_parser, by its text") {
  Enable("");
  Write("etc/apparmor.d/tunables/global", "");
  WriteParser("test \"$1\" = -Kr && while read -r line; do echo \"$line\"; done < \"$2\" > \"" +
              (folder_ / "loaded").string() + "\"");
  AppArmor apparmor = Load();
  CHECK(apparmor.enabled);
  CHECK(apparmor.profile == kAppArmorProfile);
  CHECK(apparmor.warning.empty());
  std::ifstream loaded(folder_ / "loaded");
  std::string first;
  std::getline(loaded, first);
  CHECK(first == "#include <tunables/global>");
}

TEST_CASE_FIXTURE(AppArmorFixture, "nothing starts without the profile, and what to do is said") {
  Enable("other (enforce)\nctr-default (complain)\n");
  AppArmor apparmor = Load();
  CHECK(apparmor.profile == kAppArmorProfile);  // none would be to run unconfined
  CHECK(apparmor.warning.find("no instance starts under it") != std::string::npos);
  CHECK(apparmor.warning.find("install the package apparmor") != std::string::npos);
  CHECK(Hold().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(Hold().message().find("install the package apparmor") != std::string::npos);
  CHECK(Hold().message().find("apparmor = \"unconfined\"") != std::string::npos);
  WriteParser("exit 1");  // refuses the text
  CHECK(Hold().code() == absl::StatusCode::kFailedPrecondition);
  // Installed by now: no restart of the agent is needed.
  WriteParser("exit 0");
  CHECK(Hold().ok());
}

TEST_CASE_FIXTURE(AppArmorFixture, "an earlier profile holds where a new one can't be loaded") {
  Enable(kLoaded);
  CHECK(Load().warning.find("an earlier one holds") != std::string::npos);
  CHECK(Hold().ok());
}

TEST_CASE_FIXTURE(AppArmorFixture,
                  "a profile that was unloaded is loaded again for the next start") {
  Enable(kLoaded);
  WriteParser("echo again >> \"" + (folder_ / "loaded").string() + "\"");
  CHECK(Hold().ok());
  CHECK(!fs::exists(folder_ / "loaded"));
  Enable("other (enforce)\n");  // as aa-teardown does
  CHECK(Hold().ok());
  CHECK(fs::exists(folder_ / "loaded"));
}

TEST_CASE("the profile builds on what the host's AppArmor has") {
  CHECK(AppArmorProfileText({}).starts_with("@{PROC}=/proc/\n\nprofile ctr-default "));
  const std::string text = AppArmorProfileText({.abi = true, .tunables = true, .base = true});
  CHECK(text.starts_with("abi <abi/3.0>,\n#include <tunables/global>\n"));
  CHECK(text.find("#include <abstractions/base>") != std::string::npos);
  CHECK(text.find("deny network alg") != std::string::npos);
}

}  // namespace ctr
