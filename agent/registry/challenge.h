#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ctr {

// One way in which a registry lets itself be convinced, out of WWW-Authenticate (RFC 9110, 11.6.1).
struct Challenge {
  std::string scheme;                             // lower case: "bearer", "basic"
  std::map<std::string, std::string> parameters;  // names in lower case; values unquoted

  // "" if it is not there.
  const std::string& Get(const std::string& name) const;
};

// The challenges of one field, in order; what can't be read ends the list. At most 8, of at most 16
// parameters.
std::vector<Challenge> ParseChallenges(std::string_view field);

// The one of these to answer: Bearer before Basic. Null if there is neither.
const Challenge* ChooseChallenge(const std::vector<Challenge>& challenges);

}  // namespace ctr
