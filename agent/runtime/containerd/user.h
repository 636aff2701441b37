#pragma once

#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/runtime/oci_spec.h"

namespace ctr {

// Whom an image's USER, or a class's `user`, means: "", "uid", "name", "uid:gid", "name:group" and
// their mixtures, as Docker reads it. Names, and a user's further groups, are looked up in
// /etc/passwd and /etc/group of the image, whose layers' folders are `lower_dirs`, the topmost
// first; symlinks lead from one layer to another, and never out of them. FAILED_PRECONDITION for a
// name that the image does not know. Reads files.
StatusOr<ProcessUser> ResolveUser(std::string user, std::vector<std::string> lower_dirs);

// runc's first process opens /etc/passwd and /etc/group of a root file system, whoever it is to be,
// and would wait for ever for the other end of a FIFO. FAILED_PRECONDITION if one of them is there
// and no file to read. `layers`: all that the root file system is merged from, the topmost first.
Status CheckAccountFiles(const std::vector<std::string>& layers);

}  // namespace ctr
