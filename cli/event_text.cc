#include "cli/event_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "agent/base/view.h"

namespace ctr::cli {
namespace {

constexpr size_t kTimeWidth = 24;  // FormatTime's

std::string InstanceOf(const v1::Event& event) {
  if (event.class_().empty()) return "-";
  return event.id().empty() ? NameOfClass(event.class_())
                            : absl::StrCat(event.class_(), "/", event.id());
}

Colour ColourOf(std::string_view type) {
  constexpr std::array<std::string_view, 9> kBad = {"exited",      "oom_killed", "start_failed",
                                                    "gave_up",     "lost",       "killed",
                                                    "hook_failed", "disk_full",  "state_rebuilt"};
  if (std::find(kBad.begin(), kBad.end(), type) != kBad.end()) return Colour::kRed;
  if (type == "refused") return Colour::kYellow;
  if (type == "healthy") return Colour::kGreen;
  return Colour::kNone;
}

void Widen(std::string& text, size_t& width) {
  width = std::max(width, text.size());
  text.resize(width, ' ');
}

}  // namespace

Json ToJson(const v1::Event& event) {
  Json json;
  json["number"] = event.number();
  json["time"] = FormatTime(event.at_ms());
  json["type"] = event.type();
  json["class"] = TextOrNull(event.class_());
  json["id"] = TextOrNull(event.id());
  json["generation"] = event.generation() == 0 ? Json(nullptr) : Json(event.generation());
  json["message"] = TextOrNull(event.message());
  json["cause"] = TextOrNull(event.cause());
  json["exit_code"] = event.has_exit_code() ? Json(event.exit_code()) : Json(nullptr);
  return json;
}

std::string Describe(const v1::Event& event) {
  std::string text = event.message();
  const auto add = [&text](const std::string& more) {
    absl::StrAppend(&text, text.empty() ? "" : " ", more);
  };
  if (event.has_exit_code()) add(absl::StrCat("(exit status ", event.exit_code(), ")"));
  if (!event.cause().empty()) add(absl::StrCat("[", event.cause(), "]"));
  return text;
}

std::string EventLines::Header() {
  return Row("TIME", "TYPE", "INSTANCE", "MESSAGE", Colour::kNone);
}

std::string EventLines::Line(const v1::Event& event) {
  const std::string text = Describe(event);
  return Row(FormatTime(event.at_ms()), Printable(event.type()), Printable(InstanceOf(event)),
             text.empty() ? "-" : Printable(text), ColourOf(event.type()));
}

std::string EventLines::Row(std::string_view time, std::string type, std::string instance,
                            std::string_view message, Colour colour) {
  Widen(type, type_width_);
  Widen(instance, instance_width_);
  std::string at(time);
  at.resize(kTimeWidth, ' ');
  if (style_ == Style::kColoured) type = Coloured(type, colour);
  return absl::StrCat(at, "  ", type, "  ", instance, "  ", View(message), "\n");
}

}  // namespace ctr::cli
