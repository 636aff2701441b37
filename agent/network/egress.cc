#include "agent/network/egress.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/base/read_file.h"
#include "agent/base/run_command.h"
#include "agent/network/host.h"
#include "agent/network/link.h"
#include "agent/network/rules.h"
#include "agent/network/self_test.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kProbeNumber = 1;  // the address of the self-test
constexpr uint32_t kFirstNumber = 2;
constexpr uint32_t kMostAddresses = 0xfff0;  // four digits of an interface's name

// Whole or not at all.
Status WriteFile(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid() ||
      ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::fsync(fd.get()) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, "cannot write " + path);
  }
  return absl::OkStatus();
}

// Milliseconds as a rule. What takes so long on a busy host must not cut instances off.
constexpr Duration kNftLimit = std::chrono::seconds(60);

Status RunNft(const std::string& text) {
  Status done = RunCommand({"nft", "-f", "-"}, text, kNftLimit).status();
  if (absl::IsNotFound(done)) {
    return absl::NotFoundError("there is no nft: install the package nftables");
  }
  return Annotate(done, "cannot set the network's rules");
}

StatusOr<std::string> ListRules(const std::string& agent_id) {
  return RunCommand({"nft", "--stateless", "list", "table", "inet", RuleTable(agent_id)}, "",
                    kNftLimit);
}

std::string InterfaceName(const std::string& prefix, uint32_t number) {
  return absl::StrFormat("%s%04x", prefix, number);
}

// How many instances a network has addresses for.
uint32_t AddressCount(const IpRange& subnet) {
  const int bits = 32 - subnet.prefix;
  const uint32_t all = bits >= 17 ? kMostAddresses : (uint32_t{1} << bits) - 1;
  return std::min(kMostAddresses, all) - kFirstNumber;
}

// Others' routes: our own claim and those to our instances are none.
std::vector<IpRange> TakenBy(const std::vector<HostRoute>& routes, uint32_t owner,
                             const std::optional<IpRange>& ours) {
  std::vector<IpRange> taken;
  for (const HostRoute& route : routes) {
    if (route.destination.prefix == 0) continue;
    const bool is_claim = route.protocol == kRouteProtocol && route.metric == owner;
    const bool is_inward = route.protocol == kRouteProtocol && ours &&
                           ours->prefix < route.destination.prefix &&
                           ours->Contains(route.destination);
    if (!is_claim && !is_inward) taken.push_back(route.destination);
  }
  return taken;
}

bool OverlapsAny(const IpRange& range, const std::vector<IpRange>& others) {
  return std::any_of(others.begin(), others.end(),
                     [&](const IpRange& other) { return other.Overlaps(range); });
}

}  // namespace

Egress::Egress(EgressOptions options)
    : options_(std::move(options)),
      prefix_(InterfacePrefix(options_.agent_id)),
      next_(std::random_device()()) {}

std::string Egress::ResolvConfPath() const { return options_.run_dir + "/network/resolv.conf"; }

Status Egress::Open() {
  const auto open = [this]() -> Status {
    const std::vector<IpRange> addresses = HostAddresses();
    has_ipv6_ = HasIpv6(addresses);
    resolv_conf_ = ResolvConfForInstances(addresses, has_ipv6_);
    CTR_RETURN_IF_ERROR(DecideSubnets());
    CTR_RETURN_IF_ERROR(PutResolvConf());
    CTR_RETURN_IF_ERROR(PutRules());
    return TestAndForward();
  };
  return OrCutOff(open());
}

