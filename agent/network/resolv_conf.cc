#include "agent/network/resolv_conf.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace ctr {
namespace {

constexpr size_t kMostNameservers = 3;  // MAXNS of the C library
constexpr size_t kMostRemembered = 12;
constexpr int kPatientLooks = 60;

IpRange Known(std::string_view text) { return ParseIpRange(text).value_or(IpRange()); }

// From there no packet of an instance ever comes back.
bool IsUnreachable(const IpRange& address) {
  static const auto& ranges = *new std::vector<IpRange>{
      Known("0.0.0.0/8"), Known("127.0.0.0/8"), Known("169.254.0.0/16"), Known("224.0.0.0/3"),
      Known("::/127"),    Known("fe80::/10"),   Known("ff00::/8")};
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const IpRange& range) { return range.Contains(address); });
}

}  // namespace

ResolvConf ParseResolvConf(std::string_view text) {
  ResolvConf conf;
  for (absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.size() < 2 || words[0][0] == '#' || words[0][0] == ';') continue;
    const std::string key = words[0];
    if (key == "nameserver") {
      // A zone, as in fe80::1%eth0, means an interface of the host.
      StatusOr<IpRange> address = ParseIpRange(words[1]);
      if (address.ok() && words[1].find('/') == std::string::npos) {
        conf.nameservers.push_back(*address);
      }
    } else if (key == "search" || key == "domain" || key == "options") {
      words.erase(words.begin());
      (key == "options" ? conf.options : conf.search) = std::move(words);
    }
  }
  return conf;
}

ResolvConf ForInstances(ResolvConf host, const std::function<bool(const IpRange&)>& is_own,
                        bool has_ipv6) {
  std::erase_if(host.nameservers, [&](const IpRange& address) {
    return IsUnreachable(address) || is_own(address) || (!address.is_ipv4() && !has_ipv6);
  });
  if (host.nameservers.empty()) {
    host.is_fallback = true;
    host.nameservers = {Known("8.8.8.8"), Known("8.8.4.4")};
    if (has_ipv6) host.nameservers.push_back(Known("2001:4860:4860::8888"));
  }
  if (host.nameservers.size() > kMostNameservers) host.nameservers.resize(kMostNameservers);
  return host;
}

std::string FormatResolvConf(const ResolvConf& conf) {
  std::string text = "# Made by ctr-agent, out of the host's.\n";
  for (const IpRange& address : conf.nameservers) {
    absl::StrAppend(&text, "nameserver ", address.ToString(), "\n");
  }
  if (!conf.search.empty()) {
    absl::StrAppend(&text, "search ", absl::StrJoin(conf.search, " "), "\n");
  }
  if (!conf.options.empty()) {
    absl::StrAppend(&text, "options ", absl::StrJoin(conf.options, " "), "\n");
  }
  return text;
}

bool FollowedResolvConf::Follow(ResolvConf found) {
  fallbacks_ = found.is_fallback ? fallbacks_ + 1 : 0;
  const bool has_better = !current_.nameservers.empty() && !current_.is_fallback;
  if (has_better && found.is_fallback && fallbacks_ < kPatientLooks) return false;
  if (found == current_) return false;
  current_ = std::move(found);
  std::vector<IpRange> all = current_.nameservers;
  for (const IpRange& earlier : nameservers_) {
    if (std::find(all.begin(), all.end(), earlier) == all.end()) all.push_back(earlier);
  }
  if (all.size() > kMostRemembered) all.resize(kMostRemembered);
  nameservers_ = std::move(all);
  return true;
}

}  // namespace ctr
