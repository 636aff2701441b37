// The small forms that files, flags and images use: each line by every parser. What is read and
// written is read as the same.
#include <cmath>

#include "agent/base/duration.h"
#include "agent/base/signal_name.h"
#include "agent/config/agent_config.h"
#include "agent/config/memory_size.h"
#include "agent/model/names.h"
#include "agent/model/reference.h"
#include "agent/tar/outcome.h"
#include "tests/fuzz/fuzz.h"

namespace ctr {
namespace {

void CheckDuration(std::string_view text) {
  const StatusOr<Duration> duration = ParseDuration(text);
  if (!duration.ok()) return;
  CTR_HOLDS(*duration >= Duration::zero());
  const StatusOr<Duration> again = ParseDuration(FormatDuration(*duration));
  CTR_HOLDS(again.ok() && *again == *duration);
}

void CheckMemorySize(std::string_view text) {
  const StatusOr<int64_t> bytes = ParseMemorySize(text);
  if (!bytes.ok()) return;
  CTR_HOLDS(*bytes >= 0);
  const StatusOr<int64_t> again = ParseMemorySize(FormatMemorySize(*bytes));
  CTR_HOLDS(again.ok() && *again == *bytes);
}

void CheckReference(std::string_view text) {
  const StatusOr<std::string> full = NormalizeReference(text);
  if (!full.ok()) {
    CTR_HOLDS(full.status().message().find('\n') == absl::string_view::npos);
    return;
  }
  const StatusOr<std::string> again = NormalizeReference(*full);
  CTR_HOLDS(again.ok() && *again == *full);
}

void CheckAddresses(std::string_view text) {
  if (const StatusOr<HttpAddress> address = ParseHttpAddress(text); address.ok()) {
    const StatusOr<HttpAddress> again = ParseHttpAddress(address->ToString());
    CTR_HOLDS(again.ok() && again->ToString() == address->ToString());
  }
  if (const StatusOr<Ipv4Range> range = ParseIpv4Range(text); range.ok()) {
    const StatusOr<Ipv4Range> again = ParseIpv4Range(range->ToString());
    CTR_HOLDS(again.ok() && again->base == range->base && again->prefix == range->prefix);
    CTR_HOLDS(range->Contains(range->base) && range->Overlaps(*range));
  }
}

void CheckLine(std::string_view text) {
  CheckDuration(text);
  CheckMemorySize(text);
  CheckReference(text);
  CheckAddresses(text);
  if (const std::optional<int> signal = ParseSignal(text)) CTR_HOLDS(*signal >= 1 && *signal <= 64);
  CTR_HOLDS(CheckDnsLabel(text, "ID").ok() == IsDnsLabel(text));
  ParseLoopbackRange(text).IgnoreError();
  ParseSocketPath(text).IgnoreError();
  CheckRunDir(text).IgnoreError();
  if (const StatusOr<tar::Totals> totals = tar::ParseOutcome(text); totals.ok()) {
    CTR_HOLDS(tar::ParseOutcome(tar::OutcomeText(totals)).ok());
  }
}

}  // namespace

void Fuzz(std::string_view input) {
  while (!input.empty()) {
    const size_t end = input.find('\n');
    CheckLine(input.substr(0, end));
    if (end == std::string_view::npos) return;
    input.remove_prefix(end + 1);
  }
}

}  // namespace ctr
