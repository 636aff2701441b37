#pragma once

#include <string>

#include "agent/base/error.h"

namespace ctr {

// containerd's, its shim's or runc's message in one line, without the prefixes by which each of
// them passes on the one below ("failed to create shim task: OCI runtime create failed: runc create
// failed: …") and the class of the error that containerd appends (": unknown").
std::string CleanContainerdMessage(std::string message);

// Where a container has its programs from.
struct ProgramSource {
  std::string image;  // its name
  // The instance, if it has a kept disk of another image than that name means.
  std::string old_disk = {};
};

// What is wrong with a container that runc would not create or start, as FAILED_PRECONDITION: a
// missing or non-executable entrypoint by name, with what it was looked for in. Another error is
// given back with its message cleaned.
Status StartError(const Status& status, const ProgramSource& source);

}  // namespace ctr
