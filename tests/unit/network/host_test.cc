#include "agent/network/host.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("what was changed of the kernel's settings is remembered as lines") {
  const std::string text = FormatSettings(
      {{kIpv4Forward, "0", "1"}, {"/proc/sys/net/ipv6/conf/eth0/accept_ra", "1", "2"}});
  CHECK(text == "/proc/sys/net/ipv4/ip_forward 0 1\n/proc/sys/net/ipv6/conf/eth0/accept_ra 1 2\n");
  const std::vector<KernelSetting> read = ParseSettings(text);
  REQUIRE(read.size() == 2);
  CHECK(read[1].path == "/proc/sys/net/ipv6/conf/eth0/accept_ra");
  CHECK(read[1].had == "1");
  CHECK(read[1].wanted == "2");
  CHECK(ParseSettings("/etc/passwd 0 1\nnonsense\n\n/proc/sys/net/x 0\n").empty());
}

TEST_CASE("a setting is given back, unless somebody has changed it since") {
  char path[] = "/tmp/ctr-setting-XXXXXX";
  const int fd = ::mkstemp(path);
  REQUIRE(fd >= 0);
  ::close(fd);
  const auto put = [&](const char* text) { std::ofstream(path) << text; };
  const auto get = [&] {
    std::string text;
    std::ifstream(path) >> text;
    return text;
  };
  put("1\n");
  CHECK(RestoreSetting({path, "0", "1"}).ok());
  CHECK(get() == "0");
  put("2\n");
  CHECK(RestoreSetting({path, "0", "1"}).ok());
  CHECK(get() == "2");
  ::unlink(path);
  CHECK(RestoreSetting({path, "0", "1"}).ok());
}

TEST_CASE("the host's own network is the same as long as nobody changes it") {
  const StatusOr<HostNetwork> first = LookAtHost();
  REQUIRE(first.ok());
  CHECK(first->mtu >= 1280);
  CHECK(first->mtu <= 1500);
  CHECK(*LookAtHost() == *first);
}

}  // namespace ctr
