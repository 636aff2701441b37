#pragma once

#include <string>

#include "agent/base/error.h"

namespace ctr {

// Makes `text` the content of a file, whole or not at all, also if the machine stops meanwhile.
// Needs no room if it is the content already. Blocks.
Status KeepFile(const std::string& path, const std::string& text);

// In place: whoever has it mounted sees it change. Blocks.
Status OverwriteFile(const std::string& path, const std::string& text);

}  // namespace ctr
