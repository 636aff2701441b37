#include "agent/network/egress.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/base/read_file.h"
#include "agent/base/run_command.h"
#include "agent/base/write_file.h"
#include "agent/network/host.h"
#include "agent/network/link.h"
#include "agent/network/rules.h"
#include "agent/network/self_test.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kFirstNumber = 1;
constexpr uint32_t kMostAddresses = 0xfff0;  // four digits of an interface's name
constexpr char kProbe[] = "probe-";          // stands for a container in the self-test
constexpr int kMostLooks = 100;

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
  CTR_ASSIGN_OR_RETURN(std::string listed, RunCommand({"nft", "--stateless", "list", "table",
                                                       "inet", RuleTable(agent_id)},
                                                      "", kNftLimit));
  return WithoutFlows(std::move(listed));
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

bool IsIn(const IpRange& range, const std::vector<IpRange>& others) {
  return std::any_of(others.begin(), others.end(),
                     [&](const IpRange& other) { return other.Contains(range); });
}

bool Has(const std::vector<KernelSetting>& settings, std::string_view path) {
  return std::any_of(settings.begin(), settings.end(),
                     [&](const KernelSetting& setting) { return setting.path == path; });
}

}  // namespace

Egress::Egress(EgressOptions options)
    : options_(std::move(options)),
      prefix_(InterfacePrefix(options_.agent_id)),
      next_(std::random_device()()) {}

std::string Egress::ResolvConfPath() const { return options_.run_dir + "/network/resolv.conf"; }

Status Egress::Open() {
  std::error_code error;
  fs::create_directories(options_.run_dir + "/network", error);
  CTR_ASSIGN_OR_RETURN(host_, LookAtHost());
  resolv_conf_.Follow(ResolvConfForInstances(host_));
  // First of all, for the sake of those that run.
  CTR_RETURN_IF_ERROR(PutRulesAndForward());
  CTR_RETURN_IF_ERROR(DecidePlan());
  CTR_RETURN_IF_ERROR(PutResolvConf());
  CTR_RETURN_IF_ERROR(Test());
  const std::shared_ptr<const Plan> plan = plan_;
  spdlog::info("the way out of instances is open: {}, {}, MTU {}", plan->subnets.ipv4.ToString(),
               plan->has_ipv6 ? "with IPv6" : "without IPv6", plan->mtu);
  return absl::OkStatus();
}

Status Egress::Refresh() {
  CTR_ASSIGN_OR_RETURN(const HostNetwork host, LookAtHost());
  if (host != host_) {
    return Open();
  }
  const bool new_names = resolv_conf_.Follow(ResolvConfForInstances(host_));
  CTR_ASSIGN_OR_RETURN(const std::vector<KernelSetting> changes, ForwardingChanges(host_.has_ipv6));
  if (new_names || !changes.empty() || !RulesHold()) {
    CTR_RETURN_IF_ERROR(PutRulesAndForward());
  }
  return new_names ? PutResolvConf() : absl::OkStatus();
}

// Rules first: what comes from instances is passed on from then on, and nothing else.
Status Egress::PutRulesAndForward() {
  if (changed_settings_.empty()) changed_settings_ = RememberedSettings();
  const StatusOr<std::vector<KernelSetting>> changes = ForwardingChanges(host_.has_ipv6);
  if (changes.ok()) {
    for (const KernelSetting& change : *changes) {
      if (!Has(changed_settings_, change.path)) changed_settings_.push_back(change);
    }
  }
  CTR_RETURN_IF_ERROR(PutRules());
  CTR_RETURN_IF_ERROR(changes.status());
  if (changes->empty()) return absl::OkStatus();
  // Remembered before it is done: a purge finds it.
  CTR_RETURN_IF_ERROR(KeepFile(SettingsPath(), FormatSettings(changed_settings_)));
  for (const KernelSetting& change : *changes) {
    CTR_RETURN_IF_ERROR(ChangeSetting(change));
    spdlog::info("for internet = true, and for nobody else, this host passes packets on: {} = {}",
                 change.path, change.wanted);
  }
  return absl::OkStatus();
}

Status Egress::PutRules() {
  const std::string text = RuleText({.agent_id = options_.agent_id,
                                     .allow = options_.allow,
                                     .nameservers = resolv_conf_.nameservers(),
                                     .guards_ipv4 = Has(changed_settings_, kIpv4Forward),
                                     .guards_ipv6 = Has(changed_settings_, kIpv6Forward)});
  const uint32_t before = NetfilterGeneration();
  Status put = RunNft(text);
  if (!put.ok()) put = RunNft(text);
  if (!put.ok()) {
    rules_lost_ = TableIsAsPut() == false;
    return put;
  }
  rules_lost_ = false;
  listed_rules_.clear();
  generation_ = NetfilterGeneration();
  CTR_ASSIGN_OR_RETURN(std::string listed, ListRules(options_.agent_id));
  // The generation counts transactions. More than ours: what is listed may be what somebody made of
  // the rules meanwhile, and must not become what they are held against.
  if (generation_ == before + 1 && NetfilterGeneration() == generation_) {
    listed_rules_ = std::move(listed);
  }
  return absl::OkStatus();
}

