#include "agent/registry/challenge.h"

#include <string>

#include <doctest/doctest.h>

namespace ctr {

TEST_CASE("the Hub's challenge names its token server, its service and the scope") {
  const auto challenges =
      ParseChallenges(R"(Bearer realm="https://auth.docker.io/token",service="registry.docker.io",)"
                      R"(scope="repository:library/nginx:pull,push")");
  REQUIRE(challenges.size() == 1);
  CHECK(challenges[0].scheme == "bearer");
  CHECK(challenges[0].Get("realm") == "https://auth.docker.io/token");
  CHECK(challenges[0].Get("service") == "registry.docker.io");
  CHECK(challenges[0].Get("scope") == "repository:library/nginx:pull,push");
  CHECK(challenges[0].Get("error").empty());
}

TEST_CASE("several challenges may stand in one field, and Bearer is answered before Basic") {
  const auto challenges =
      ParseChallenges(R"(Basic realm="a, b" , BEARER Realm = "https://t/", service=s)");
  REQUIRE(challenges.size() == 2);
  CHECK(challenges[0].Get("realm") == "a, b");
  CHECK(challenges[1].Get("service") == "s");
  CHECK(ChooseChallenge(challenges) == &challenges[1]);
}

TEST_CASE("a quoted value may hold quotes") {
  const auto challenges = ParseChallenges(R"(Basic realm="a \"b\" \\c")");
  REQUIRE(challenges.size() == 1);
  CHECK(challenges[0].Get("realm") == R"(a "b" \c)");
}

TEST_CASE("a Bearer without a realm can't be answered") {
  const auto challenges = ParseChallenges("Bearer service=x, Basic");
  REQUIRE(challenges.size() == 2);
  CHECK(ChooseChallenge(challenges) == &challenges[1]);
  CHECK(ChooseChallenge(ParseChallenges("Bearer service=x")) == nullptr);
}

TEST_CASE("what can't be read ends the list, and nothing makes it long") {
  CHECK(ParseChallenges("").empty());
  CHECK(ParseChallenges("\"").empty());
  CHECK(ParseChallenges("Bearer realm=\"open").size() <= 2);
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "Basic a=b, ";
  CHECK(ParseChallenges(many).size() == 8);
  std::string wide = "Basic ";
  for (int i = 0; i < 1000; ++i) wide += "p" + std::to_string(i) + "=v,";
  for (const Challenge& challenge : ParseChallenges(wide)) CHECK(challenge.parameters.size() <= 17);
}

}  // namespace ctr
