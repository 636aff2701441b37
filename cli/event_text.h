#pragma once

#include <array>
#include <string>
#include <string_view>

#include "cli/render.h"
#include "cli/table.h"

// How events are shown. Pure.
namespace ctr::cli {

// The shape that scripts rely on: every key is always there, null where there is nothing to say.
Json ToJson(const v1::Event& event);

// What happened and who brought it about, on one line: "out of memory (exit status 137) [GET / from
// 127.0.0.1]".
std::string Describe(const v1::Event& event);

// Lines of events as they come, in columns: each as wide as what it has shown so far, since what
// comes is not known.
class EventLines {
 public:
  explicit EventLines(Style style) : style_(style) {}

  // The line with the columns' names, and one for an event.
  std::string Header();
  std::string Line(const v1::Event& event);

 private:
  std::string Row(std::string_view time, std::string type, std::string instance,
                  std::string_view message, Colour colour);

  const Style style_;
  size_t type_width_ = 12;
  size_t instance_width_ = 20;
};

}  // namespace ctr::cli
