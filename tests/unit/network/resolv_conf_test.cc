#include "agent/network/resolv_conf.h"

#include <doctest/doctest.h>

namespace ctr {
namespace {

std::string Made(std::string_view host, bool has_ipv6 = false, const std::string& own = "") {
  const auto is_own = [&](const IpRange& address) { return address.ToString() == own; };
  std::string text = FormatResolvConf(ForInstances(ParseResolvConf(host), is_own, has_ipv6));
  return text.substr(text.find('\n') + 1);
}

ResolvConf Conf(std::string_view host) {
  return ForInstances(ParseResolvConf(host), [](const IpRange&) { return false; }, false);
}

std::string Servers(const std::vector<IpRange>& nameservers) {
  std::string text;
  for (const IpRange& address : nameservers) text += address.ToString() + " ";
  return text;
}

}  // namespace

TEST_CASE("instances get the host's nameservers, search domains and options") {
  CHECK(
      Made("# comment\nnameserver 10.0.0.53\nnameserver\t192.0.2.53 \nsearch a.example b.example\n"
           "options ndots:2 timeout:1\nsortlist 10.0.0.0\n") ==
      "nameserver 10.0.0.53\nnameserver 192.0.2.53\nsearch a.example b.example\n"
      "options ndots:2 timeout:1\n");
}

TEST_CASE("the last search or domain counts, as for the C library") {
  CHECK(Made("nameserver 192.0.2.53\ndomain a.example\nsearch b.example c.example\n") ==
        "nameserver 192.0.2.53\nsearch b.example c.example\n");
}

TEST_CASE("a nameserver that can't be reached from inside is left out") {
  CHECK(Made("nameserver 127.0.0.53\nnameserver 169.254.169.253\nnameserver 192.0.2.53\n") ==
        "nameserver 192.0.2.53\n");
  CHECK(Made("nameserver ::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\n", true) ==
        "nameserver 192.0.2.53\n");
  CHECK(Made("nameserver 192.0.2.1\nnameserver 192.0.2.53\n", false, "192.0.2.1") ==
        "nameserver 192.0.2.53\n");
}

TEST_CASE("an IPv6 nameserver is for instances with IPv6") {
  constexpr char kBoth[] = "nameserver 2001:db8::53\nnameserver 192.0.2.53\n";
  CHECK(Made(kBoth) == "nameserver 192.0.2.53\n");
  CHECK(Made(kBoth, true) == "nameserver 2001:db8::53\nnameserver 192.0.2.53\n");
}

TEST_CASE("where none is left there are public ones, as Docker has them") {
  CHECK(Made("nameserver 127.0.0.53\noptions edns0\n") ==
        "nameserver 8.8.8.8\nnameserver 8.8.4.4\noptions edns0\n");
  CHECK(Made("", true) ==
        "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\n");
}

TEST_CASE("no more nameservers than the C library asks") {
  CHECK(Made("nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
             "nameserver 192.0.2.4\n") ==
        "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n");
}

TEST_CASE("broken lines are passed over") {
  CHECK(Made("nameserver\nnameserver nonsense\nnameserver 10.0.0.0/8\nsearch\n\n \r\n"
             "nameserver 192.0.2.53\r\n") == "nameserver 192.0.2.53\n");
}

TEST_CASE("a host without nameservers for a moment does not send instances to public ones") {
  FollowedResolvConf followed;
  CHECK(followed.Follow(Conf("nameserver 10.0.0.53\n")));
  for (const char* between : {"", "nameserver 127.0.0.53\n"}) {
    CHECK_FALSE(followed.Follow(Conf(between)));
    CHECK(Servers(followed.current().nameservers) == "10.0.0.53 ");
  }
  // But where it stays so, they are better than none.
  int looks = 2;
  while (looks < 1000 && !followed.Follow(Conf(""))) ++looks;
  CHECK(looks == 59);
  CHECK(Servers(followed.current().nameservers) == "8.8.8.8 8.8.4.4 ");
  CHECK(followed.Follow(Conf("nameserver 10.0.0.53\n")));
}

TEST_CASE("a host that begins without nameservers has the public ones at once") {
  FollowedResolvConf followed;
  CHECK(followed.Follow(Conf("")));
  CHECK(Servers(followed.current().nameservers) == "8.8.8.8 8.8.4.4 ");
}

TEST_CASE("a nameserver that the host had before may still be asked") {
  FollowedResolvConf followed;
  CHECK(followed.Follow(Conf("nameserver 10.0.0.53\n")));
  CHECK_FALSE(followed.Follow(Conf("nameserver 10.0.0.53\n")));
  CHECK(followed.Follow(Conf("nameserver 10.1.0.53\n")));
  CHECK(Servers(followed.current().nameservers) == "10.1.0.53 ");
  CHECK(Servers(followed.nameservers()) == "10.1.0.53 10.0.0.53 ");
  CHECK(followed.Follow(Conf("nameserver 10.0.0.53\n")));
  CHECK(Servers(followed.nameservers()) == "10.0.0.53 10.1.0.53 ");
  for (int n = 1; n < 100; ++n) {
    followed.Follow(Conf("nameserver 10.2.0." + std::to_string(n) + "\n"));
  }
  CHECK(followed.nameservers().size() == 12);
  CHECK(followed.nameservers().front().ToString() == "10.2.0.99");
}

}  // namespace ctr
