#include "agent/doctor/finding.h"

#include <nlohmann/json.hpp>

namespace ctr {

const char* OutcomeName(Finding::Outcome outcome) {
  switch (outcome) {
    case Finding::Outcome::kOk:
      return "ok";
    case Finding::Outcome::kWarning:
      return "warning";
    case Finding::Outcome::kMissing:
      return "missing";
  }
  return "";
}

std::string ToJson(const std::vector<Finding>& findings) {
  using Json = nlohmann::ordered_json;
  Json all = Json::array();
  for (const Finding& finding : findings) {
    all.push_back({{"check", finding.check},
                   {"outcome", OutcomeName(finding.outcome)},
                   {"detail", finding.detail},
                   {"advice", finding.advice}});
  }
  return Json{{"findings", std::move(all)}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace ctr
