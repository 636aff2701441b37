#pragma once

#include <fcntl.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include <doctest/doctest.h>

#include "agent/tar/bytes.h"
#include "agent/tar/unpack.h"
#include "tests/fakes/temp_folder.h"

namespace ctr::tar {

// A directory of a test's own.
class Folder : public TempFolder {
 public:
  std::string operator/(const std::string& name) const { return path().string() + "/" + name; }
  // Every name below, sorted, a line each.
  std::string List() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path())) {
      names.insert(entry.path().string().substr(path().string().size() + 1));
    }
    std::string text;
    for (const std::string& name : names) text += name + "\n";
    return text;
  }
};

inline void Write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string Read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// An archive in memory, given in pieces of `piece` bytes.
class Text final : public ByteSink, public ByteSource {
 public:
  explicit Text(std::string initial = "", size_t piece = 100000)
      : text(std::move(initial)), piece_(piece) {}

  Status Write(std::string_view bytes) override {
    text.append(bytes);
    return absl::OkStatus();
  }
  StatusOr<size_t> Read(char* buffer, size_t size) override {
    const size_t count = std::min({size, piece_, text.size() - at_});
    text.copy(buffer, count, at_);
    at_ += count;
    return count;
  }

  std::string text;

 private:
  const size_t piece_;
  size_t at_ = 0;
};

inline OwnDescriptors Own() {
  StatusOr<OwnDescriptors> own = OwnDescriptors::Open();
  REQUIRE(own.ok());
  return *std::move(own);
}

inline StatusOr<Totals> UnpackText(const std::string& text, const UnpackOptions& options) {
  Text source(text);
  return Unpack(options, Own(), &source);
}

inline std::string Packed(const std::string& path, bool follow_link = false) {
  Text sink;
  StatusOr<Totals> totals = Pack({path, follow_link}, Own(), &sink);
  INFO(totals.status().ToString());
  REQUIRE(totals.ok());
  return sink.text;
}

}  // namespace ctr::tar
