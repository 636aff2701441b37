#pragma once

#include <string>

#include "agent/runtime/oci_spec.h"

namespace ctr {

// Looks that all of `mounts` is in `mountinfo`, a container's (proc(5)), and nothing else over its
// /dev, /proc and /sys: who shares the host's folder that is one volume may have put a link in the
// way of another inside it since.
Status CheckMountPoints(const std::string& mountinfo, const ContainerMounts& mounts);

}  // namespace ctr
