#include "agent/control/hand_over.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "agent/base/descriptors.h"
#include "agent/base/pidfd.h"
#include "agent/base/spawn.h"
#include "agent/base/unix_socket.h"
#include "agent/base/work.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr Duration kPoll = std::chrono::milliseconds(5);
constexpr Duration kCountInterval = std::chrono::milliseconds(20);
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);
constexpr Duration kFirstMessage = std::chrono::seconds(5);
// What starts is waited for, so that it is not started twice; what takes longer is handed on.
constexpr Duration kStartPatience = std::chrono::seconds(10);
constexpr Duration kStopPatience = std::chrono::seconds(1);
constexpr Duration kCommitPatience = std::chrono::seconds(30);
constexpr Duration kReadyPatience = std::chrono::seconds(30);
// It gives up at the deadline itself.
constexpr Duration kAnswerGrace = std::chrono::seconds(2);
constexpr Duration kReloadPatience = std::chrono::seconds(90);

// A new agent is to be the service manager's child, not ours: for the end of a main process that is
// not its own child systemd does not wait, and follows the SIGTERM of a stop with SIGKILL at once.
// So a shell starts it, tells its pid, and ends.
constexpr char kStartAsOrphan[] = R"("$@" 3>&- & echo $! >&3)";

std::vector<std::string> OwnEnvironment() {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  return environment;
}

Status Gone() { return absl::UnavailableError("it ended, or gave up"); }

std::string Refused(absl::string_view why) {
  return absl::StrCat(std::string(handover::kRefused), " ", why);
}

}  // namespace

HandOver::HandOver(HandOverParts parts, HandOverOptions options, HandOverSteps steps)
    : parts_(std::move(parts)),
      options_(std::move(options)),
      steps_(std::move(steps)),
      done_(parts_.clock.MakeAlarm(parts_.executor)) {}

Status HandOver::Listen() {
  CTR_ASSIGN_OR_RETURN(listener_, ListenForMessages(handover::SocketPath(options_.run_dir)));
  SpawnOrDie(parts_.executor, Accept(), "takeover.sock");
  return absl::OkStatus();
}

awaitable<void> HandOver::UntilDone() {
  while (phase_ != Phase::kDone) co_await done_->WaitUntil(MonoTime::max());
}

awaitable<bool> HandOver::Cancel() {
  if (phase_ == Phase::kServing) phase_ = Phase::kCancelled;
  if (phase_ == Phase::kLettingGo) {
    const std::shared_ptr<Successor> successor = successor_;
    // First: a commit that comes while it is told must not count.
    successor->gone = true;
    successor->alarm->Ring();
    co_await TurnDown(*successor, "it is stopping");
  }
  while (phase_ == Phase::kLettingGo || phase_ == Phase::kPassedOn) {
    co_await parts_.clock.SleepUntil(parts_.clock.Now() + kPoll);
  }
  if (phase_ == Phase::kServing) phase_ = Phase::kCancelled;
  co_return phase_ == Phase::kDone;
}

awaitable<void> HandOver::UntilAlone() {
  while (!successor_->gone) {
    co_await parts_.clock.SleepUntil(parts_.clock.Now() + kCountInterval);
  }
}

awaitable<void> HandOver::TurnDown(Successor& successor, std::string why) {
  successor.channel->Send({Refused(why)});
  const bool heard = co_await successor.channel->Flush();
  if (!heard && successor.process) successor.process->Signal(SIGKILL).IgnoreError();
  successor.channel->Close();
}

awaitable<void> HandOver::Accept() {
  asio::posix::stream_descriptor waiter(parts_.executor, CopyDescriptor(listener_.get()).Release());
  while (listener_.valid()) {
    UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection.valid()) {
      if (errno != EAGAIN) {
        co_await parts_.clock.SleepUntil(parts_.clock.Now() + kAcceptPause);
        continue;
      }
      ErrorCode failed;
      co_await waiter.async_wait(asio::posix::stream_descriptor::wait_read,
                                 asio::redirect_error(use_awaitable, failed));
      if (failed) co_return;
      continue;
    }
    StatusOr<ucred> peer = UnixPeerOf(connection.get());
    if (!peer.ok() || (peer->uid != 0 && peer->uid != ::geteuid())) continue;
    auto channel = std::make_shared<MessageChannel>(parts_.executor, std::move(connection));
    SpawnOrDie(parts_.executor, Admit(std::move(channel), *peer), "takeover.sock");
  }
}

