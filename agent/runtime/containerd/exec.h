#pragma once

#include <memory>
#include <string>

#include "agent/runtime/containerd/core.h"
#include "agent/runtime/exec_process.h"

namespace ctr {

// Runtime::Exec. The streams are FIFOs in a folder below RUN/exec, named after container and exec.
awaitable<StatusOr<std::unique_ptr<ExecProcess>>> StartExec(std::shared_ptr<Core> core,
                                                            std::string container_id,
                                                            ExecSpec spec);

// Kills what an earlier agent, which was killed itself, started so: nobody reads its output.
awaitable<Status> EndLeftExecs(std::shared_ptr<Core> core);

}  // namespace ctr
