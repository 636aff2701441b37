#include "agent/runtime/etc_files.h"

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("an instance knows localhost and itself, and has no nameserver") {
  const EtcFiles files = MakeEtcFiles({.hostname = "alice", .addresses = {"169.254.77.2"}});
  CHECK(files.hosts.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
  CHECK(files.hosts.ends_with("\n169.254.77.2\talice\n"));
  CHECK(files.hostname == "alice\n");
  CHECK(files.resolv_conf.empty());
}

}  // namespace ctr
