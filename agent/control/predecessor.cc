#include "agent/control/predecessor.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/descriptors.h"
#include "agent/base/unix_socket.h"
#include "agent/base/work.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

// It waits for starts and calls in progress.
constexpr Duration kLetGoPatience = std::chrono::seconds(60);
constexpr Duration kAnswerPatience = std::chrono::seconds(10);
constexpr Duration kAnswerPoll = std::chrono::milliseconds(10);

}  // namespace

StatusOr<std::unique_ptr<Predecessor>> Predecessor::Connect(const std::string& run_dir,
                                                            const std::string& version) {
  CTR_ASSIGN_OR_RETURN(UniqueFd socket, ConnectForMessages(handover::SocketPath(run_dir)));
  CTR_ASSIGN_OR_RETURN(const ucred peer, UnixPeerOf(socket.get()));
  CTR_ASSIGN_OR_RETURN(Pidfd process, Pidfd::Open(peer.pid));
  std::unique_ptr<Predecessor> predecessor(new Predecessor(std::move(socket), std::move(process)));
  const int fd = predecessor->socket_.get();
  CTR_RETURN_IF_ERROR(SendMessage(fd, {handover::Encode(handover::TakeOver{.version = version})}));
  for (;;) {
    StatusOr<Message> message = ReceiveMessage(fd, kLetGoPatience);
    if (!message.ok()) {
      return Annotate(message.status(),
                      absl::StrCat("the running agent (pid ", peer.pid, ") does not hand over"));
    }
    const std::string_view kind = handover::KindOf(message->text);
    if (kind == handover::kYours) return predecessor;
    if (kind == handover::kRefused) {
      return absl::FailedPreconditionError(
          absl::StrCat("the running agent (pid ", peer.pid,
                       ") does not hand over: ", std::string(handover::RestOf(message->text))));
    }
    if (kind == handover::kDescriptors) {
      const std::vector<std::string> names = handover::DecodeDescriptors(message->text);
      for (size_t i = 0; i < std::min(names.size(), message->fds.size()); ++i) {
        predecessor->descriptors_[names[i]].push_back(std::move(message->fds[i]));
      }
    } else {
      predecessor->Hear(message->text);
    }
  }
}

void Predecessor::Begin(asio::any_io_executor executor, Clock& clock, const Supervisor& supervisor,
                        Waker& waker) {
  clock_ = &clock;
  supervisor_ = &supervisor;
  waker_ = &waker;
  alarm_ = clock.MakeAlarm(executor);
  channel_ = std::make_shared<MessageChannel>(executor, std::move(socket_));
  executor_ = executor;
  SpawnOrDie(executor, Listen(this, channel_), "the agent that hands over");
}

awaitable<void> Predecessor::Listen(Predecessor* self, std::shared_ptr<MessageChannel> channel) {
  while (std::optional<Message> message = co_await channel->Read()) self->Hear(message->text);
  self->Part();
}

awaitable<Status> Predecessor::Commit() {
  if (channel_) channel_->Send({std::string(handover::kCommit)});
  const MonoTime deadline = clock_->Now() + kAnswerPatience;
  while (!committed_ && channel_ && clock_->Now() < deadline) co_await alarm_->WaitUntil(deadline);
  if (committed_) co_return absl::OkStatus();
  // It says so when it goes on without us. One that is dead can't, and does not.
  while (refused_.empty() && !process_.HasExited() && clock_->Now() < deadline) {
    co_await clock_->SleepUntil(clock_->Now() + kAnswerPoll);
  }
  if (refused_.empty() && process_.HasExited() && std::getenv("NOTIFY_SOCKET") == nullptr) {
    spdlog::warn("the agent that hands over has ended; taking over all the same");
    co_return absl::OkStatus();
  }
  co_return absl::FailedPreconditionError(absl::StrCat(
      "the running agent goes on: ", refused_.empty() ? "it does not answer" : refused_));
}

