#include "cli/trace.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "cli/since.h"

namespace ctr::cli {
namespace {

using Json = nlohmann::ordered_json;
using Row = v1::SimulateAutoscaleRequest::Row;
using Rows = std::vector<Row>;

constexpr char kBeginsScrape[] = "ctr_time_seconds";
// What an agent takes in one call.
constexpr size_t kMostRows = 1'000'000;
// Without requests in between longer than that, nothing came: an idle class tells nothing.
constexpr double kGap = 1.5;  // seconds

Row MakeRow(double at, double arrivals, double service = 0, double cpu = 0, double memory = 0) {
  Row row;
  row.set_at(at);
  row.set_arrivals(arrivals);
  row.set_service(service);
  row.set_cpu(cpu);
  row.set_memory(memory);
  return row;
}

// Rows that each hold for `length` only, with nothing in between, from the first one's time on.
struct Span {
  Row row;  // `at` by any clock
  double length = 0;
};
Rows Join(const std::vector<Span>& spans) {
  Rows rows;
  for (size_t i = 0; i < spans.size(); ++i) {
    Row row = spans[i].row;
    row.set_at(row.at() - spans.front().row.at());
    const double end = row.at() + spans[i].length;
    rows.push_back(std::move(row));
    const bool last = i + 1 == spans.size();
    const double next = last ? end : spans[i + 1].row.at() - spans.front().row.at();
    if (last || next - end > kGap) rows.push_back(MakeRow(end, 0));
  }
  return rows;
}

class JsonTrace {
 public:
  explicit JsonTrace(const std::string& class_name) : class_name_(class_name) {}

  Status Add(const Json& json) {
    if (!json.is_object()) return absl::InvalidArgumentError("it is no JSON object");
    if (json.contains("type")) return AddEvent(json);
    if (json.contains("bytes_in")) return AddAccess(json);
    CTR_ASSIGN_OR_RETURN(Row row, RowOf(json));
    if (!seconds_.empty() || !spans_.empty()) {
      return absl::InvalidArgumentError("it is of another kind than the lines before");
    }
    rows_.push_back(std::move(row));
    return absl::OkStatus();
  }

  Rows Take() {
    for (const auto& [second, sum] : seconds_) {
      const auto count = static_cast<double>(sum.count);
      spans_.push_back({MakeRow(static_cast<double>(second), count, sum.seconds / count), 1});
    }
    if (!spans_.empty()) return Join(spans_);
    return std::move(rows_);
  }

 private:
  struct Second {
    int64_t count = 0;
    double seconds = 0;  // that they took
  };

  static StatusOr<Row> RowOf(const Json& json) {
    Row row;
    for (const auto& [key, value] : json.items()) {
      if (!value.is_number()) return absl::InvalidArgumentError(key + " is no number");
      const double number = value.get<double>();
      if (key == "time") {
        row.set_at(number);
      } else if (key == "arrivals") {
        row.set_arrivals(number);
      } else if (key == "service") {
        row.set_service(number);
      } else if (key == "cpu") {
        row.set_cpu(number);
      } else if (key == "memory") {
        row.set_memory(number);
      } else {
        return absl::InvalidArgumentError(absl::StrCat(
            "\"", key, "\" is unknown; a line has time, arrivals, service, cpu and memory"));
      }
    }
    if (!json.contains("time") || !json.contains("arrivals") || !json.contains("service")) {
      return absl::InvalidArgumentError("it needs time, arrivals and service");
    }
    return row;
  }

  static StatusOr<double> TimeOf(const Json& json) {
    const auto time = json.find("time");
    std::optional<int64_t> at;
    if (time != json.end() && time->is_string()) at = ParseTime(time->get<std::string>());
    if (!at) return absl::InvalidArgumentError("its time is none, like 2026-11-26T07:00:00.000Z");
    return static_cast<double>(*at) / 1e3;
  }

  bool IsOfClass(const Json& json) const {
    const auto name = json.find("class");
    if (class_name_.empty()) return true;
    return name != json.end() && name->is_string() && name->get<std::string>() == class_name_;
  }

  // What the agent writes of a class every minute: see ClassPool.
  Status AddEvent(const Json& json) {
    if (json["type"] != "traffic" || !IsOfClass(json)) return absl::OkStatus();
    CTR_ASSIGN_OR_RETURN(const double end, TimeOf(json));
    double count = 0, length = 0, service = 0, cpu = 0, memory = 0;
    const std::string message = json.value("message", "");
    if (std::sscanf(message.c_str(), "%lf requests in %lf s: %lf s and %lf CPU s each; %lf MiB",
                    &count, &length, &service, &cpu, &memory) != 5 ||
        length <= 0) {
      return absl::InvalidArgumentError("it is no event of type traffic as this version writes it");
    }
    spans_.push_back(
        {MakeRow(end - length, count / length, service, cpu, memory * 1024 * 1024), length});
    return absl::OkStatus();
  }

  // A request's line is written at its end.
  Status AddAccess(const Json& json) {
    if (!json.contains("status") || !IsOfClass(json)) return absl::OkStatus();
    CTR_ASSIGN_OR_RETURN(const double end, TimeOf(json));
    double took[2] = {};
    for (const auto& [key, value] : {std::pair("ms", &took[0]), {"wake_ms", &took[1]}}) {
      const auto field = json.find(key);
      if (field == json.end() || !field->is_number()) {
        return absl::InvalidArgumentError(absl::StrCat(key, " is missing, or no number"));
      }
      *value = field->get<double>() / 1e3;
    }
    Second& second = seconds_[static_cast<int64_t>(end - took[0])];
    ++second.count;
    second.seconds += std::max(took[0] - took[1], 0.0);
    return absl::OkStatus();
  }

