#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cli/agent_program.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

constexpr char kOk[] = "ok";
constexpr char kMissing[] = "missing";

const char* OutcomeName(v1::Finding::Outcome outcome) {
  if (outcome == v1::Finding::OUTCOME_OK) return kOk;
  return outcome == v1::Finding::OUTCOME_MISSING ? kMissing : "warning";
}

Json FindingsOf(const v1::Diagnosis& diagnosis) {
  Json findings = Json::array();
  for (const v1::Finding& finding : diagnosis.findings()) {
    findings.push_back({{"check", finding.check()},
                        {"outcome", OutcomeName(finding.outcome())},
                        {"detail", finding.detail()},
                        {"advice", finding.advice()}});
  }
  return findings;
}

// Without an agent that answers, its program looks at the host alone, as the one who calls.
StatusOr<Json> FindingsWithoutAgent() {
  CTR_ASSIGN_OR_RETURN(const std::string text, RunAgentProgram("--doctor"));
  Json answer = Json::parse(text, nullptr, false);
  if (!answer.is_object() || !answer.contains("findings") || !answer["findings"].is_array()) {
    return absl::InternalError("ctr-agent --doctor gave no findings: is it of another version?");
  }
  return answer["findings"];
}

std::string Text(const Json& finding, const char* key) { return Printable(finding.value(key, "")); }

// A line each, and under it what to do.
std::string Render(const Json& findings, Style style) {
  size_t widest = 0;
  for (const Json& finding : findings) widest = std::max(widest, Text(finding, "check").size());
  std::string text;
  for (const Json& finding : findings) {
    std::string outcome = Text(finding, "outcome");
    const Colour colour = outcome == kOk        ? Colour::kGreen
                          : outcome == kMissing ? Colour::kRed
                                                : Colour::kYellow;
    outcome.resize(std::max<size_t>(outcome.size(), 7), ' ');
    if (style == Style::kColoured) outcome = Coloured(outcome, colour);
    std::string check = Text(finding, "check");
    check.resize(widest, ' ');
    absl::StrAppend(&text, outcome, "  ", check, "  ", Text(finding, "detail"), "\n");
    if (const std::string advice = Text(finding, "advice"); !advice.empty()) {
      absl::StrAppend(&text, std::string(widest + 11, ' '), "-> ", advice, "\n");
    }
  }
  return text;
}

int Doctor(Context& context) {
  StatusOr<v1::Diagnosis> diagnosis = context.Call(&Client::Stub::Diagnose, v1::DiagnoseRequest());
  StatusOr<Json> findings = Json();
  if (diagnosis.ok()) {
    findings = FindingsOf(*diagnosis);
  } else if (absl::IsUnavailable(diagnosis.status()) ||
             absl::IsPermissionDenied(diagnosis.status())) {
    findings = FindingsWithoutAgent();
    // What the agent alone can tell is the error that stays, if its program is not there either.
    if (!findings.ok()) return context.Fail(diagnosis.status());
    findings->push_back({{"check", "agent"},
                         {"outcome", "warning"},
                         {"detail", std::string(diagnosis.status().message())},
                         {"advice", "start it; what it alone can tell is not told here"}});
  } else {
    return context.Fail(diagnosis.status());
  }
  const bool ok = std::none_of(findings->begin(), findings->end(), [](const Json& finding) {
    return finding.value("outcome", "") == kMissing;
  });
  if (context.json()) {
    context.PrintJson({{"ok", ok}, {"findings", *findings}});
  } else {
    context.PrintText(Render(*findings, context.style()));
  }
  return ok ? 0 : 1;
}

}  // namespace

Action DefineDoctor(CLI::App&) { return Doctor; }

}  // namespace ctr::cli
