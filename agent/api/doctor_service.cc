// `ctr doctor`: what the machine has, and what only a running agent can tell.
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/api/agent_service.h"
#include "agent/base/work.h"
#include "agent/doctor/host_checks.h"

namespace ctr {
namespace {

using Outcome = Finding::Outcome;

Finding AboutSteering(const std::string& steering) {
  if (steering == "sk_lookup") return {"steering", Outcome::kOk, "by sk_lookup", ""};
  return {"steering", Outcome::kWarning, steering,
          "see sk_lookup above; or steering = \"bind\" is what the agent's configuration says"};
}

Finding AboutInternet(const Status& status) {
  if (status.ok()) return {"internet", Outcome::kOk, "its rules are in place", ""};
  return {
      "internet", Outcome::kMissing,
      absl::StrCat("classes with internet = true do not start: ", std::string(status.message())),
      "see to that; the agent tries again within half a minute"};
}

Finding AboutRoom(const Status& room) {
  if (room.ok()) return {"disk room", Outcome::kOk, "changes are taken", ""};
  return {"disk room", Outcome::kWarning, std::string(room.message()),
          "make room: ctr destroy of what fills it, ctr image prune"};
}

v1::Finding::Outcome ToProto(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk:
      return v1::Finding::OUTCOME_OK;
    case Outcome::kWarning:
      return v1::Finding::OUTCOME_WARNING;
    case Outcome::kMissing:
      return v1::Finding::OUTCOME_MISSING;
  }
  return v1::Finding::OUTCOME_UNSPECIFIED;
}

}  // namespace

grpc::ServerUnaryReactor* AgentService::Diagnose(grpc::CallbackServerContext* context,
                                                 const v1::DiagnoseRequest*,
                                                 v1::Diagnosis* response) {
  return Handle(context, [=, this](rpc::CallContext) -> awaitable<Status> {
    std::vector<Finding> findings =
        co_await OnWork(work_, [data_dir = facts_.data_dir] { return CheckHost(data_dir); });
    findings.push_back({"agent", Outcome::kOk, absl::StrCat("version ", facts_.version), ""});
    findings.push_back({"runtime", Outcome::kOk, runtime_.Describe(), ""});
    findings.push_back(AboutRoom(co_await supervisor_.CheckRoom()));
    findings.push_back(AboutSteering(facts_.steering));
    findings.push_back(AboutInternet(facts_.internet()));
    for (const Finding& finding : findings) {
      v1::Finding* told = response->add_findings();
      told->set_check(finding.check);
      told->set_outcome(ToProto(finding.outcome));
      told->set_detail(finding.detail);
      told->set_advice(finding.advice);
    }
    co_return absl::OkStatus();
  });
}

}  // namespace ctr
