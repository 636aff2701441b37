#pragma once

#include <atomic>
#include <string>

#include "agent/base/error.h"
#include "agent/registry/docker_config.h"

namespace ctr {

// Where docker keeps its logins for the user that this process runs as: $DOCKER_CONFIG, else
// ~/.docker, with config.json.
std::string DefaultDockerConfig();

// The login for `host` out of the file, which need not be there, and of the credential helper that
// it names (`docker-credential-X get`, in PATH, 10 seconds at most). Blocking. FAILED_PRECONDITION
// if the file or the helper can't be used, CANCELLED soon after `abandoned` is true.
StatusOr<Login> LookUpLogin(const std::string& config_file, const std::string& host,
                            const std::atomic<bool>& abandoned);

}  // namespace ctr
