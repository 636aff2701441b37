#pragma once

namespace ctr {

// A thread of the process that has not ended: its first one as a rule, whose number is the pid. A
// process lives on after that one, but what /proc/PID tells of its namespaces and cgroup ends with
// it. The pid itself if no thread lives.
int LivingThread(int pid);

}  // namespace ctr
