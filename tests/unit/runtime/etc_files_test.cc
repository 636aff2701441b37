#include "agent/runtime/etc_files.h"

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("an instance knows localhost and itself, and has no nameserver unless it is given one") {
  EtcFiles files = MakeEtcFiles({.hostname = "alice", .addresses = {"169.254.77.2"}});
  CHECK(files.hosts.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
  CHECK(files.hosts.ends_with("\n169.254.77.2\talice\n"));
  CHECK(files.hostname == "alice\n");
  CHECK(files.resolv_conf.empty());
  files = MakeEtcFiles({.hostname = "a", .nameservers = {"192.0.2.1", "2001:db8::1"}});
  CHECK(files.resolv_conf == "nameserver 192.0.2.1\nnameserver 2001:db8::1\n");
}

}  // namespace ctr