bool Egress::RulesHold() {
  const uint32_t generation = NetfilterGeneration();
  if (generation == generation_ && generation != 0 && !listed_rules_.empty()) return true;
  const std::optional<bool> is_as_put = TableIsAsPut();
  if (is_as_put == true) generation_ = generation;
  if (is_as_put == false) {
    spdlog::warn(
        "somebody has changed or removed the network's rules (table inet {}): they are put back",
        RuleTable(options_.agent_id));
  }
  return is_as_put == true;
}

// Nothing if that can't be told.
std::optional<bool> Egress::TableIsAsPut() const {
  if (HasTable(RuleTable(options_.agent_id)) == false) return false;
  const StatusOr<std::string> listed = ListRules(options_.agent_id);
  if (!listed.ok() || listed_rules_.empty()) return std::nullopt;
  return *listed == listed_rules_;
}

Status Egress::DecidePlan() {
  auto plan = std::make_shared<Plan>();
  plan->has_ipv6 = host_.has_ipv6;
  plan->mtu = host_.mtu;
  plan->subnets.ipv6 = UniqueLocalSubnet(options_.agent_id);
  CTR_ASSIGN_OR_RETURN(plan->subnets.ipv4, DecideSubnet(plan->subnets.ipv6));
  if (plan->has_ipv6) CTR_RETURN_IF_ERROR(ClaimSubnet(plan->subnets.ipv6, number()));
  ReleaseClaims({plan->subnets.ipv4, plan->subnets.ipv6}).IgnoreError();
  plan_ = std::move(plan);
  return absl::OkStatus();
}

StatusOr<IpRange> Egress::DecideSubnet(const IpRange& ipv6) const {
  const StatusOr<Subnets> kept = ParseSubnets(ReadFirstLine(SubnetPath()));
  std::vector<IpRange> ours;
  if (kept.ok()) ours.push_back(kept->ipv4);
  if (options_.subnet) ours.push_back(*options_.subnet);
  CTR_ASSIGN_OR_RETURN(const Obstacles obstacles, FindObstacles(ours));
  std::optional<IpRange> chosen = options_.subnet;
  if (chosen) {
    if (const std::optional<IpRange> obstacle = ObstacleTo(*chosen, obstacles)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "[network] subnet ", chosen->ToString(), " overlaps ", obstacle->ToString(),
          ": a route of this host, a nameserver, or what `allow` lists; give another"));
    }
  } else if (kept.ok() && !ObstacleTo(kept->ipv4, obstacles)) {
    chosen = kept->ipv4;
  }
  if (!chosen) return ClaimFree(ours, ipv6);
  CTR_RETURN_IF_ERROR(Claim({*chosen, ipv6}));
  return *chosen;
}

// Two agents that start at once may both find the same network free: who sees that another claimed
// it, too, goes on to the next.
StatusOr<IpRange> Egress::ClaimFree(const std::vector<IpRange>& ours, const IpRange& ipv6) const {
  for (int first = 0;;) {
    CTR_ASSIGN_OR_RETURN(Obstacles obstacles, FindObstacles(ours));
    const auto chosen = ChooseSubnet(options_.agent_id, first, obstacles);
    if (!chosen) {
      return absl::FailedPreconditionError(
          "no network from 10.192.0.0/16 to 10.239.0.0/16 is free on this host; name another: "
          "[network] subnet in the agent's configuration");
    }
    CTR_RETURN_IF_ERROR(Claim({chosen->ipv4, ipv6}));
    CTR_ASSIGN_OR_RETURN(obstacles, FindObstacles(ours));
    if (!ObstacleTo(chosen->ipv4, obstacles)) return chosen->ipv4;
    ReleaseSubnet(chosen->ipv4, number()).IgnoreError();
    first = chosen->number + 1;
  }
}

// `ours`: where our instances' own routes may be, which are no obstacles.
StatusOr<Obstacles> Egress::FindObstacles(const std::vector<IpRange>& ours) const {
  CTR_ASSIGN_OR_RETURN(const std::vector<HostRoute> routes, ListRoutes());
  // What instances are to reach must not seem to be one of them.
  Obstacles obstacles{.claimed = {}, .used = options_.allow};
  const std::vector<IpRange>& names = resolv_conf_.current().nameservers;
  obstacles.used.insert(obstacles.used.end(), names.begin(), names.end());
  for (const HostRoute& route : routes) {
    const IpRange& destination = route.destination;
    if (destination.prefix == 0) continue;
    if (route.is_claim) {
      if (route.metric != number()) obstacles.claimed.push_back(destination);
    } else if (route.protocol != kRouteProtocol || !IsIn(destination, ours)) {
      obstacles.used.push_back(destination);
    }
  }
  return obstacles;
}

