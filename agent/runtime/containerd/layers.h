#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "agent/base/error.h"

namespace ctr {

// How far a path, and the links in it, may lead that an image or an instance made.
constexpr int kMaxComponents = 256;
constexpr int kMaxLinks = 40;  // the kernel's

// Where the file, or folder, is that a container will see at `path` once overlayfs has merged the
// folders `layers`, the topmost first: links are followed within what is merged, what is deleted
// above is not there below. "" if there is none. FAILED_PRECONDITION if it leads through more than
// 256 folders. Nobody changes the layers meanwhile. Blocks.
StatusOr<std::string> FindInLayers(const std::vector<std::string>& layers, absl::string_view path);

}  // namespace ctr