awaitable<void> HandOver::Admit(Channel channel, ucred peer) {
  using asio::experimental::awaitable_operators::operator||;
  auto first =
      co_await (channel->Read() || parts_.clock.SleepUntil(parts_.clock.Now() + kFirstMessage));
  if (first.index() != 0 || !std::get<0>(first)) co_return;
  const std::string message = std::get<0>(first)->text;
  if (handover::KindOf(message) == handover::kReload) co_return co_await Reload(std::move(channel));
  if (Status may = CheckMayTakeOver(message); !may.ok()) {
    channel->Send({Refused(may.message())});
    co_await channel->Flush();
    co_return;
  }
  auto successor = std::make_shared<Successor>();
  successor->channel = std::move(channel);
  successor->peer = peer;
  if (StatusOr<Pidfd> process = Pidfd::Open(peer.pid); process.ok()) {
    successor->process = *std::move(process);
  }
  successor->alarm = parts_.clock.MakeAlarm(parts_.executor);
  successor_ = successor;
  phase_ = Phase::kLettingGo;
  SpawnOrDie(parts_.executor, Attend(successor), "the agent that takes over");
  co_await TryHandOver(std::move(successor));
}

Status HandOver::CheckMayTakeOver(const std::string& message) const {
  StatusOr<handover::TakeOver> wish = handover::DecodeTakeOver(message);
  if (handover::KindOf(message) != handover::kTakeOver || !wish.ok()) {
    return absl::InvalidArgumentError("the running agent does not understand what it is asked");
  }
  if (wish->protocol != handover::kProtocol) {
    return absl::FailedPreconditionError(absl::StrCat("the running agent hands over by protocol ",
                                                      handover::kProtocol, ", not ", wish->protocol,
                                                      "; stop it, and start this one"));
  }
  if (phase_ == Phase::kServing) return absl::OkStatus();
  return absl::FailedPreconditionError(phase_ == Phase::kCancelled
                                           ? "the running agent is stopping"
                                           : "another agent is already taking over");
}

// The commit is the one step that is not undone.
awaitable<void> HandOver::TryHandOver(std::shared_ptr<Successor> successor) {
  spdlog::info("pid {} asks to take over", successor->peer.pid);
  Status ended = co_await Settle(successor);
  if (ended.ok()) {
    ended = co_await Offer(successor);
    if (ended.ok()) {
      co_await PassOn(successor);
      phase_ = Phase::kDone;
      done_->Ring();
      co_return;
    }
    co_await TakeBack();
  }
  steps_.resume();
  parts_.waker.Release();
  phase_ = Phase::kServing;
  spdlog::warn("pid {} has not taken over: {}", successor->peer.pid, std::string(ended.message()));
}

// Traffic goes on meanwhile, but what sleeps is woken by who is the agent afterwards.
awaitable<Status> HandOver::Settle(std::shared_ptr<Successor> successor) {
  const auto gone = [successor] { return successor->gone; };
  co_await steps_.finish_imports(gone);
  if (successor->gone) co_return Gone();
  parts_.waker.Hold();
  co_await steps_.quiesce(gone);
  const MonoTime begin = parts_.clock.Now();
  const auto is_within = [&](Duration patience) { return parts_.clock.Now() - begin < patience; };
  const Supervisor& supervisor = parts_.supervisor;
  while (!successor->gone && ((supervisor.HasAny(State::kStarting) && is_within(kStartPatience)) ||
                              (supervisor.HasAny(State::kStopping) && is_within(kStopPatience)))) {
    co_await parts_.clock.SleepUntil(parts_.clock.Now() + kPoll);
  }
  if (successor->gone) co_return Gone();
  // At once: nothing may begin that it would know nothing of.
  parts_.supervisor.Hold();
  co_return absl::OkStatus();
}

