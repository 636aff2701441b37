// WWW-Authenticate as registries send it, and docker's config.json.
#include "agent/registry/challenge.h"

#include "agent/registry/docker_config.h"
#include "agent/registry/reference.h"
#include "tests/fuzz/fuzz.h"

namespace ctr {

void Fuzz(std::string_view input) {
  const std::vector<Challenge> challenges = ParseChallenges(input);
  CTR_HOLDS(challenges.size() <= 8);
  for (const Challenge& challenge : challenges) {
    CTR_HOLDS(!challenge.scheme.empty());
    CTR_HOLDS(challenge.parameters.size() <= 17);
    for (const auto& [name, value] : challenge.parameters) CTR_HOLDS(value.size() <= input.size());
  }
  const Challenge* chosen = ChooseChallenge(challenges);
  if (chosen != nullptr) CTR_HOLDS(chosen->scheme == "bearer" || chosen->scheme == "basic");
  for (const char* host : {"docker.io", "a"}) {
    StatusOr<LoginSource> source = FindLogin(input, host);
    if (source.ok()) CTR_HOLDS(source->helper.find('/') == std::string::npos);
  }
  ParseHelperAnswer(input).IgnoreError();
  const std::string origin = OriginOf(input);
  CTR_HOLDS(origin.empty() || OriginOf(origin) == origin);
}

}  // namespace ctr