Status Egress::Claim(const Subnets& subnets) const {
  CTR_RETURN_IF_ERROR(KeepFile(SubnetPath(), FormatSubnets(subnets) + "\n"));
  return ClaimSubnet(subnets.ipv4, number());
}

// All but `kept` that this agent has, whatever ended an earlier one in the middle.
Status Egress::ReleaseClaims(const std::vector<IpRange>& kept) const {
  CTR_ASSIGN_OR_RETURN(const std::vector<HostRoute> routes, ListRoutes());
  Status first;
  for (const HostRoute& route : routes) {
    if (!route.is_claim || route.metric != number()) continue;
    if (std::find(kept.begin(), kept.end(), route.destination) != kept.end()) continue;
    first.Update(ReleaseSubnet(route.destination, number()));
  }
  return first;
}

Status Egress::PutResolvConf() const {
  return OverwriteFile(ResolvConfPath(), FormatResolvConf(resolv_conf_.current()));
}

// From a namespace with an interface like an instance's; both go with it.
Status Egress::Test() {
  CTR_ASSIGN_OR_RETURN(const NetworkNamespace netns, NetworkNamespace::Make());
  const std::string probe = absl::StrCat(kProbe, options_.agent_id, "-", ::getpid());
  CTR_RETURN_IF_ERROR(Attach(netns, probe));
  Status tried = TestRules(netns, host_, options_.allow);
  tried.Update(Detach(probe));
  return tried;
}

std::vector<std::string> Egress::CutOff() const {
  std::vector<std::string> ids;
  // Again until there is none: one that was just being made appears late.
  for (int look = 0; look < kMostLooks; ++look) {
    const StatusOr<std::vector<FoundLink>> links = ListLinks(prefix_);
    if (!links.ok()) continue;
    if (links->empty()) break;
    for (const FoundLink& link : *links) {
      const Status removed = RemoveLinkByName(link.name);
      if (!removed.ok())
        spdlog::error("cannot cut off {}: {}", link.container_id, std::string(removed.message()));
      const bool is_new = std::find(ids.begin(), ids.end(), link.container_id) == ids.end();
      const bool is_named =
          !link.container_id.empty() && !absl::StartsWith(link.container_id, kProbe);
      if (is_named && is_new) ids.push_back(link.container_id);
    }
  }
  return ids;
}

Status Egress::Attach(const NetworkNamespace& netns, const std::string& container_id) {
  const std::shared_ptr<const Plan> plan = plan_;
  if (plan == nullptr) return absl::FailedPreconditionError("there is no way out yet");
  const Subnets& subnets = plan->subnets;
  const uint32_t count = AddressCount(subnets.ipv4);
  for (uint32_t attempt = 0; attempt < count; ++attempt) {
    const uint32_t number = kFirstNumber + next_.fetch_add(1) % count;
    LinkSpec link{.name = InterfaceName(prefix_, number),
                  .container_id = container_id,
                  .ipv4 = AddressIn(subnets.ipv4, number),
                  .ipv6 = std::nullopt,
                  .mtu = plan->mtu};
    if (plan->has_ipv6) link.ipv6 = AddressIn(subnets.ipv6, number);
    const Status added = AddLink(netns, link);
    if (!absl::IsAlreadyExists(added)) return Annotate(added, "cannot give it a way out");
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no address of ", subnets.ipv4.ToString(),
                   " is free; give a larger one: [network] subnet in the agent's configuration"));
}

Status Egress::Detach(const std::string& container_id) const { return RemoveLink(container_id); }

StatusOr<std::vector<std::string>> Egress::Attached() const {
  CTR_ASSIGN_OR_RETURN(const std::vector<FoundLink> links, ListLinks(prefix_));
  std::vector<std::string> ids;
  for (const FoundLink& link : links) {
    // One without a name is in the making, and goes with its namespace if that comes to nothing.
    if (!link.container_id.empty() && !absl::StartsWith(link.container_id, kProbe)) {
      ids.push_back(link.container_id);
    }
  }
  return ids;
}

std::vector<KernelSetting> Egress::RememberedSettings() const {
  return ParseSettings(ReadFileText(SettingsPath()));
}

Status Egress::RemoveRules() const {
  const bool is_there = HasTable(RuleTable(options_.agent_id)) == true;
  return is_there ? RunNft(RuleRemovalText(options_.agent_id)) : absl::OkStatus();
}

Status Egress::Purge() const {
  Status first;
  const StatusOr<std::vector<FoundLink>> links = ListLinks(prefix_);
  first.Update(links.status());
  if (links.ok()) {
    for (const FoundLink& link : *links) first.Update(RemoveLinkByName(link.name));
  }
  for (const KernelSetting& setting : RememberedSettings()) first.Update(RestoreSetting(setting));
  first.Update(ReleaseClaims({}));
  first.Update(RemoveRules());
  std::error_code error;
  fs::remove_all(options_.run_dir + "/network", error);
  return first;
}

}  // namespace ctr
