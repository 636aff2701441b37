#include "agent/runtime/containerd/exec_spec.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace ctr {

TEST_CASE("an exec's variables take the places of the container's, and stand in its spec once") {
  const nlohmann::json container = {
      {"process", {{"env", {"PATH=/bin", "A=container"}}, {"cwd", "/"}}}};
  auto text =
      ExecProcessText(container.dump(), {.argv = {"true"}, .env = {{"A", "x"}, {"B", "y"}}});
  REQUIRE(text.ok());
  CHECK(nlohmann::json::parse(*text)["env"] == nlohmann::json({"PATH=/bin", "A=x", "B=y"}));
}

TEST_CASE("at its limit of processes an instance can't run more, and what to do is said") {
  // What runc 1.1 says, depending on how far it came.
  for (const char* runc :
       {"OCI runtime exec failed: exec failed: unable to start container process: read init-p: "
        "connection reset by peer: unknown",
        "OCI runtime exec failed: exec failed: unable to start container process: error starting "
        "setns process: fork/exec /proc/self/exe: resource temporarily unavailable: unknown"}) {
    const Status status = ExecError(absl::UnknownError(runc), {.argv = {"/bin/ls"}});
    CHECK(status.code() == absl::StatusCode::kResourceExhausted);
    CHECK(status.message().find("\"/bin/ls\"") != std::string::npos);
    CHECK(status.message().find("raise resources.pids") != std::string::npos);
  }
}

}  // namespace ctr