Status Egress::DecideSubnets() {
  CTR_ASSIGN_OR_RETURN(std::vector<HostRoute> routes, ListRoutes());
  mtu_ = UplinkMtu(routes);
  subnets_.ipv6 = UniqueLocalSubnet(options_.agent_id);
  const StatusOr<Subnets> kept = ParseSubnets(ReadFirstLine(SubnetPath()));
  const std::optional<IpRange> ours = kept.ok() ? std::optional(kept->ipv4) : std::nullopt;
  const auto taken = [&] {
    std::vector<IpRange> ranges = TakenBy(routes, NumberOf(options_.agent_id), ours);
    // What instances are to reach must not seem to be one of them.
    ranges.insert(ranges.end(), options_.allow.begin(), options_.allow.end());
    ranges.insert(ranges.end(), resolv_conf_.nameservers.begin(), resolv_conf_.nameservers.end());
    return ranges;
  };
  if (options_.subnet) {
    if (OverlapsAny(*options_.subnet, taken())) {
      return absl::FailedPreconditionError(absl::StrCat(
          "[network] subnet ", options_.subnet->ToString(),
          " overlaps a route of this host, a nameserver or what `allow` lists; give another"));
    }
    CTR_RETURN_IF_ERROR(Claim(*options_.subnet));
  } else if (ours && !OverlapsAny(*ours, taken())) {
    CTR_RETURN_IF_ERROR(Claim(*ours));
  } else {
    CTR_RETURN_IF_ERROR(ClaimFree(routes, taken));
  }
  if (ours && *ours != subnets_.ipv4) Release(*ours).IgnoreError();
  return has_ipv6_ ? ClaimSubnet(subnets_.ipv6, NumberOf(options_.agent_id)) : absl::OkStatus();
}

// Two agents that start at once may both find the same network free: who sees that another claimed
// it, too, goes on to the next.
Status Egress::ClaimFree(std::vector<HostRoute>& routes,
                         const std::function<std::vector<IpRange>()>& taken) {
  for (int candidate = 0;;) {
    const auto chosen = ChooseSubnet(options_.agent_id, candidate, taken());
    if (!chosen) {
      return absl::FailedPreconditionError(
          "no network from 10.192.0.0/16 to 10.239.0.0/16 is free on this host; name another: "
          "[network] subnet in the agent's configuration");
    }
    CTR_RETURN_IF_ERROR(Claim(chosen->ipv4));
    CTR_ASSIGN_OR_RETURN(routes, ListRoutes());
    if (!OverlapsAny(chosen->ipv4, taken())) return absl::OkStatus();
    Release(chosen->ipv4).IgnoreError();
    candidate = chosen->candidate + 1;
  }
}

// Kept before it is claimed: a purge finds it.
Status Egress::Claim(const IpRange& subnet) {
  subnets_.ipv4 = subnet;
  CTR_RETURN_IF_ERROR(WriteFile(SubnetPath(), FormatSubnets(subnets_) + "\n"));
  return ClaimSubnet(subnet, NumberOf(options_.agent_id));
}

Status Egress::Release(const IpRange& subnet) const {
  return ReleaseSubnet(subnet, NumberOf(options_.agent_id));
}

Status Egress::PutResolvConf() {
  std::error_code error;
  fs::create_directories(fs::path(ResolvConfPath()).parent_path(), error);
  return WriteFile(ResolvConfPath(), FormatResolvConf(resolv_conf_));
}

Status Egress::PutRules() {
  CTR_RETURN_IF_ERROR(RunNft(RuleText({.agent_id = options_.agent_id,
                                       .subnets = subnets_,
                                       .allow = options_.allow,
                                       .nameservers = resolv_conf_.nameservers})));
  generation_ = NetfilterGeneration();
  CTR_ASSIGN_OR_RETURN(listed_rules_, ListRules(options_.agent_id));
  return absl::OkStatus();
}

Status Egress::TestAndForward() {
  LinkSpec probe{.name = InterfaceName(prefix_, kProbeNumber),
                 .container_id = absl::StrCat("probe-", options_.agent_id),
                 .ipv4 = AddressIn(subnets_.ipv4, kProbeNumber),
                 .ipv6 = std::nullopt,
                 .mtu = mtu_};
  if (has_ipv6_) probe.ipv6 = AddressIn(subnets_.ipv6, kProbeNumber);
  // The same way as an instance's packets, so forwarding first; by then the rules are there.
  CTR_ASSIGN_OR_RETURN(const std::string changed, TurnOnForwarding(has_ipv6_));
  if (!changed.empty()) {
    spdlog::info("for internet = true this host now passes packets on: {}", changed);
  }
  return TestRules(probe, HostAddresses());
}