void Predecessor::TellReady() {
  if (channel_) channel_->Send({std::string(handover::kReady)});
}

void Predecessor::Hear(const std::string& message) {
  const std::string_view kind = handover::KindOf(message);
  if (kind == handover::kCount) {
    StatusOr<handover::Count> count = handover::DecodeCount(message);
    if (!count.ok()) return;
    counts_[count->name] = *count;
    if (counting_) Apply(*count);
  } else if (kind == handover::kWake) {
    StatusOr<handover::Wake> wake = handover::DecodeWake(message);
    if (wake.ok()) SpawnOrDie(*executor_, WakeFor(channel_, *std::move(wake)), "wake");
  } else if (kind == handover::kTaken) {
    StatusOr<uint64_t> number = handover::DecodeTaken(message);
    if (number.ok()) untaken_.erase(*number);
  } else if (kind == handover::kCommitted) {
    committed_ = true;
    alarm_->Ring();
  } else if (kind == handover::kRefused) {
    refused_ = handover::RestOf(message);
  }
}

void Predecessor::CountAll() {
  counting_ = true;
  for (const auto& [name, count] : counts_) Apply(count);
}

void Predecessor::Apply(const handover::Count& count) {
  auto instance = supervisor_->instances().find(count.name);
  Guest& guest = guests_[count.name];
  if (!guest.slot) {
    if (instance == supervisor_->instances().end()) return;
    guest.slot = instance->second->slot();
  }
  // It may have been destroyed and created again since.
  const bool is_empty = guest.in_flight == 0 && guest.tunnels == 0;
  if (is_empty && instance != supervisor_->instances().end()) guest.slot = instance->second->slot();
  Slot& slot = *guest.slot;
  for (; guest.in_flight < count.in_flight; ++guest.in_flight) slot.EnterClosed();
  for (; guest.tunnels < count.tunnels; ++guest.tunnels) slot.BeginTunnel();
  for (; guest.tunnels > count.tunnels; --guest.tunnels) slot.EndTunnel();
  for (; guest.in_flight > count.in_flight; --guest.in_flight) slot.Leave(clock_->Now());
  if (count.tunnels > 0) slot.TouchTunnel(count.last_tunnel_activity);
  while (guest.visits.size() > count.visits) guest.visits.pop_back();
  if (instance == supervisor_->instances().end() || !instance->second->container()) return;
  while (guest.visits.size() < count.visits) guest.visits.emplace_back(instance->second);
}

// What it had in flight ended with it.
void Predecessor::Part() {
  if (counting_) {
    for (auto& [name, count] : std::exchange(counts_, {})) Apply({.name = name});
  }
  counts_.clear();
  untaken_.clear();
  channel_ = nullptr;
  alarm_->Ring();
}

awaitable<void> Predecessor::WakeFor(std::shared_ptr<MessageChannel> channel, handover::Wake wake) {
  StatusOr<Passage> passage = co_await waker_->EnsureAwake(wake.name, wake.origin, wake.deadline,
                                                           std::move(wake.cause), wake.bytes);
  if (channel != channel_) co_return;
  if (!passage.ok()) {
    channel->Send({handover::Encode(handover::Failed{wake.number, passage.status()})});
    co_return;
  }
  const Endpoint& endpoint = *passage->endpoint();
  UniqueFd netns = CopyDescriptor(endpoint.netns->fd());
  if (!netns.valid()) {
    channel->Send({handover::Encode(handover::Failed{wake.number, ErrnoError(errno, "fcntl")})});
    co_return;
  }
  // One that only a third agent knows, else.
  Guest& guest = guests_[passage->slot()->name()];
  if (!guest.slot) guest.slot = passage->slot();
  Message answer{handover::Encode(handover::Awake{wake.number, passage->slot()->name(),
                                                  endpoint.generation, endpoint.dial_loopback})};
  answer.fds.push_back(std::move(netns));
  channel->Send(std::move(answer));
  untaken_[wake.number] = *std::move(passage);
}

}  // namespace ctr
