#pragma once

#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/runtime/oci_spec.h"

namespace ctr {

// Whom an image's USER, or a class's `user`, means: "", "uid", "name", "uid:gid", "name:group" and
// their mixtures, as Docker reads it. Names, and a user's further groups, are looked up in
// /etc/passwd and /etc/group of the image, whose layers' folders are `lower_dirs`, the topmost
// first; no symlink in them leads out of its layer. FAILED_PRECONDITION for a name that the image
// does not know. Reads files.
StatusOr<ProcessUser> ResolveUser(std::string user, std::vector<std::string> lower_dirs);

}  // namespace ctr