// Lets go of everything, and returns once the other commits.
awaitable<Status> HandOver::Offer(std::shared_ptr<Successor> successor) {
  co_await parts_.ingress.Pause();
  CTR_CO_RETURN_IF_ERROR(co_await steps_.let_go());
  SendAll(*successor);
  const MonoTime deadline = parts_.clock.Now() + kCommitPatience;
  while (!successor->committed && !successor->gone && parts_.clock.Now() < deadline) {
    SendCounts(*successor);
    co_await successor->alarm->WaitUntil(std::min(deadline, parts_.clock.Now() + kCountInterval));
  }
  if (successor->gone) co_return Gone();
  if (successor->committed) co_return absl::OkStatus();
  // It must not go on by itself when its connection ends.
  co_await TurnDown(*successor, "it was not ready in time");
  co_return absl::DeadlineExceededError("it was not ready in time");
}

awaitable<void> HandOver::TakeBack() {
  counted_.clear();
  Status taken = co_await steps_.take_back();
  if (!taken.ok()) {
    // A newer version has changed the state, and then died: nobody but another of it can go on.
    spdlog::critical("cannot go on: {}", std::string(taken.message()));
    std::_Exit(1);
  }
  parts_.supervisor.Release();
  parts_.ingress.Resume();
}

awaitable<void> HandOver::PassOn(std::shared_ptr<Successor> successor) {
  phase_ = Phase::kPassedOn;
  spdlog::info("handed over to pid {}", successor->peer.pid);
  listener_.Reset();
  parts_.fd_store.Notify(absl::StrCat("MAINPID=", successor->peer.pid));
  parts_.fd_store.PassOn();
  steps_.give_up();
  successor->channel->Send({std::string(handover::kCommitted)});
  parts_.waker.PassOn([this, successor](InstanceName name, WakeOrigin origin, MonoTime deadline,
                                        std::string cause, size_t bytes) {
    return AskSuccessor(successor, std::move(name), origin, deadline, std::move(cause), bytes);
  });
  SpawnOrDie(parts_.executor, KeepCounting(successor), "counts");
  const MonoTime deadline = parts_.clock.Now() + kReadyPatience;
  while (!successor->ready && !successor->gone && parts_.clock.Now() < deadline) {
    co_await successor->alarm->WaitUntil(deadline);
  }
  if (!successor->ready) {
    spdlog::error("the agent that has taken over does not serve");
    co_return;
  }
  // What it does not want must not go on here, and where it ends, another may follow.
  parts_.fd_store.LetGo();
  while (reloads_ > 0 && parts_.clock.Now() < deadline) {
    co_await parts_.clock.SleepUntil(parts_.clock.Now() + kPoll);
  }
}

void HandOver::SendAll(Successor& successor) {
  Message batch;
  std::vector<std::string> names;
  const auto send = [&] {
    if (names.empty()) return;
    batch.text = handover::EncodeDescriptors(std::exchange(names, {}));
    successor.channel->Send(std::exchange(batch, {}));
  };
  for (const auto& [name, fd] : parts_.fd_store.kept()) {
    UniqueFd copy = CopyDescriptor(fd);
    if (!copy.valid()) continue;  // of no use to it, then
    batch.fds.push_back(std::move(copy));
    names.push_back(name);
    if (names.size() == kMaxMessageFds) send();
  }
  send();
  SendCounts(successor);
  successor.channel->Send({std::string(handover::kYours)});
}

awaitable<void> HandOver::Attend(std::shared_ptr<Successor> successor) {
  while (std::optional<Message> message = co_await successor->channel->Read()) {
    Hear(*successor, std::move(*message));
  }
  successor->gone = true;
  successor->alarm->Ring();
  for (const auto& [number, asked] : asked_) asked->alarm->Ring();
}

