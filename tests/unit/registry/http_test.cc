#include "agent/registry/http.h"

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("a name that can't be resolved may be another time: the DNS server may just be away") {
  // Longer than a label may be: nobody is asked for it.
  const HttpRequest request{.url = "http://" + std::string(70, 'a') + ".invalid/",
                            .is_loopback = true};
  const std::atomic<bool> abandoned = false;
  Status status = HttpFetch(request, 1000, nullptr, abandoned).status();
  CHECK(absl::IsUnavailable(status));
  CHECK(status.message().find("check the name, and the host's DNS") != std::string::npos);
}

}  // namespace ctr
