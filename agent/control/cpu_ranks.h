#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/control/instance.h"

namespace ctr {

// Puts an instance that keeps a CPU busy behind those that do not, and back (policy/cpu_rank.h): it
// gets all that nobody else wants, and whoever is woken by a request to another one does not wait
// for it. Between equals the kernel lets who was woken wait until the other one has run as long,
// and looks at it at its tick alone: 4 ms at 250 Hz (EEVDF, Linux 6.6 and later). What it is given
// outlives it. Home: the control loop.
class CpuRanks {
 public:
  // While `held`, another agent takes over: nobody's rank is looked at.
  CpuRanks(Clock& clock, Runtime& runtime, const bool& held,
           const std::map<InstanceName, std::shared_ptr<Instance>>& instances)
      : clock_(clock), runtime_(runtime), held_(held), instances_(instances) {}
  CpuRanks(const CpuRanks&) = delete;

  // Never returns; may be cancelled.
  awaitable<void> Run();

  // Makes all equals: nobody looks at them for a while, or another agent does.
  void LetGo();

  // At the last look.
  bool IsBehind(const std::string& container) const;

 private:
  struct Seen {
    MonoTime at;
    Duration cpu_time{0};
    bool behind = false;
  };

  std::vector<std::shared_ptr<Instance>> Live() const;
  awaitable<void> Look();
  // Whether what all together used since the last look is too little for any of them, and none is
  // behind.
  bool IsCalm();
  void LookAt(const std::string& container);

  Clock& clock_;
  Runtime& runtime_;
  const bool& held_;
  const std::map<InstanceName, std::shared_ptr<Instance>>& instances_;
  std::optional<Seen> together_;
  std::map<std::string, Seen> seen_;  // by container; empty while calm
};

}  // namespace ctr
