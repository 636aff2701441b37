#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/fd_store.h"
#include "agent/base/message_channel.h"
#include "agent/base/pidfd.h"
#include "agent/base/unix_socket.h"
#include "agent/control/handover_messages.h"
#include "agent/control/supervisor.h"
#include "agent/control/waker_relay.h"
#include "agent/proxy/ingress.h"

namespace ctr {

struct HandOverOptions {
  std::string run_dir;
  // What starts a new agent (Reload): this process's own, with its program as it is on disk by now.
  std::vector<std::string> command;
};

// What letting go means to those parts that only main sees. All but `give_up` may be undone.
struct HandOverSteps {
  // Each ends early once `gone` says that there is nobody to hand over to any more.
  using Gone = std::function<bool()>;
  std::function<awaitable<void>(Gone)> finish_imports;  // which the next agent would undo
  std::function<awaitable<void>(Gone)> quiesce;  // the API takes no more calls; those in it end
  std::function<void()> resume;                  // it does again
  std::function<awaitable<Status>()> let_go;     // of the state and of the containers
  std::function<awaitable<Status>()> take_back;
  std::function<void()> give_up;
};

// What it stops, and goes on with if nothing comes of it. All of it outlives the HandOver.
struct HandOverParts {
  asio::any_io_executor executor;  // control's
  Clock& clock;
  FdStore& fd_store;
  Supervisor& supervisor;
  WakerRelay& waker;
  Ingress& ingress;
};

// The running agent's side of a hand-over to another process: serves RUN/takeover.sock, and, once
// that process has taken over, tells it what is still in flight here and asks it for what sleeps.
// Until then whatever goes wrong there leaves this agent as it was. Owned by main; home: control.
class HandOver {
 public:
  HandOver(HandOverParts parts, HandOverOptions options, HandOverSteps steps);
  HandOver(const HandOver&) = delete;

  // From now on another agent may take over.
  Status Listen();
  // Returns once another agent has taken over and serves.
  awaitable<void> UntilDone();
  // Then: it has come as far as to serve, and lives.
  bool successor_serves() const { return successor_->ready && !successor_->gone; }
  bool successor_gone() const { return successor_->gone; }
  // Returns once it has ended.
  awaitable<void> UntilAlone();
  // The agent stops: nobody takes over any more. Returns once one that was about to has given up,
  // or, with true, has taken over after all.
  awaitable<bool> Cancel();

 private:
  enum class Phase { kServing, kLettingGo, kPassedOn, kDone, kCancelled };
  using Channel = std::shared_ptr<MessageChannel>;

  // The one that takes over.
  struct Successor {
    Channel channel;
    ucred peer = {};
    bool gone = false;
    bool committed = false;  // as it asks
    bool ready = false;
    std::unique_ptr<Alarm> alarm;
    std::optional<Pidfd> process;
  };
  // A wake that it was asked for.
  struct Asked {
    std::unique_ptr<Alarm> alarm;
    std::optional<StatusOr<Passage>> answer;
    InstanceName name;
  };

  awaitable<void> Accept();
  awaitable<void> Admit(Channel channel, ucred peer);
  Status CheckMayTakeOver(const std::string& message) const;
  awaitable<void> TryHandOver(std::shared_ptr<Successor> successor);
  awaitable<Status> Settle(std::shared_ptr<Successor> successor);
  awaitable<Status> Offer(std::shared_ptr<Successor> successor);
  awaitable<void> TakeBack();
  awaitable<void> PassOn(std::shared_ptr<Successor> successor);
  void SendAll(Successor& successor);

  awaitable<void> Attend(std::shared_ptr<Successor> successor);
  void Hear(Successor& successor, Message message);
  awaitable<void> KeepCounting(std::shared_ptr<Successor> successor);
  void SendCounts(Successor& successor);
  awaitable<StatusOr<Passage>> AskSuccessor(std::shared_ptr<Successor> successor, InstanceName name,
                                            WakeOrigin origin, MonoTime deadline, std::string cause,
                                            size_t bytes);
  void TakeAnswer(Successor& successor, uint64_t number,
                  StatusOr<std::shared_ptr<Endpoint>> answer);
  std::shared_ptr<Slot> SlotOf(const InstanceName& name);

  awaitable<void> Reload(Channel channel);
  awaitable<void> AnswerReload(Channel channel);
  awaitable<StatusOr<int>> StartAgent();
  // Has it know that this agent goes on; ends it if it does not listen.
  awaitable<void> TurnDown(Successor& successor, std::string why);

  const HandOverParts parts_;
  const HandOverOptions options_;
  const HandOverSteps steps_;
  const std::unique_ptr<Alarm> done_;

  UniqueFd listener_;
  Phase phase_ = Phase::kServing;
  std::shared_ptr<Successor> successor_;  // while one takes over, and after
  int reloads_ = 0;                       // that are not answered yet
  uint64_t last_wake_ = 0;
  std::map<uint64_t, std::shared_ptr<Asked>> asked_;
  std::map<InstanceName, std::shared_ptr<Slot>> later_;  // of instances that only it knows
  std::map<InstanceName, handover::Count> counted_;      // as it was told last
};

// Asks the agent of `run_dir` to start a new one that takes over from it. Blocks until that serves,
// or an error says why not.
Status AskForReload(const std::string& run_dir);

}  // namespace ctr
