#pragma once

#include <string>

namespace ctr {

// The AppArmor profile of every instance, where the kernel has AppArmor.
inline constexpr char kAppArmorProfile[] = "ctr-default";

// The profile's text, as Docker writes its own. `abi`, `tunables` and `base`: whether
// /etc/apparmor.d has abi/3.0, tunables/global and abstractions/base to build on.
struct AppArmorParts {
  bool abi = false;
  bool tunables = false;
  bool base = false;
};
std::string AppArmorProfileText(const AppArmorParts& parts);

struct AppArmor {
  bool enabled = false;  // the kernel asks it
  std::string profile;   // "": none could be loaded, and instances run without
  std::string warning;   // why; "" if nothing is amiss
};

// Has the kernel load the profile, by apparmor_parser, in place of an earlier one. Does nothing
// where the kernel has no AppArmor. Blocks for some tenths of a second. `sys` and `etc`: other
// places for /sys and /etc.
AppArmor LoadAppArmor(const std::string& sys = "/sys", const std::string& etc = "/etc");

}  // namespace ctr
