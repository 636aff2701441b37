#pragma once

#include <string>

#include "agent/base/error.h"

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

// Where things are; other than here in tests.
struct AppArmorPlaces {
  std::string sys = "/sys";
  std::string etc = "/etc";
  std::string parser = "apparmor_parser";
};

struct AppArmor {
  bool enabled = false;  // the kernel asks it, and can be told profiles
  std::string profile;   // of an instance; "": there is no AppArmor
  std::string warning;   // what is amiss; "" if nothing is
};

// Has the kernel load the profile, by apparmor_parser, in place of an earlier one. Does nothing
// where the kernel has no AppArmor. Blocks for some tenths of a second.
AppArmor LoadAppArmor(const AppArmorPlaces& places = {});

// For a start: loads the profile if it is not loaded any more, or could not be earlier.
// FAILED_PRECONDITION if it can't be: nobody runs without by accident. Blocks for a moment.
Status HoldAppArmor(const AppArmorPlaces& places = {});

}  // namespace ctr
