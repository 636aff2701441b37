#include "agent/model/isolation.h"

#include <algorithm>
#include <utility>

#include <doctest/doctest.h>

#include "agent/model/class_config.h"

namespace ctr {
namespace {

using Strings = std::vector<std::string>;

Strings LoosenedBy(const Security& security, const std::vector<Volume>& volumes = {}) {
  ClassConfig config;
  config.security = security;
  config.volumes = volumes;
  return Loosened(config);
}

Security Changed(Strings add, Strings drop = {}) {
  Security security;
  security.cap_add = std::move(add);
  security.cap_drop = std::move(drop);
  return security;
}

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
  CHECK(CapabilitiesWith(Changed({}, {"ALL"})).empty());
  CHECK(CapabilitiesWith(Changed({"CAP_CHOWN"}, {"ALL"})) == Strings{"CAP_CHOWN"});
  CHECK(Has(CapabilitiesWith(Changed({"CAP_NET_RAW"})), "CAP_NET_RAW"));
  CHECK(!Has(CapabilitiesWith(Changed({}, {"CAP_CHOWN"})), "CAP_CHOWN"));
  CHECK(CapabilitiesWith(Changed({"ALL"})) == KnownCapabilities());
  CHECK(CapabilitiesOf(Changed({"ALL"}, {"CAP_KILL"}), {"CAP_KILL", "CAP_BPF"}) ==
        Strings{"CAP_BPF"});
}

TEST_CASE("capabilities are named with or without CAP_, in any case") {
  CHECK(*ParseCapability("net_raw") == "CAP_NET_RAW");
  CHECK(*ParseCapability("CAP_NET_RAW") == "CAP_NET_RAW");
  CHECK(*ParseCapability("all") == "ALL");
  for (const char* text : {"", "CAP_", "NETRAW", "CAP_ALL"}) CHECK(!ParseCapability(text).ok());
}

TEST_CASE("what loosens an instance is said in words, and nothing by default") {
  CHECK(Loosened(ClassConfig()).empty());
  // Fewer capabilities, one that is there anyway, and memory loosen nothing.
  CHECK(LoosenedBy(Changed({"CAP_CHOWN"}, {"CAP_KILL"}), {{"/tmp", "", false, 4096}}).empty());
  CHECK(LoosenedBy(Changed({"CAP_NET_RAW", "CAP_SYS_PTRACE"})) ==
        Strings{"it may have more capabilities (cap_add): NET_RAW, SYS_PTRACE"});
  Security loose = Changed({"ALL"});
  loose.seccomp = loose.masked_paths = loose.no_new_privileges = false;
  loose.apparmor = "unconfined";
  const Strings all = LoosenedBy(loose, {{"/a", "/srv", true, 0}, {"/b", "/var", false, 0}});
  CHECK(all == Strings{"it may have every capability (cap_add)",
                       "no system call is filtered (seccomp)",
                       "setuid programs raise privileges (no_new_privileges)",
                       "/proc and /sys are not masked (systempaths)",
                       "no AppArmor profile holds (apparmor)", "it reads the host's /srv (volume)",
                       "it writes the host's /var (volume)"});
  ClassConfig loopback;
  loopback.dial = Dial::kLoopback;
  CHECK(Loosened(loopback) ==
        Strings{"what listens on its 127.0.0.1 alone is reached from outside, too (dial)"});
}

}  // namespace ctr
