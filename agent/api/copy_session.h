#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/api/copy_process.h"
#include "agent/control/supervisor.h"

namespace ctr {

// A copy to make: the arguments of its process, and what it is, for people ("into /etc/motd").
struct CopySpec {
  std::vector<std::string> arguments;
  std::string description;
};

// A copy that runs inside an instance, which it keeps awake. Lives on a strand of the work pool,
// where its owner uses and destroys it; what it holds of the instance ends on control. Its end is
// recorded among the events.
class CopySession {
 public:
  // What control has for a copy.
  class Hold {
   public:
    Hold(EventLog& events, Visit visit, ContainerFiles files, std::string cause,
         std::string description);
    Hold(const Hold&) = delete;
    ~Hold();  // on control

    const ContainerFiles& files() const { return files_; }
    // How it ended; once, from the strand, before the hold is let go of.
    void SetOutcome(std::string outcome) { outcome_ = std::move(outcome); }

   private:
    EventLog& events_;
    const Visit visit_;
    const ContainerFiles files_;
    const std::string cause_;
    const std::string description_;
    std::string outcome_ = "ended, its client went away";
  };
  // On control. Wakes the instance; the hold may be let go of on any thread. NOT_FOUND, and the
  // errors of a wake.
  static awaitable<StatusOr<std::shared_ptr<Hold>>> Enter(Supervisor* supervisor, Runtime* runtime,
                                                          asio::any_io_executor control,
                                                          Supervisor::InstancePtr instance,
                                                          std::string description,
                                                          MonoTime deadline, std::string cause);

  CopySession(std::shared_ptr<Hold> hold, std::unique_ptr<CopyProcess> process)
      : hold_(std::move(hold)), process_(std::move(process)) {}

  CopyProcess& process() { return *process_; }
  // The process's outcome, once it has ended; recorded.
  awaitable<StatusOr<tar::Totals>> Finish();

 private:
  const std::shared_ptr<Hold> hold_;
  const std::unique_ptr<CopyProcess> process_;
};

}  // namespace ctr