  const std::string class_name_;
  Rows rows_;
  std::map<int64_t, Second> seconds_;  // of the access log, by Unix time
  std::vector<Span> spans_;            // of the events
};

// What one scrape says of the class.
struct Scrape {
  double at = 0;  // Unix time
  double requests = 0;
  double seconds = 0;  // that they took
  double cpu = 0;      // seconds
  double memory = 0;   // bytes of all
  double healthy = 0;  // instances
};

// `name{labels} value`, and a comment or another class's line changes nothing.
Status AddSample(absl::string_view line, const std::string& class_name, Scrape& scrape) {
  const size_t space = line.rfind(' ');
  const absl::string_view series = line.substr(0, space);
  double value = 0;
  if (space == absl::string_view::npos || !absl::SimpleAtod(line.substr(space + 1), &value)) {
    return absl::InvalidArgumentError("it is no line of /metrics");
  }
  const absl::string_view name = series.substr(0, series.find('{'));
  if (name == kBeginsScrape) scrape.at = value;
  if (!class_name.empty() &&
      !absl::StrContains(series, absl::StrCat("class=\"", class_name, "\""))) {
    return absl::OkStatus();
  }
  if (name == "ctr_requests_total") scrape.requests += value;
  if (name == "ctr_request_duration_seconds_sum") scrape.seconds = value;
  if (name == "ctr_cpu_seconds_total") scrape.cpu = value;
  if (name == "ctr_memory_bytes") scrape.memory = value;
  if (name == "ctr_instances" && absl::StrContains(series, "state=\"healthy\"")) {
    scrape.healthy = value;
  }
  return absl::OkStatus();
}

// Counters begin at 0 again when an agent does.
double Grown(double before, double after) { return after >= before ? after - before : after; }

StatusOr<Rows> RowsOf(const std::vector<Scrape>& scrapes) {
  if (scrapes.size() < 2) {
    return absl::InvalidArgumentError("it takes two scrapes of /metrics at least");
  }
  Rows rows;
  for (size_t i = 1; i < scrapes.size(); ++i) {
    const Scrape& before = scrapes[i - 1];
    const Scrape& after = scrapes[i];
    const double length = after.at - before.at;
    if (length <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("scrape ", i + 1, " is not later than the one before"));
    }
    const double count = Grown(before.requests, after.requests);
    const double each = count > 0 ? 1 / count : 0;
    rows.push_back(MakeRow(
        before.at - scrapes.front().at, count / length, Grown(before.seconds, after.seconds) * each,
        Grown(before.cpu, after.cpu) * each, after.healthy > 0 ? after.memory / after.healthy : 0));
  }
  // The last one holds for as long as its scrape says, not as the row before it.
  rows.push_back(MakeRow(scrapes.back().at - scrapes.front().at, 0));
  return rows;
}

Status AtLine(size_t number, const Status& status) {
  return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", status.message()));
}

StatusOr<Rows> ParseScrapes(absl::string_view text, const std::string& class_name) {
  std::vector<Scrape> scrapes;
  size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (absl::StripAsciiWhitespace(line).empty() || absl::StartsWith(line, "#")) continue;
    if (absl::StartsWith(line, kBeginsScrape)) scrapes.emplace_back();
    if (scrapes.empty()) continue;
    if (Status added = AddSample(absl::StripAsciiWhitespace(line), class_name, scrapes.back());
        !added.ok()) {
      return AtLine(number, added);
    }
  }
  return RowsOf(scrapes);
}

StatusOr<Rows> ParseLines(absl::string_view text, const std::string& class_name) {
  JsonTrace trace(class_name);
  size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    Status added = trace.Add(Json::parse(line.begin(), line.end(), nullptr, false));
    if (!added.ok()) return AtLine(number, added);
  }
  return trace.Take();
}

StatusOr<Rows> ParseArray(absl::string_view text, const std::string& class_name) {
  const Json array = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!array.is_array()) return absl::InvalidArgumentError("it is no JSON array");
  JsonTrace trace(class_name);
  for (const Json& json : array) CTR_RETURN_IF_ERROR(trace.Add(json));
  return trace.Take();
}

}  // namespace

StatusOr<Rows> ParseTrace(std::string_view whole, const std::string& class_name) {
  const absl::string_view text(whole.data(), whole.size());
  const absl::string_view begin = absl::StripLeadingAsciiWhitespace(text);
  if (begin.empty()) return absl::InvalidArgumentError("there is nothing in it");
  StatusOr<Rows> rows;
  if (absl::StartsWith(begin, "[")) {
    rows = ParseArray(begin, class_name);
  } else if (absl::StartsWith(begin, "#") || absl::StartsWith(begin, "ctr_")) {
    rows = ParseScrapes(text, class_name);
  } else {
    rows = ParseLines(text, class_name);
  }
  CTR_RETURN_IF_ERROR(rows.status());
  if (rows->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "it tells nothing of what came to ", class_name,
        ": it is to be lines with time, arrivals and service, the ingress's access log, what "
        "`ctr -o jsonl events` prints, or scrapes of /metrics"));
  }
  if (rows->size() > kMostRows) {
    return absl::InvalidArgumentError(absl::StrCat("it has ", rows->size(), " rows, and ",
                                                   kMostRows, " are the most: take a part of it"));
  }
  return rows;
}

}  // namespace ctr::cli
