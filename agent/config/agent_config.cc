#include "agent/config/agent_config.h"

#include <arpa/inet.h>

#include <algorithm>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/config/memory_size.h"
#include "agent/config/table_reader.h"
#include "agent/model/names.h"
#include "agent/model/reference.h"

namespace ctr {
namespace {

using config::FileErrors;
using config::TableReader;

constexpr Ipv4Range kLoopback = {0x7F000000, 8};
constexpr uint32_t kLocalhost = 0x7F000001;
constexpr int64_t kMaxDataThreads = 64;
constexpr int kDefaultDataThreads = 4;
// sockaddr_un holds 107 characters, and the private containerd's socket is the longest in RUN.
constexpr size_t kMaxRunDir = 107 - std::string_view("/containerd/containerd.sock.ttrpc").size();
constexpr size_t kMaxDomain = 253 - 2 * 64;  // of a DNS name, without ID and class

Status Refused(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("\"", std::string(text), "\" ", std::string(why)));
}

// Reads a string by `parse`; its errors are reported on the key.
template <typename T>
void ReadAs(TableReader& file, std::string_view key, StatusOr<T> (*parse)(std::string_view),
            T& out) {
  std::optional<std::string> text = file.String(key);
  if (!text) return;
  StatusOr<T> value = parse(*text);
  if (value.ok()) {
    out = *std::move(value);
  } else {
    file.Fail(key, std::string(value.status().message()));
  }
}

// The same for each string of an array.
template <typename T>
void ReadEach(TableReader& file, std::string_view key, StatusOr<T> (*parse)(std::string_view),
              std::vector<T>& out) {
  for (const std::string& text : file.Strings(key).value_or(std::vector<std::string>())) {
    StatusOr<T> value = parse(text);
    if (value.ok()) {
      out.push_back(*std::move(value));
    } else {
      file.Fail(key, std::string(value.status().message()));
    }
  }
}

StatusOr<std::string> ParseAbsolutePath(std::string_view text) {
  if (!text.starts_with('/')) return Refused(text, "is no absolute path; begin it with /");
  if (text.find('\0') != std::string_view::npos) return Refused(text, "has a zero in it");
  return std::string(text);
}

StatusOr<std::string> ParseRunDir(std::string_view text) {
  CTR_RETURN_IF_ERROR(CheckRunDir(text));
  return ParseAbsolutePath(text);
}

StatusOr<std::string> ParseDomain(const std::string& text) {
  std::string domain = absl::AsciiStrToLower(text);
  bool valid = domain.size() <= kMaxDomain;
  for (absl::string_view label : absl::StrSplit(domain, '.')) {
    valid = valid && IsDnsLabel({label.data(), label.size()});
  }
  if (!valid) return Refused(text, "is no domain; write it like apps.example.com");
  return domain;
}

void ReadDomains(TableReader& file, std::vector<std::string>& domains) {
  std::optional<std::vector<std::string>> texts = file.Strings("domains");
  if (!texts) return;
  for (const std::string& text : *texts) {
    StatusOr<std::string> domain = ParseDomain(text);
    if (!domain.ok()) {
      file.Fail("domains", std::string(domain.status().message()));
    } else if (std::find(domains.begin(), domains.end(), *domain) == domains.end()) {
      domains.push_back(*std::move(domain));
    }
  }
}

std::optional<std::string> ReadLogLevel(TableReader& file) {
  std::vector<config::Word<std::string>> words;
  for (const char* level : {"trace", "debug", "info", "warning", "error"}) {
    words.push_back({level, level});
  }
  return file.Choice<std::string>("log_level", words);
}

void ReadIngressLimits(TableReader& file, AgentConfig& config) {
  constexpr int64_t kMost = 100'000'000;
  constexpr Duration kShortest = std::chrono::milliseconds(100);
  config.header_timeout =
      file.Interval("header_timeout", kShortest).value_or(config.header_timeout);
  config.idle_timeout = file.Interval("idle_timeout", kShortest).value_or(config.idle_timeout);
  config.min_body_rate = file.Integer("min_body_rate", 0, kMost).value_or(config.min_body_rate);
  config.max_connections =
      file.Integer("max_connections", 0, kMost).value_or(config.max_connections);
  if (auto limit = file.Integer("max_connections_per_client", 0, kMost)) {
    config.max_connections_per_client = *limit;
    config.limits_loopback = true;
  }
}

// Large enough for instances, and none that others need.
StatusOr<IpRange> ParseSubnet(std::string_view text) {
  CTR_ASSIGN_OR_RETURN(IpRange range, ParseIpRange(text));
  if (!range.is_ipv4() || range.prefix < 8 || range.prefix > 28) {
    return Refused(text, "must be an IPv4 network with a prefix from 8 to 28, as 10.200.0.0/16 is");
  }
  const int first = range.address[0];
  if (first == 0 || first == 127 || first >= 224) {
    return Refused(text, "can't be of instances; take a private network like 10.200.0.0/16");
  }
  return range;
}

void ReadNetwork(TableReader& file, NetworkConfig& network) {
  std::optional<TableReader> table = file.Table("network");
  if (!table) return;
  if (table->Find("subnet") != nullptr) {
    ReadAs(*table, "subnet", ParseSubnet, network.subnet.emplace());
  }
  ReadEach(*table, "allow", ParseIpRange, network.allow);
  table->Finish(&file);
}

void ReadImages(TableReader& file, ImageSettings& images) {
  std::optional<TableReader> table = file.Table("images");
  if (!table) return;
  ReadAs(*table, "docker_config", ParseAbsolutePath, images.docker_config);
  images.max_size_bytes = table->Size("max_size", 1);
  table->Finish(&file);
}

void ReadDisk(TableReader& file, AgentConfig& config) {
  std::optional<TableReader> table = file.Table("disk");
  if (!table) return;
  config.min_free_bytes = table->Size("min_free", 0);
  table->Finish(&file);
}

// As references write it: no scheme, and not the other names of the Hub.
StatusOr<std::string> ParseRegistryHost(std::string_view text) {
  constexpr char kForm[] =
      "is no registry; write it like \"registry.example:5000\", or \"docker.io\"";
  StatusOr<std::string> reference = NormalizeReference(absl::StrCat(std::string(text), "/a/b"));
  std::string host(text);
  if (!reference.ok() || *reference != absl::StrCat(host, "/a/b:latest")) {
    return Refused(text, kForm);
  }
  return host;
}

StatusOr<std::string> ParseMirror(std::string_view text) {
  const bool is_url = text.starts_with("https://") || text.starts_with("http://");
  const bool is_plain = text.find_first_of("?#@ \t\r\n") == std::string_view::npos;
  while (text.ends_with('/')) text.remove_suffix(1);
  if (!is_url || !is_plain || text.size() <= std::string_view("https://").size()) {
    return Refused(text, "is no mirror; write it like \"https://mirror.example\"");
  }
  return std::string(text);
}

void ReadRegistries(TableReader& file, std::vector<RegistrySettings>& registries) {
  for (TableReader& table : file.Tables("registry")) {
    RegistrySettings registry;
    ReadAs(table, "host", ParseRegistryHost, registry.host);
    if (table.Find("host") == nullptr) table.Fail("host", "is missing: whose settings are they?");
    ReadEach(table, "mirrors", ParseMirror, registry.mirrors);
    registry.plain_http = table.Bool("plain_http").value_or(false);
    ReadAs(table, "ca", ParseAbsolutePath, registry.ca_file);
    if (registry.plain_http && !registry.ca_file.empty()) {
      table.Fail("ca", "is of no use with plain_http; leave one out");
    }
    table.Finish(&file);
    registries.push_back(std::move(registry));
  }
}

}  // namespace

