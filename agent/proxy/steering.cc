#include "agent/proxy/steering.h"

#include <arpa/inet.h>

#include "absl/strings/str_cat.h"
#include "agent/base/netns.h"
#include "agent/proxy/range_lock.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr Ipv4Range kLoopback{127u << 24, 8};

// Names in the FdStore.
constexpr char kKeptListener[] = "steer-listener";
constexpr char kKeptPairs[] = "steer-pairs";
constexpr char kKeptSockets[] = "steer-sockets";
constexpr char kKeptLink[] = "steer-link";

std::string BoundName(uint32_t address, uint16_t port) {
  return absl::StrCat("bound-", FormatIpv4(address), "-", port);
}

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
                                                     SteeringMode mode, FdStore& store) {
  std::vector<UniqueFd> locks;
  for (const Ipv4Range& range : ranges) {
    const std::string lock_name = absl::StrCat("lock-", range.ToString());
    if (!kLoopback.Contains(range.base) || range.prefix < kLoopback.prefix) {
      return absl::InvalidArgumentError(
          absl::StrCat(range.ToString(), " does not lie in 127.0.0.0/8; give a range that does"));
    }
    UniqueFd lock = store.Take(lock_name);
    if (!lock.valid()) {
      CTR_ASSIGN_OR_RETURN(lock, LockRange(range));
    }
    store.Lend(lock_name, lock.get());
    locks.push_back(std::move(lock));
  }
  std::unique_ptr<Steering> steering(new Steering(std::move(locks), store));
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
  Status resumed = ResumeSkLookup(ranges);
  if (resumed.ok()) return resumed;
  if (!absl::IsNotFound(resumed)) {
    spdlog::warn("steering is set up anew: {}", std::string(resumed.message()));
    for (const char* name : {kKeptListener, kKeptPairs, kKeptSockets, kKeptLink}) {
      store_.Remove(name);
    }
  }
  // On the range's own network address, which no instance gets: the program then refuses whoever
  // would connect to the listener itself.
  CTR_ASSIGN_OR_RETURN(std::shared_ptr<Listener> listener,
                       Listener::OpenSteered(ranges.front().base, 0));
  CTR_ASSIGN_OR_RETURN(sk_lookup_, SkLookup::Attach(ranges, listener->fd()));
  shared_ = std::move(listener);
  store_.Keep(kKeptListener, shared_->fd());
  store_.Keep(kKeptPairs, sk_lookup_->pairs());
  store_.Keep(kKeptSockets, sk_lookup_->sockets());
  store_.Keep(kKeptLink, sk_lookup_->link());
  return absl::OkStatus();
}

// NOT_FOUND if nothing was kept. What was kept has steered all the while, and connections wait.
Status Steering::ResumeSkLookup(const std::vector<Ipv4Range>& ranges) {
  UniqueFd listener = store_.Take(kKeptListener);
  SkLookup::Kept kept{store_.Take(kKeptPairs), store_.Take(kKeptSockets), store_.Take(kKeptLink)};
  const int count =
      listener.valid() + kept.pairs.valid() + kept.sockets.valid() + kept.link.valid();
  if (count == 0) return absl::NotFoundError("nothing was kept");
  if (count < 4) return absl::InvalidArgumentError("not all of it was kept");
  CTR_ASSIGN_OR_RETURN(std::shared_ptr<Listener> resumed,
                       Listener::ResumeSteered(std::move(listener), ranges.front().base, 0));
  CTR_ASSIGN_OR_RETURN(sk_lookup_, SkLookup::Resume(std::move(kept), ranges, resumed->fd()));
  shared_ = std::move(resumed);
  for (const Target& target : sk_lookup_->List()) stale_.insert(target);
  return absl::OkStatus();
}

Status Steering::Add(uint32_t address, uint16_t port) {
  if (closed_) return absl::UnavailableError("the agent is stopping");
  stale_.erase(Target(address, port));
  return sk_lookup_ ? sk_lookup_->Add(address, port) : Bind(address, port);
}

Status Steering::Bind(uint32_t address, uint16_t port) {
  const Target target(address, port);
  if (bound_.contains(target)) return absl::OkStatus();
  StatusOr<std::shared_ptr<Listener>> listener = OpenBound(address, port);
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

// The one of an earlier process, or a new one.
StatusOr<std::shared_ptr<Listener>> Steering::OpenBound(uint32_t address, uint16_t port) {
  const std::string name = BoundName(address, port);
  if (UniqueFd kept = store_.Take(name); kept.valid()) {
    auto resumed = Listener::ResumeSteered(std::move(kept), address, port);
    if (resumed.ok()) return resumed;
    spdlog::warn("\"{}\" was kept, but {}", name, std::string(resumed.status().message()));
    store_.Remove(name);
  }
  auto listener = Listener::OpenSteered(address, port);
  if (listener.ok()) store_.Keep(name, (*listener)->fd());
  return listener;
}

void Steering::Remove(uint32_t address, uint16_t port) {
  if (sk_lookup_) {
    sk_lookup_->Remove(address, port);
    return;
  }
  auto found = bound_.find(Target(address, port));
  if (found == bound_.end()) return;
  found->second->Close();
  store_.Remove(BoundName(address, port));
  bound_.erase(found);
}

void Steering::Serve(OnListener on_listener) {
  on_listener_ = std::move(on_listener);
  for (const auto& [address, port] : std::exchange(stale_, {})) sk_lookup_->Remove(address, port);
  for (const std::shared_ptr<Listener>& listener : listeners()) on_listener_(listener);
}

std::vector<std::shared_ptr<Listener>> Steering::listeners() const {
  std::vector<std::shared_ptr<Listener>> listeners;
  if (shared_) listeners.push_back(shared_);
  for (const auto& [target, listener] : bound_) listeners.push_back(listener);
  return listeners;
}

void Steering::TakeBack() {
  if (!sk_lookup_) return;
  Status attached = sk_lookup_->Reattach();
  if (!attached.ok()) spdlog::error("steering: {}", std::string(attached.message()));
}

void Steering::Close() {
  closed_ = true;
  if (store_.available()) return;
  for (const std::shared_ptr<Listener>& listener : listeners()) listener->Close();
}

}  // namespace ctr
