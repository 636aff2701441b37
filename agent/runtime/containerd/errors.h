#pragma once

#include <string>

#include "agent/base/error.h"

namespace ctr {

// containerd's, its shim's or runc's message in one line, without the prefixes by which each of
// them passes on the one below ("failed to create shim task: OCI runtime create failed: runc create
// failed: …") and the class of the error that containerd appends (": unknown").
std::string CleanContainerdMessage(std::string message);

// What is wrong with a container that runc would not create or start, as FAILED_PRECONDITION: a
// missing or non-executable entrypoint by name, with `image`. Another error is given back with its
// message cleaned.
Status StartError(const Status& status, const std::string& image);

}  // namespace ctr