void HandOver::Hear(Successor& successor, Message message) {
  const std::string_view kind = handover::KindOf(message.text);
  if (kind == handover::kCommit) {
    successor.committed = true;
  } else if (kind == handover::kReady) {
    successor.ready = true;
  } else if (kind == handover::kAwake && message.fds.size() == 1) {
    StatusOr<handover::Awake> awake = handover::DecodeAwake(message.text);
    if (!awake.ok()) return;
    StatusOr<NetworkNamespace> netns =
        NetworkNamespace::FromDescriptor(std::move(message.fds.front()));
    if (auto asked = asked_.find(awake->number); asked != asked_.end()) {
      asked->second->name = awake->name;
    }
    if (!netns.ok()) return TakeAnswer(successor, awake->number, netns.status());
    auto endpoint = std::make_shared<Endpoint>();
    endpoint->netns = std::make_shared<const NetworkNamespace>(*std::move(netns));
    endpoint->dial_loopback = awake->dial_loopback;
    endpoint->generation = awake->generation;
    const auto known = parts_.supervisor.instances().find(awake->name);
    const bool is_same_start = known != parts_.supervisor.instances().end() &&
                               known->second->observed().generation == awake->generation;
    if (is_same_start) endpoint->config = known->second->started_config();
    return TakeAnswer(successor, awake->number, std::move(endpoint));
  } else if (kind == handover::kFailed) {
    StatusOr<handover::Failed> failed = handover::DecodeFailed(message.text);
    if (failed.ok()) TakeAnswer(successor, failed->number, std::move(failed->status));
    return;
  }
  successor.alarm->Ring();
}

// The count goes before the word that it was taken, so that the instance is never thought idle in
// between.
void HandOver::TakeAnswer(Successor& successor, uint64_t number,
                          StatusOr<std::shared_ptr<Endpoint>> answer) {
  auto found = asked_.find(number);
  if (found == asked_.end()) return;
  const std::shared_ptr<Asked> asked = found->second;
  asked_.erase(found);
  if (answer.ok()) {
    const std::shared_ptr<Slot> slot = SlotOf(asked->name);
    slot->EnterClosed();
    asked->answer =
        Passage(slot, *std::move(answer), [] { return std::chrono::steady_clock::now(); });
    SendCounts(successor);
    successor.channel->Send({handover::EncodeTaken(number)});
  } else {
    asked->answer = answer.status();
  }
  asked->alarm->Ring();
}

// Of a request that is cancelled the answer is still awaited, in `asked_`: what it lets in leaves
// again then, and the other one is told so.
awaitable<StatusOr<Passage>> HandOver::AskSuccessor(std::shared_ptr<Successor> successor,
                                                    InstanceName name, WakeOrigin origin,
                                                    MonoTime deadline, std::string cause,
                                                    size_t bytes) {
  auto asked = std::make_shared<Asked>();
  asked->alarm = parts_.clock.MakeAlarm(parts_.executor);
  asked->name = name;
  const uint64_t number = ++last_wake_;
  asked_[number] = asked;
  successor->channel->Send(
      {handover::Encode(handover::Wake{number, origin, deadline, bytes, name, std::move(cause)})});
  const MonoTime patience = std::min(deadline, MonoTime::max() - kAnswerGrace) + kAnswerGrace;
  while (!asked->answer && !successor->gone && parts_.clock.Now() < patience) {
    co_await asked->alarm->WaitUntil(patience);
  }
  if (asked->answer) co_return *std::move(asked->answer);
  asked_.erase(number);
  co_return Error(absl::StatusCode::kUnavailable, code::kDraining,
                  absl::StrCat("cannot wake ", name.ToString(),
                               ": the agent that has taken over is gone; try again"));
}

std::shared_ptr<Slot> HandOver::SlotOf(const InstanceName& name) {
  auto found = parts_.supervisor.instances().find(name);
  if (found != parts_.supervisor.instances().end()) return found->second->slot();
  std::shared_ptr<Slot>& slot = later_[name];
  if (!slot) slot = std::make_shared<Slot>(name);
  return slot;
}

awaitable<void> HandOver::KeepCounting(std::shared_ptr<Successor> successor) {
  while (!successor->gone) {
    SendCounts(*successor);
    co_await parts_.clock.SleepUntil(parts_.clock.Now() + kCountInterval);
  }
}

