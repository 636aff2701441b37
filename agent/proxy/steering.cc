#include "agent/proxy/steering.h"

#include <arpa/inet.h>

#include "absl/strings/str_cat.h"
#include "agent/base/netns.h"
#include "agent/proxy/range_lock.h"

namespace ctr {
namespace {

constexpr Ipv4Range kLoopback{127u << 24, 8};

// Who listens on `port` so that nobody else can bind it on `address`: "0.0.0.0:80".
std::string ConflictOf(uint32_t address, uint16_t port) {
  const std::string here = absl::StrCat(FormatIpv4(address), ":", port);
  StatusOr<NetworkNamespace> netns = NetworkNamespace::Current();
  if (!netns.ok()) return here;
  StatusOr<ListenProbe> probe = ListenProbe::In(*netns);
  if (!probe.ok()) return here;
  StatusOr<std::vector<ListeningSocket>> sockets = probe->List();
  if (!sockets.ok()) return here;
  for (const ListeningSocket& socket : *sockets) {
    if (socket.port == port && socket.any_address) return absl::StrCat("0.0.0.0:", port);
  }
  return here;
}

}  // namespace

StatusOr<std::unique_ptr<Steering>> Steering::Create(std::vector<Ipv4Range> ranges,
                                                     SteeringMode mode) {
  std::vector<UniqueFd> locks;
  for (const Ipv4Range& range : ranges) {
    if (!kLoopback.Contains(range.base) || range.prefix < kLoopback.prefix) {
      return absl::InvalidArgumentError(
          absl::StrCat(range.ToString(), " does not lie in 127.0.0.0/8; give a range that does"));
    }
    CTR_ASSIGN_OR_RETURN(UniqueFd lock, LockRange(range));
    locks.push_back(std::move(lock));
  }
  std::unique_ptr<Steering> steering(new Steering(std::move(locks)));
  if (mode == SteeringMode::kBind) {
    steering->description_ = "bind: as configured";
    return steering;
  }
  Status attached = steering->UseSkLookup(ranges);
  if (attached.ok()) {
    steering->description_ = "sk_lookup";
  } else if (mode == SteeringMode::kAuto) {
    steering->description_ = absl::StrCat("bind: ", attached.message());
  } else {
    return Annotate(attached,
                    "the kernel refuses sk_lookup; run as root on Linux 5.9 or later, or "
                    "set steering = \"bind\"");
  }
  return steering;
}

Status Steering::UseSkLookup(const std::vector<Ipv4Range>& ranges) {
  if (ranges.empty()) return absl::InvalidArgumentError("there is no range to steer");
  // On the range's own network address, which no instance gets: the program then refuses whoever
  // would connect to the listener itself.
  CTR_ASSIGN_OR_RETURN(std::shared_ptr<Listener> listener,
                       Listener::OpenSteered(ranges.front().base, 0));
  CTR_ASSIGN_OR_RETURN(sk_lookup_, SkLookup::Attach(ranges, listener->fd()));
  shared_ = std::move(listener);
  return absl::OkStatus();
}

Status Steering::Add(uint32_t address, uint16_t port) {
  if (closed_) return absl::UnavailableError("the agent is stopping");
  return sk_lookup_ ? sk_lookup_->Add(address, port) : Bind(address, port);
}

Status Steering::Bind(uint32_t address, uint16_t port) {
  const Target target(address, port);
  if (bound_.contains(target)) return absl::OkStatus();
  StatusOr<std::shared_ptr<Listener>> listener = Listener::OpenSteered(address, port);
  if (absl::IsAlreadyExists(listener.status())) {
    const std::string conflict = ConflictOf(address, port);
    return Error(absl::StatusCode::kAlreadyExists, code::kInUse,
                 absl::StrCat("cannot listen on ", FormatIpv4(address), ":", port, ": a server on ",
                              conflict, " has the port; stop it (ss -ltnp 'sport = :", port,
                              "' names it), or declare another port"));
  }
  if (!listener.ok()) {
    return Annotate(listener.status(),
                    absl::StrCat("cannot listen on ", FormatIpv4(address), ":", port));
  }
  bound_[target] = *listener;
  if (on_listener_) on_listener_(*std::move(listener));
  return absl::OkStatus();
}

void Steering::Remove(uint32_t address, uint16_t port) {
  if (sk_lookup_) {
    sk_lookup_->Remove(address, port);
    return;
  }
  auto found = bound_.find(Target(address, port));
  if (found == bound_.end()) return;
  found->second->Close();
  bound_.erase(found);
}

void Steering::Serve(OnListener on_listener) {
  on_listener_ = std::move(on_listener);
  if (shared_) on_listener_(shared_);
  for (const auto& [target, listener] : bound_) on_listener_(listener);
}

void Steering::Close() {
  closed_ = true;
  if (shared_) shared_->Close();
  for (const auto& [target, listener] : bound_) listener->Close();
  bound_.clear();
}

}  // namespace ctr
