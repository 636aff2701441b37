#include <string>

#include <doctest/doctest.h>

#include "agent/config/class_file.h"

namespace ctr::class_isolation_test {
namespace {

constexpr char kTop[] = "name = \"web\"\nimage = \"demo:latest\"\n";

ClassConfig Parse(const std::string& settings) {
  StatusOr<ClassConfig> config = ParseClassFile(kTop + settings + "\n", "web.toml");
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  return *std::move(config);
}

// The message that settings from line 3 on are refused with.
std::string RefusalOf(const std::string& settings) {
  StatusOr<ClassConfig> config = ParseClassFile(kTop + settings + "\n", "web.toml");
  INFO(settings);
  REQUIRE(absl::IsInvalidArgument(config.status()));
  return std::string(config.status().message());
}

}  // namespace

TEST_CASE("user, workdir, volumes and security are read") {
  const ClassConfig config = Parse(R"(
user = "app:web"
workdir = "/srv/app/"
[[volume]]
host = "/srv/data"
path = "/data/"
read_only = true
[[volume]]
path = "/run"
tmpfs = true
[[volume]]
path = "/tmp"
tmpfs = true
size = "1GiB"
[security]
cap_add = ["net_raw", "CAP_MKNOD"]
cap_drop = ["all"]
seccomp = "unconfined"
systempaths = "unconfined"
apparmor = "mine"
no_new_privileges = false
)");
  CHECK(config.user == "app:web");
  CHECK(config.workdir == "/srv/app");
  CHECK(config.volumes == std::vector<Volume>{{"/data", "/srv/data", true, 0},
                                              {"/run", "", false, int64_t{64} << 20},
                                              {"/tmp", "", false, int64_t{1} << 30}});
  CHECK(config.security == Security{.cap_add = {"CAP_NET_RAW", "CAP_MKNOD"},
                                    .cap_drop = {"ALL"},
                                    .seccomp = false,
                                    .masked_paths = false,
                                    .no_new_privileges = false,
                                    .apparmor = "mine"});
  const std::string json = SettingsJson(config);
  for (const char* part : {
           R"("user":"app:web","workdir":"/srv/app")",
           R"("volume":[{"path":"/data","host":"/srv/data","read_only":true},)",
           R"({"path":"/run","tmpfs":true,"size":"64MiB"})",
           R"("security":{"cap_add":["CAP_NET_RAW","CAP_MKNOD"],"cap_drop":["ALL"],)"
           R"("seccomp":"unconfined","apparmor":"mine","no_new_privileges":false,)"
           R"("systempaths":"unconfined"})",
       }) {
    CHECK(json.find(part) != std::string::npos);
  }
}

TEST_CASE("what is written as the default is the default") {
  CHECK(Parse("[security]\nseccomp = \"default\"\napparmor = \"default\"").security == Security());
}

TEST_CASE("impossible volumes are refused with their line and what to do") {
  const std::string volume = "[[volume]]\n";
  CHECK(RefusalOf(volume + "path = \"/a\"") ==
        "web.toml:3: volume.host: is missing; write it like host = \"/srv/data\", or tmpfs = true");
  CHECK(RefusalOf(volume + "host = \"/a\"").find("volume.path: is missing") != std::string::npos);
  for (const char* path : {"data", "", "/a/../b", "/./a", "//a", "/", "/proc", "/proc/self",
                           "/sys/fs", "/dev", "/dev/null", "/dev/pts/1", "/a\\nb"}) {
    CHECK(RefusalOf(volume + "host = \"/a\"\npath = \"" + path + "\"")
              .starts_with("web.toml:5: volume.path: "));
  }
  CHECK(
      RefusalOf(volume + "path = \"/a\"\nhost = \"data\"").starts_with("web.toml:5: volume.host"));
  CHECK(
      RefusalOf(volume + "path = \"/a\"\nhost = \"/b\"\n" + volume + "path = \"/a/\"\ntmpfs = true")
          .starts_with("web.toml:7: volume.path: /a is mounted twice"));
  CHECK(RefusalOf(volume + "path = \"/a\"\nhost = \"/b\"\ntmpfs = true").find("exclude") !=
        std::string::npos);
  CHECK(RefusalOf(volume + "path = \"/a\"\nhost = \"/b\"\nsize = \"1MiB\"").find("tmpfs alone") !=
        std::string::npos);
  CHECK(RefusalOf(volume + "path = \"/a\"\ntmpfs = true\nsize = \"1KiB\"").find("at least 4KiB") !=
        std::string::npos);
  CHECK(RefusalOf(volume + "path = \"/a\"\ntmpfs = true\nread_only = true").find("no sense") !=
        std::string::npos);
  CHECK(RefusalOf(volume + "path = \"/a\"\nhost = \"/b\"\nmode = 1").find("unknown key") !=
        std::string::npos);
}

TEST_CASE("impossible users, folders and security are refused") {
  for (const char* user : {"", ":", "a b", "a:b:c", "+5", "-1", "root:+5", "root:-1"}) {
    CHECK(RefusalOf(std::string("user = \"") + user + "\"").starts_with("web.toml:3: user: "));
  }
  CHECK(RefusalOf("user = 1000").starts_with("web.toml:3: user: "));
  for (const char* user :
       {"2147483648", "4294967296", "0:4294967295", "app:99999999999999999999"}) {
    CHECK(RefusalOf(std::string("user = \"") + user + "\"").find("beyond 2147483647") !=
          std::string::npos);
  }
  CHECK(RefusalOf("workdir = \"srv\"").starts_with("web.toml:3: workdir: "));
  CHECK(RefusalOf("[security]\ncap_add = [\"NET_RAWW\"]") ==
        "web.toml:4: security.cap_add: \"NET_RAWW\" is no capability; write it like \"NET_RAW\", "
        "or \"ALL\"");
  CHECK(RefusalOf("[security]\ncap_add = \"NET_RAW\"").starts_with("web.toml:4: security.cap_add"));
  CHECK(RefusalOf("[security]\nseccomp = \"off\"").find("\"default\" or \"unconfined\"") !=
        std::string::npos);
  CHECK(RefusalOf("[security]\napparmor = \"\"").find("security.apparmor") != std::string::npos);
  CHECK(RefusalOf("[security]\nprivileged = true").find("unknown key") != std::string::npos);
}

}  // namespace ctr::class_isolation_test
