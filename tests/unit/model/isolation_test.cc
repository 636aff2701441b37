#include "agent/model/isolation.h"

#include <algorithm>

#include <doctest/doctest.h>

namespace ctr {
namespace {

using Strings = std::vector<std::string>;

Strings CapabilitiesWith(const Security& security) {
  return CapabilitiesOf(security, KnownCapabilities());
}

bool Has(const Strings& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

}  // namespace

TEST_CASE("the default is Docker's, less NET_RAW, MKNOD and AUDIT_WRITE, in the kernel's order") {
  CHECK(DefaultCapabilities().size() == 11);
  for (const char* capability : {"CAP_NET_RAW", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SYS_ADMIN"}) {
    CHECK(!Has(DefaultCapabilities(), capability));
  }
  CHECK(CapabilitiesWith({}) == DefaultCapabilities());
  CHECK(KnownCapabilities().size() == 41);
  CHECK(KnownCapabilities()[21] == "CAP_SYS_ADMIN");
  CHECK(KnownCapabilities()[40] == "CAP_CHECKPOINT_RESTORE");
}

TEST_CASE("capabilities are added and dropped as Docker does it") {
  CHECK(CapabilitiesWith({.cap_drop = {"ALL"}}).empty());
  CHECK(CapabilitiesWith({.cap_add = {"CAP_CHOWN"}, .cap_drop = {"ALL"}}) == Strings{"CAP_CHOWN"});
  CHECK(Has(CapabilitiesWith({.cap_add = {"CAP_NET_RAW"}}), "CAP_NET_RAW"));
  CHECK(!Has(CapabilitiesWith({.cap_drop = {"CAP_CHOWN"}}), "CAP_CHOWN"));
  CHECK(CapabilitiesWith({.cap_add = {"ALL"}}) == KnownCapabilities());
  CHECK(CapabilitiesOf({.cap_add = {"ALL"}, .cap_drop = {"CAP_KILL"}}, {"CAP_KILL", "CAP_BPF"}) ==
        Strings{"CAP_BPF"});
}

TEST_CASE("capabilities are named with or without CAP_, in any case") {
  CHECK(*ParseCapability("net_raw") == "CAP_NET_RAW");
  CHECK(*ParseCapability("CAP_NET_RAW") == "CAP_NET_RAW");
  CHECK(*ParseCapability("all") == "ALL");
  for (const char* text : {"", "CAP_", "NETRAW", "CAP_ALL"}) CHECK(!ParseCapability(text).ok());
}

TEST_CASE("what loosens an instance is said in words, and nothing by default") {
  CHECK(Loosened({}, {}).empty());
  // Fewer capabilities, one that is there anyway, and memory loosen nothing.
  CHECK(Loosened({.cap_add = {"CAP_CHOWN"}, .cap_drop = {"CAP_KILL"}}, {{.path = "/tmp"}}).empty());
  CHECK(Loosened({.cap_add = {"CAP_NET_RAW", "CAP_SYS_PTRACE"}}, {}) ==
        Strings{"it may have more capabilities (cap_add): NET_RAW, SYS_PTRACE"});
  const Strings all =
      Loosened({.cap_add = {"ALL"},
                .seccomp = false,
                .masked_paths = false,
                .no_new_privileges = false,
                .apparmor = "unconfined"},
               {{.path = "/a", .host = "/srv", .read_only = true}, {.path = "/b", .host = "/var"}});
  CHECK(all == Strings{"it may have every capability (cap_add)",
                       "no system call is filtered (seccomp)",
                       "setuid programs raise privileges (no_new_privileges)",
                       "/proc and /sys are not masked (systempaths)",
                       "no AppArmor profile holds (apparmor)", "it reads the host's /srv (volume)",
                       "it writes the host's /var (volume)"});
}

}  // namespace ctr
