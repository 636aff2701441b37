#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/fd_store.h"
#include "agent/base/message_channel.h"
#include "agent/base/pidfd.h"
#include "agent/control/handover_messages.h"
#include "agent/control/supervisor.h"

namespace ctr {

// The agent that this one takes over from: the other side of HandOver. What is in flight there
// counts as in flight here, and what it asks for is woken. Owned by main; home: the control loop.
class Predecessor {
 public:
  // Asks the agent of `run_dir` to hand over, and returns once it has let go of all. Blocks.
  // NOT_FOUND if none runs there, or one that does not know how. It goes on if this Predecessor
  // goes before Commit.
  static StatusOr<std::unique_ptr<Predecessor>> Connect(const std::string& run_dir,
                                                        const std::string& version);
  Predecessor(const Predecessor&) = delete;

  // The names and descriptors that it had in its FdStore. Once.
  FdStore::Descriptors TakeDescriptors() { return std::move(descriptors_); }

  // Once, before all below. What is given outlives this.
  void Begin(asio::any_io_executor executor, Clock& clock, const Supervisor& supervisor,
             Waker& waker);
  // Nothing is changed yet that it would miss, and all will go well: from here on this agent is the
  // one. Fails if the other one has gone on meanwhile, or, where a service manager starts the next
  // one then, has ended before it agreed.
  awaitable<Status> Commit();
  // The instances are known: enters what is in flight there.
  void CountAll();
  // This one serves.
  void TellReady();
  // Whether it still serves something.
  bool connected() const { return channel_ != nullptr; }

 private:
  // What it has in one instance.
  struct Guest {
    std::shared_ptr<Slot> slot;
    uint64_t in_flight = 0;
    uint64_t tunnels = 0;
    std::vector<Visit> visits;
  };

  Predecessor(UniqueFd socket, Pidfd process)
      : socket_(std::move(socket)), process_(std::move(process)) {}
  static awaitable<void> Listen(Predecessor* self, std::shared_ptr<MessageChannel> channel);
  void Hear(const std::string& message);
  void Apply(const handover::Count& count);
  void Part();
  awaitable<void> WakeFor(std::shared_ptr<MessageChannel> channel, handover::Wake wake);

  UniqueFd socket_;  // before Begin
  const Pidfd process_;
  FdStore::Descriptors descriptors_;
  std::map<InstanceName, handover::Count> counts_;

  std::optional<asio::any_io_executor> executor_;
  Clock* clock_ = nullptr;
  const Supervisor* supervisor_ = nullptr;
  Waker* waker_ = nullptr;
  std::shared_ptr<MessageChannel> channel_;  // null once it is gone
  std::unique_ptr<Alarm> alarm_;
  bool committed_ = false;
  std::string refused_;
  bool counting_ = false;
  std::map<InstanceName, Guest> guests_;
  std::map<uint64_t, Passage> untaken_;
};

}  // namespace ctr
