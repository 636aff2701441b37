#include "agent/runtime/containerd/internet.h"

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("a container's spec tells whether it was made with a way out") {
  CHECK(IsMadeWithInternet(R"({"linux":{"namespaces":[{"type":"pid"},
                               {"type":"network","path":"/proc/7/fd/9"}]}})"));
  for (const char* none :
       {R"({"linux":{"namespaces":[{"type":"pid"},{"type":"network"}]}})",
        R"({"linux":{"namespaces":[{"type":"pid","path":"/proc/7/ns/pid"}]}})",
        R"({"linux":{"namespaces":[1,"network"]}})", R"({"linux":{}})", "[]", ""}) {
    CAPTURE(none);
    CHECK_FALSE(IsMadeWithInternet(none));
  }
}

}  // namespace ctr
