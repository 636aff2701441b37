#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/time.h"
#include "cli/commands/commands.h"

namespace ctr::cli {

// One thing that ctr does.
struct Verb {
  std::string_view words;  // "get", "class apply"
  std::string_view alias;  // another word for it; "" if there is none
  std::string_view group;  // the heading in the list of verbs
  std::string_view summary;
  std::string_view example;
  Action (*define)(CLI::App&);
  std::optional<Duration> timeout = std::chrono::seconds(60);  // unless --timeout says otherwise
};

// In the order in which help shows them.
const std::vector<Verb>& Verbs();

// A verb and how many of the words it took.
struct FoundVerb {
  const Verb* verb = nullptr;
  size_t words = 0;
};

// The verb that `words` begin with; no verb if there is none.
FoundVerb FindVerb(const std::vector<std::string>& words);

// Whether verbs of two words begin with this one: "class".
bool IsVerbGroup(std::string_view word);

// The verb that somebody who wrote `words` may have meant; "" if none comes near.
std::string SuggestVerb(const std::vector<std::string>& words);

// What `ctr --help` prints, and `ctr class --help`.
std::string HelpText();
std::string GroupHelpText(std::string_view word);

}  // namespace ctr::cli
