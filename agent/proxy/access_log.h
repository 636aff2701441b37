#pragma once

#include <string>
#include <string_view>

#include "agent/base/fd.h"
#include "agent/base/time.h"
#include "agent/model/names.h"

namespace ctr {

// One request, or one connection.
struct AccessEntry {
  WallTime at = {};
  std::string_view client = {};
  std::string_view request = {};  // "GET /path"; "" of a connection
  std::string_view host = {};
  const InstanceName* instance = nullptr;  // "" parts where none was found
  int status = 0;                          // 0 of a connection
  std::string_view error = {};             // Ctr-Error's, if the ingress answered
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  Duration took{0};
  Duration wake{0};
};

// Appends `entry` to `out` as a JSON object and a newline.
void AppendAccessEntry(std::string& out, const AccessEntry& entry);

// A data loop's way to the log of accesses: lines are gathered, and written a few times a second or
// when there are many. Whoever rotates the file moves it away: a new one is made.
class AccessLog {
 public:
  // "": there is none.
  explicit AccessLog(std::string path) : path_(std::move(path)) {}
  ~AccessLog() { Flush(); }

  bool enabled() const { return !path_.empty(); }
  void Add(const AccessEntry& entry);
  void Flush();

 private:
  bool Open();

  const std::string path_;
  UniqueFd file_;
  std::string lines_;
  bool failing_ = false;  // said once
};

}  // namespace ctr
