#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/control/instance.h"

namespace ctr {

// Puts an instance that keeps a CPU busy behind those that do not, and back (policy/cpu_rank.h): it
// gets all that nobody else wants, and whoever is woken by a request to another one does not wait
// for it. Between equals the kernel lets who was woken wait until the other one has run as long,
// and looks at it at its tick alone: 4 ms at 250 Hz (EEVDF, Linux 6.6 and later). What it is given
// outlives it. Home: the control loop.
class CpuRanks {
 public:
  CpuRanks(Clock& clock, Runtime& runtime,
           const std::map<InstanceName, std::shared_ptr<Instance>>& instances)
      : clock_(clock), runtime_(runtime), instances_(instances) {}
  CpuRanks(const CpuRanks&) = delete;

  // Never returns; may be cancelled.
  awaitable<void> Run();

  // At the last look.
  bool IsBehind(const std::string& container) const;

 private:
  struct Seen {
    MonoTime at;
    Duration cpu_time{0};
    bool behind = false;
  };

  awaitable<void> Look();
  // Whether what all together used since the last look is too little for any of them, and none is
  // behind.
  bool IsCalm();
  void LookAt(const std::string& container, std::map<std::string, Seen>& all_seen);

  Clock& clock_;
  Runtime& runtime_;
  const std::map<InstanceName, std::shared_ptr<Instance>>& instances_;
  std::optional<Seen> together_;
  std::map<std::string, Seen> seen_;  // by container; empty while calm
};

}  // namespace ctr
