#include "agent/network/resolv_conf.h"

#include <doctest/doctest.h>

namespace ctr {
namespace {

std::string Made(std::string_view host, bool has_ipv6 = false, const std::string& own = "") {
  const auto is_own = [&](const IpRange& address) { return address.ToString() == own; };
  std::string text = FormatResolvConf(ForInstances(ParseResolvConf(host), is_own, has_ipv6));
  return text.substr(text.find('\n') + 1);
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

}  // namespace ctr
