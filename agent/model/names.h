#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr {

// One container of a class, addressed by a unique ID; written `class/id`. Both parts are DNS
// labels.
struct InstanceName {
  std::string class_name;
  std::string id;

  std::string ToString() const { return class_name + "/" + id; }
  auto operator<=>(const InstanceName&) const = default;

  template <typename H>
  friend H AbslHashValue(H state, const InstanceName& name) {
    return H::combine(std::move(state), name.class_name, name.id);
  }
};

// Whether `text` matches [a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?
bool IsDnsLabel(std::string_view text);

// OK, or INVALID_ARGUMENT that names `what` ("instance ID", "class name") and says what is allowed.
Status CheckDnsLabel(std::string_view text, std::string_view what);

// The ID of the `index`-th instance that routing owns: "instance-0".
std::string RoutedId(int index);
// The index of a RoutedId; nothing for any other ID.
std::optional<int> RoutedIndexOf(std::string_view id);

}  // namespace ctr