// What has changed since.
void HandOver::SendCounts(Successor& successor) {
  const auto send = [&](const Slot& slot, int visits) {
    const handover::Count count{slot.name(), slot.in_flight(), slot.tunnels(),
                                static_cast<uint64_t>(visits), slot.last_tunnel_activity()};
    handover::Count& told = counted_[slot.name()];
    if (told == count || (told.name.id.empty() && count.in_flight + count.visits == 0)) return;
    told = count;
    successor.channel->Send({handover::Encode(count)});
  };
  for (const auto& [name, instance] : parts_.supervisor.instances()) {
    send(*instance->slot(), instance->visits());
  }
  for (const auto& [name, slot] : later_) send(*slot, 0);
}

awaitable<void> HandOver::Reload(Channel channel) {
  ++reloads_;
  co_await AnswerReload(std::move(channel));
  --reloads_;
}

awaitable<StatusOr<int>> HandOver::StartAgent() {
  int ends[2];
  if (OpenDescriptor([&] { return ::pipe2(ends, O_CLOEXEC); }) != 0) {
    co_return ErrnoError(errno, "cannot start a new agent");
  }
  const UniqueFd told(ends[0]);
  UniqueFd telling(ends[1]);
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", kStartAsOrphan, "sh"};
  options.argv.insert(options.argv.end(), options_.command.begin(), options_.command.end());
  options.environment = OwnEnvironment();
  options.output_fd = STDOUT_FILENO;
  options.error_fd = STDERR_FILENO;
  options.keeps_oom_score = true;
  options.passed_fds = {telling.get()};
  StatusOr<int> shell = Spawn(options);
  if (!shell.ok()) co_return shell.status();
  telling.Reset();
  while (::waitpid(*shell, nullptr, WNOHANG) == 0) {
    co_await parts_.clock.SleepUntil(parts_.clock.Now() + kPoll);
  }
  std::array<char, 16> text;
  const ssize_t size = ::read(told.get(), text.data(), text.size());
  int pid = 0;
  if (size <= 0 || !absl::SimpleAtoi(absl::string_view(text.data(), size), &pid)) {
    co_return absl::InternalError("cannot start a new agent; see the agent's log");
  }
  co_return pid;
}

awaitable<void> HandOver::AnswerReload(Channel channel) {
  StatusOr<int> pid = co_await StartAgent();
  StatusOr<Pidfd> process = pid.ok() ? Pidfd::Open(*pid) : StatusOr<Pidfd>(pid.status());
  const MonoTime deadline = parts_.clock.Now() + kReloadPatience;
  std::string outcome(handover::kDone);
  const std::string ended =
      Refused("the new agent ended before it could take over; see the agent's log");
  if (!process.ok()) {
    outcome = absl::IsNotFound(process.status()) ? ended : Refused(process.status().message());
  }
  const auto has_taken_over = [&] {
    return successor_ && successor_->peer.pid == *pid && successor_->ready;
  };
  while (process.ok() && !has_taken_over()) {
    if (process->HasExited()) {
      outcome = ended;
      break;
    }
    if (parts_.clock.Now() >= deadline) {
      outcome = Refused("the new agent takes too long; see the agent's log");
      break;
    }
    co_await parts_.clock.SleepUntil(parts_.clock.Now() + kPoll);
  }
  channel->Send({std::move(outcome)});
  co_await channel->Flush();
}

Status AskForReload(const std::string& run_dir) {
  CTR_ASSIGN_OR_RETURN(UniqueFd socket, ConnectForMessages(handover::SocketPath(run_dir)));
  CTR_RETURN_IF_ERROR(SendMessage(socket.get(), {std::string(handover::kReload)}));
  CTR_ASSIGN_OR_RETURN(Message answer,
                       ReceiveMessage(socket.get(), kReloadPatience + std::chrono::seconds(5)));
  if (handover::KindOf(answer.text) == handover::kDone) return absl::OkStatus();
  return absl::FailedPreconditionError(std::string(handover::RestOf(answer.text)));
}

}  // namespace ctr
