#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr {

// The full form of an image reference, as docker resolves it (distribution's reference grammar):
// "demo" and "demo:latest" are "docker.io/library/demo:latest", "a/b" is "docker.io/a/b:latest",
// "localhost:5000/x@sha256:…" keeps host and digest. INVALID_ARGUMENT for what the grammar refuses
// (upper case in a name, an empty tag …).
StatusOr<std::string> NormalizeReference(std::string_view reference);

// As NormalizeReference, but what says neither tag nor digest gets none: "docker.io/library/demo".
StatusOr<std::string> NormalizeAsSaid(std::string_view reference);

// Whether a reference, normalized or not, says which image of its repository: has a tag or a
// digest.
bool SaysWhich(std::string_view reference);

// The same image by its digest alone, whatever `normalized` says:
// "docker.io/library/demo@sha256:…".
std::string AtDigest(std::string_view normalized, std::string_view digest);

}  // namespace ctr
