#include "agent/network/subnet.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ctr {
namespace {

constexpr int kFirstOctet = 192;  // the second one of 10.192.0.0/16
constexpr int kCandidates = 48;
constexpr int kSubnetPrefix = 16;

// FNV-1a: the same for an agent ID on every machine and in every version.
uint64_t HashOf(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

std::string FormatSubnets(const Subnets& subnets) {
  return absl::StrCat(subnets.ipv4.ToString(), " ", subnets.ipv6.ToString());
}

StatusOr<Subnets> ParseSubnets(std::string_view line) {
  const std::vector<std::string> words =
      absl::StrSplit(std::string(line), absl::ByAnyChar(" \n"), absl::SkipEmpty());
  if (words.size() != 2) return absl::InvalidArgumentError("it is not two networks");
  Subnets subnets;
  CTR_ASSIGN_OR_RETURN(subnets.ipv4, ParseIpRange(words[0]));
  CTR_ASSIGN_OR_RETURN(subnets.ipv6, ParseIpRange(words[1]));
  if (!subnets.ipv4.is_ipv4() || subnets.ipv6.is_ipv4()) {
    return absl::InvalidArgumentError("it is not an IPv4 network and an IPv6 network");
  }
  return subnets;
}

std::optional<IpRange> CandidateSubnet(std::string_view agent_id, int n) {
  if (n >= kCandidates) return std::nullopt;
  const auto begin = static_cast<int>(HashOf(agent_id) % kCandidates);
  const std::array<char, 4> address = {
      10, static_cast<char>(kFirstOctet + (begin + n) % kCandidates), 0, 0};
  return IpRangeOf({address.data(), address.size()}, kSubnetPrefix);
}

std::optional<IpRange> ObstacleTo(const IpRange& subnet, const Obstacles& obstacles) {
  for (const IpRange& claim : obstacles.claimed) {
    if (claim.Overlaps(subnet)) return claim;
  }
  for (const IpRange& range : obstacles.used) {
    if (subnet.Contains(range)) return range;
  }
  return std::nullopt;
}

std::optional<ChosenSubnet> ChooseSubnet(std::string_view agent_id, int first,
                                         const Obstacles& obstacles) {
  for (int number = first; number < 2 * kCandidates; ++number) {
    const std::optional<IpRange> candidate = CandidateSubnet(agent_id, number % kCandidates);
    if (!candidate || ObstacleTo(*candidate, obstacles)) continue;
    const bool is_within =
        std::any_of(obstacles.used.begin(), obstacles.used.end(),
                    [&](const IpRange& range) { return range.Contains(*candidate); });
    if (!is_within || number >= kCandidates) return ChosenSubnet{*candidate, number};
  }
  return std::nullopt;
}

uint32_t NumberOf(std::string_view agent_id) {
  return static_cast<uint32_t>(HashOf(agent_id) >> 33) + 1;
}

IpRange UniqueLocalSubnet(std::string_view agent_id) {
  std::array<char, 16> address = {static_cast<char>(0xfd)};
  uint64_t hash = HashOf(agent_id);
  for (int i = 1; i <= 5; ++i, hash >>= 8) address[i] = static_cast<char>(hash & 255);
  return IpRangeOf({address.data(), address.size()}, 64);
}

}  // namespace ctr
