#pragma once

#include <string>

#include "agent/base/error.h"
#include "agent/runtime/exec_process.h"

namespace ctr {

// The OCI process of an exec, as JSON text: that of the container (`oci_spec`, its config.json),
// with the command, and what else `spec` says, in place of its own. User, capabilities, limits and
// no_new_privs stay as they are.
StatusOr<std::string> ExecProcessText(const std::string& oci_spec, const ExecSpec& spec);

// Why runc would not run it, as FAILED_PRECONDITION with command_not_found or
// command_not_executable where it is the command's fault.
Status ExecError(const Status& status, const ExecSpec& spec);

}  // namespace ctr
