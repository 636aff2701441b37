#pragma once

#include <filesystem>
#include <string>

namespace ctr {

// The whole of a file, or what could be read of it: "" if there is none. Blocks.
std::string ReadFileText(const std::filesystem::path& path);

// Its first line, without the line's end.
std::string ReadFirstLine(const std::filesystem::path& path);

}  // namespace ctr
