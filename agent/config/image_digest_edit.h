#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/model/class_config.h"

namespace ctr {

// The class file `source`, with the digest that its class runs written into it: what it says is
// then `pinned`, which is what it said and the digest. INTERNAL if it is not.
StatusOr<std::string> WithImageDigest(std::string_view source, const ClassConfig& pinned);

}  // namespace ctr