Status Egress::OrCutOff(Status status) {
  if (status.ok()) return status;
  StatusOr<std::vector<FoundLink>> links = ListLinks(prefix_);
  if (!links.ok()) return status;
  for (const FoundLink& link : *links) {
    spdlog::error("{} is cut off: {}", link.container_id, std::string(status.message()));
    RemoveLinkByName(link.name).IgnoreError();
  }
  return status;
}

Status Egress::Refresh() {
  ResolvConf conf = ResolvConfForInstances(HostAddresses(), has_ipv6_);
  const bool new_names = conf != resolv_conf_;
  const uint32_t generation = NetfilterGeneration();
  if (!new_names && generation == generation_ && generation != 0) return absl::OkStatus();
  if (new_names) {
    resolv_conf_ = std::move(conf);
    CTR_RETURN_IF_ERROR(PutResolvConf());
  } else {
    const StatusOr<std::string> listed = ListRules(options_.agent_id);
    generation_ = generation;
    if (listed.ok() && *listed == listed_rules_) return absl::OkStatus();
    spdlog::warn(
        "somebody has changed or removed the network's rules (table inet {}): they are "
        "put back",
        RuleTable(options_.agent_id));
  }
  return OrCutOff(PutRules());
}

Status Egress::Attach(const NetworkNamespace& netns, const std::string& container_id) {
  const uint32_t count = AddressCount(subnets_.ipv4);
  for (uint32_t attempt = 0; attempt < count; ++attempt) {
    const uint32_t number = kFirstNumber + next_.fetch_add(1) % count;
    LinkSpec link{.name = InterfaceName(prefix_, number),
                  .container_id = container_id,
                  .ipv4 = AddressIn(subnets_.ipv4, number),
                  .ipv6 = std::nullopt,
                  .mtu = mtu_};
    if (has_ipv6_) link.ipv6 = AddressIn(subnets_.ipv6, number);
    const Status added = AddLink(netns, link);
    if (!absl::IsAlreadyExists(added)) return Annotate(added, "cannot give it a way out");
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no address of ", subnets_.ipv4.ToString(),
                   " is free; give a larger one: [network] subnet in the agent's configuration"));
}

Status Egress::Detach(const std::string& container_id) const { return RemoveLink(container_id); }

StatusOr<std::vector<std::string>> Egress::Attached() const {
  CTR_ASSIGN_OR_RETURN(const std::vector<FoundLink> links, ListLinks(prefix_));
  std::vector<std::string> ids;
  for (const FoundLink& link : links) {
    // One without a name is in the making, and goes with its namespace if that comes to nothing.
    const bool is_probe = link.name == InterfaceName(prefix_, kProbeNumber);
    if (!link.container_id.empty() && !is_probe) ids.push_back(link.container_id);
  }
  return ids;
}

Status Egress::Purge() const {
  const StatusOr<Subnets> kept = ParseSubnets(ReadFirstLine(SubnetPath()));
  std::error_code error;
  fs::remove_all(options_.run_dir + "/network", error);
  if (!kept.ok()) return absl::OkStatus();
  CTR_ASSIGN_OR_RETURN(const std::vector<FoundLink> links, ListLinks(prefix_));
  Status first;
  for (const FoundLink& link : links) first.Update(RemoveLinkByName(link.name));
  first.Update(Release(kept->ipv4));
  first.Update(Release(kept->ipv6));
  // Without nft there are no rules either, unless somebody has taken it away since.
  Status removed = RunNft(RuleRemovalText(options_.agent_id));
  if (!absl::IsNotFound(removed)) first.Update(removed);
  return first;
}

}  // namespace ctr
