#include "cli/verbs.h"

#include <doctest/doctest.h>

namespace ctr::cli {
namespace {

std::string Found(const std::vector<std::string>& words) {
  FoundVerb found = FindVerb(words);
  return found.verb == nullptr ? "" : std::string(found.verb->words);
}

TEST_CASE("a verb is one word or two, or an alias") {
  CHECK(Found({"get", "alice"}) == "get");
  CHECK(Found({"rm", "alice"}) == "destroy");
  CHECK(Found({"ps"}) == "ls");
  CHECK(Found({"class", "rm", "web"}) == "class rm");
  CHECK(FindVerb({"class", "rm", "web"}).words == 2);
  CHECK(FindVerb({"ls", "rm"}).words == 1);
  CHECK(Found({"class"}) == "");
  CHECK(Found({"class", "web"}) == "");
  CHECK(Found({"frobnicate"}) == "");
  CHECK(Found({""}) == "");
  CHECK(Found({}) == "");
}

TEST_CASE("a slip of the pen is put right, a strange word is not") {
  CHECK(SuggestVerb({"gett"}) == "get");
  CHECK(SuggestVerb({"destory"}) == "destroy");
  CHECK(SuggestVerb({"inspct"}) == "inspect");
  CHECK(SuggestVerb({"list"}) == "ls");
  CHECK(SuggestVerb({"images"}) == "image ls");
  CHECK(SuggestVerb({"class", "aply"}) == "class apply");
  CHECK(SuggestVerb({"frobnicate"}) == "");
  CHECK(SuggestVerb({"class", "frobnicate"}) == "");
}

TEST_CASE("nothing near a verb that destroys is suggested for one that does not") {
  CHECK(SuggestVerb({"runn"}) == "run");
}

TEST_CASE("help lists every verb with its alias") {
  std::string help = HelpText();
  for (const Verb& verb : Verbs()) {
    CHECK_MESSAGE(help.find("\n  " + std::string(verb.words)) != std::string::npos,
                  std::string(verb.words));
    CHECK(!verb.example.empty());
  }
  CHECK(help.find("destroy, rm ") != std::string::npos);
}

}  // namespace
}  // namespace ctr::cli
