#include "cli/usage.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/base/size_text.h"

namespace ctr::cli {
namespace {

double Rounded(double value) { return std::round(value * 10) / 10; }

Usage RateOf(const v1::InstanceStats* before, const v1::InstanceStats& after) {
  Usage usage{.stats = after, .cpu_cores = {}, .requests_per_second = {}};
  if (before == nullptr) return usage;
  const int64_t elapsed_us = after.sampled_at_us() - before->sampled_at_us();
  if (elapsed_us <= 0) return usage;
  // Counters that went back are another agent's.
  if (after.requests() >= before->requests()) {
    usage.requests_per_second = static_cast<double>(after.requests() - before->requests()) * 1e6 /
                                static_cast<double>(elapsed_us);
  }
  const bool same_start = before->instance().generation() == after.instance().generation();
  if (same_start && before->has_cpu_time_us() && after.has_cpu_time_us() &&
      after.cpu_time_us() >= before->cpu_time_us()) {
    usage.cpu_cores = static_cast<double>(after.cpu_time_us() - before->cpu_time_us()) /
                      static_cast<double>(elapsed_us);
  }
  return usage;
}

std::string Percent(double share) { return absl::StrFormat("%.1f%%", share * 100); }

Cell StateCellOf(const std::string& state) {
  if (state == "healthy") return {state, Colour::kGreen};
  if (state == "stopped") return {state, Colour::kDim};
  return {state, Colour::kYellow};
}

std::vector<Cell> RowOf(const Usage& usage) {
  const v1::InstanceStats& stats = usage.stats;
  const v1::Instance& instance = stats.instance();
  const bool limited = stats.has_memory_limit_bytes() && stats.memory_limit_bytes() > 0;
  const double memory_share = limited ? static_cast<double>(stats.memory_bytes()) /
                                            static_cast<double>(stats.memory_limit_bytes())
                                      : 0;
  return {{NameOf(instance)},
          StateCellOf(instance.state()),
          {usage.cpu_cores ? Percent(*usage.cpu_cores) : ""},
          {stats.has_memory_bytes() ? FormatSize(stats.memory_bytes()) : ""},
          {limited ? FormatSize(stats.memory_limit_bytes()) : ""},
          {limited ? Percent(memory_share) : "", memory_share > 0.9 ? Colour::kRed : Colour::kNone},
          {stats.has_processes() ? absl::StrCat(stats.processes()) : ""},
          {absl::StrCat(instance.in_flight())},
          {usage.requests_per_second ? absl::StrFormat("%.1f", *usage.requests_per_second) : ""},
          {absl::StrCat(stats.requests())},
          {absl::StrCat(instance.failures())}};
}

// The first `columns` characters of a line; escape sequences take no room.
std::string Clip(const std::string& line, size_t columns) {
  std::string out;
  size_t width = 0;
  bool escaped = false;
  for (size_t i = 0; i < line.size();) {
    if (line[i] == '\x1b') {
      const size_t end = std::min(line.find('m', i), line.size() - 1) + 1;
      out.append(line, i, end - i);
      escaped = true;
      i = end;
      continue;
    }
    if ((line[i] & 0xC0) != 0x80 && ++width > columns) break;
    out += line[i++];
  }
  return escaped ? out + "\x1b[0m" : out;
}

std::string Summary(const std::vector<Usage>& usages) {
  double cores = 0;
  double requests = 0;
  int64_t memory = 0;
  size_t healthy = 0;
  for (const Usage& usage : usages) {
    cores += usage.cpu_cores.value_or(0);
    requests += usage.requests_per_second.value_or(0);
    memory += usage.stats.memory_bytes();
    healthy += usage.stats.instance().state() == "healthy" ? 1 : 0;
  }
  return absl::StrFormat(
      "instances %d, healthy %d   CPU %s   memory %s   %.1f requests/s   q quits", usages.size(),
      healthy, Percent(cores), FormatSize(memory), requests);
}

}  // namespace

std::vector<Usage> Rates(const v1::ListStatsResponse& before, const v1::ListStatsResponse& after) {
  std::map<std::string, const v1::InstanceStats*> earlier;
  for (const v1::InstanceStats& stats : before.stats()) {
    earlier[NameOf(stats.instance())] = &stats;
  }
  std::vector<Usage> usages;
  for (const v1::InstanceStats& stats : after.stats()) {
    auto found = earlier.find(NameOf(stats.instance()));
    usages.push_back(RateOf(found == earlier.end() ? nullptr : found->second, stats));
  }
  return usages;
}

Json ToJson(const Usage& usage) {
  const v1::InstanceStats& stats = usage.stats;
  const v1::Instance& instance = stats.instance();
  const auto rounded = [](const std::optional<double>& value, double scale) {
    return value ? Json(Rounded(*value * scale)) : Json(nullptr);
  };
  Json json;
  json["class"] = instance.class_();
  json["id"] = instance.id();
  json["state"] = instance.state();
  json["cpu_percent"] = rounded(usage.cpu_cores, 100);
  json["cpu_limit"] = stats.has_cpu_limit() ? Json(stats.cpu_limit()) : Json(nullptr);
  json["memory_bytes"] = stats.has_memory_bytes() ? Json(stats.memory_bytes()) : Json(nullptr);
  json["memory_limit_bytes"] =
      stats.has_memory_limit_bytes() ? Json(stats.memory_limit_bytes()) : Json(nullptr);
  json["processes"] = stats.has_processes() ? Json(stats.processes()) : Json(nullptr);
  json["in_flight"] = instance.in_flight();
  json["requests_per_second"] = rounded(usage.requests_per_second, 1);
  json["requests"] = stats.requests();
  json["failures"] = instance.failures();
  return json;
}

std::string UsageTable(const std::vector<Usage>& usages, Style style) {
  Table table({"INSTANCE", "STATE", "CPU", "MEMORY", "LIMIT", "MEM%", "PROCS", "IN-FLIGHT", "REQ/S",
               "REQUESTS", "FAILURES"});
  for (const Usage& usage : usages) table.Add(RowOf(usage));
  return table.Render(style);
}

std::string TopScreen(std::vector<Usage> usages, ScreenSize size, Style style) {
  std::sort(usages.begin(), usages.end(), [](const Usage& a, const Usage& b) {
    const auto key = [](const Usage& usage) {
      return std::pair(-usage.cpu_cores.value_or(-1), NameOf(usage.stats.instance()));
    };
    return key(a) < key(b);
  });
  const std::string all = Summary(usages) + "\n\n" + UsageTable(usages, style);
  std::string screen;
  size_t from = 0;
  for (int row = 0; row < size.rows && from < all.size(); ++row) {
    const size_t end = std::min(all.find('\n', from), all.size());
    if (row > 0) screen += '\n';
    screen += Clip(all.substr(from, end - from), static_cast<size_t>(std::max(size.columns, 1)));
    from = end + 1;
  }
  return screen;
}

}  // namespace ctr::cli