AgentConfig::AgentConfig()
    : data_threads(std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1,
                              kDefaultDataThreads)) {}

std::string HttpAddress::ToString() const {
  const bool is_ipv6 = address.find(':') != std::string::npos;
  return is_ipv6 ? absl::StrCat("[", address, "]:", port) : absl::StrCat(address, ":", port);
}

StatusOr<HttpAddress> ParseHttpAddress(std::string_view text) {
  constexpr char kForm[] = "is no address to listen on; write it like 127.0.0.1:8080 or [::1]:8080";
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Refused(text, kForm);
  HttpAddress http;
  http.address = text.substr(0, colon);
  const std::string port_text(text.substr(colon + 1));
  int family = AF_INET;
  if (http.address.starts_with('[') && http.address.ends_with(']')) {
    family = AF_INET6;
    http.address = http.address.substr(1, http.address.size() - 2);
  }
  in6_addr parsed;
  uint32_t port = 0;
  const bool digits =
      std::all_of(port_text.begin(), port_text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (http.address.find('\0') != std::string::npos ||
      ::inet_pton(family, http.address.c_str(), &parsed) != 1 || !digits ||
      !absl::SimpleAtoi(port_text, &port) || port > 65535) {
    return Refused(text, kForm);
  }
  http.port = static_cast<uint16_t>(port);
  return http;
}

StatusOr<Ipv4Range> ParseLoopbackRange(std::string_view text) {
  CTR_ASSIGN_OR_RETURN(Ipv4Range range, ParseIpv4Range(text));
  if (range.prefix < 8 || range.prefix > 28) {
    return Refused(text, "must have a prefix from 8 to 28, as in 127.77.0.0/16");
  }
  if (!kLoopback.Contains(range.base)) {
    return Refused(text, "must lie in 127.0.0.0/8, as 127.77.0.0/16 does");
  }
  if (range.Contains(kLocalhost)) {
    return Refused(text, "holds 127.0.0.1, which the host needs; take one like 127.77.0.0/16");
  }
  return range;
}

StatusOr<std::string> ParseSocketPath(std::string_view text) {
  constexpr std::string_view kScheme = "unix://";
  if (text.starts_with(kScheme)) text.remove_prefix(kScheme.size());
  return ParseAbsolutePath(text);
}

Status CheckRunDir(std::string_view path) {
  if (path.size() <= kMaxRunDir) return absl::OkStatus();
  return Refused(path,
                 absl::StrCat("is too long for the path of a Unix socket; take one of at most ",
                              kMaxRunDir, " characters"));
}

StatusOr<AgentConfig> ParseAgentConfig(std::string_view toml, std::string_view file_name) {
  CTR_ASSIGN_OR_RETURN(config::TomlTable table, config::ParseToml(toml, file_name));
  FileErrors errors(file_name);
  TableReader file(table, "", 0, errors);
  AgentConfig config;
  ReadAs(file, "data_dir", ParseAbsolutePath, config.data_dir);
  ReadAs(file, "run_dir", ParseRunDir, config.run_dir);
  ReadAs(file, "http", ParseHttpAddress, config.http);
  ReadAs(file, "containerd", ParseSocketPath, config.containerd);
  ReadAs(file, "instance_range", ParseLoopbackRange, config.instance_range);
  ReadAs(file, "class_range", ParseLoopbackRange, config.class_range);
  ReadDomains(file, config.domains);
  config.trust_ctr_headers = file.Bool("trust_ctr_headers").value_or(config.trust_ctr_headers);
  config.steering =
      file.Choice<SteeringChoice>("steering", {{"auto", SteeringChoice::kAuto},
                                               {"sk_lookup", SteeringChoice::kSkLookup},
                                               {"bind", SteeringChoice::kBind}})
          .value_or(config.steering);
  config.drain = file.Interval("drain", Duration::zero()).value_or(config.drain);
  ReadIngressLimits(file, config);
  config.data_threads = static_cast<int>(
      file.Integer("data_threads", 1, kMaxDataThreads).value_or(config.data_threads));
  config.log_level = ReadLogLevel(file).value_or(config.log_level);
  if (file.Find("metrics") != nullptr) {
    ReadAs(file, "metrics", ParseHttpAddress, config.metrics.emplace());
  }
  ReadAs(file, "access_log", ParseAbsolutePath, config.access_log);
  ReadNetwork(file, config.network);
  ReadImages(file, config.images);
  ReadRegistries(file, config.images.registries);
  ReadDisk(file, config);
  file.Finish();
  CTR_RETURN_IF_ERROR(errors.First());
  return config;
}

Status CheckAgentConfig(const AgentConfig& config) {
  if (config.instance_range.Overlaps(config.class_range)) {
    return absl::InvalidArgumentError(
        absl::StrCat("instance_range ", config.instance_range.ToString(), " and class_range ",
                     config.class_range.ToString(), " overlap; give one of them another network"));
  }
  in_addr listener;
  if (::inet_pton(AF_INET, config.http.address.c_str(), &listener) != 1) return absl::OkStatus();
  const uint32_t address = ntohl(listener.s_addr);
  if (config.instance_range.Contains(address) || config.class_range.Contains(address)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "http ", config.http.ToString(),
        " lies in the range of instances or classes; take an address outside of both"));
  }
  return absl::OkStatus();
}

}  // namespace ctr
