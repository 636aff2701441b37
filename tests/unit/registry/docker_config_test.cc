#include "agent/registry/docker_config.h"

#include <doctest/doctest.h>

namespace ctr {
namespace {

LoginSource Find(std::string_view json, const std::string& host) {
  StatusOr<LoginSource> source = FindLogin(json, host);
  REQUIRE_MESSAGE(source.ok(), source.status().ToString());
  return *std::move(source);
}

}  // namespace

TEST_CASE("a login that docker wrote is decoded") {
  const LoginSource source =
      Find(R"({"auths":{"registry.example:5000":{"auth":"YWxpY2U6cGE6c3M="}}})",
           "registry.example:5000");
  CHECK(source.login.username == "alice");
  CHECK(source.login.password == "pa:ss");
  CHECK(source.helper.empty());
}

TEST_CASE("a login of another host, or of another port, is not used") {
  const char* json = R"({"auths":{"registry.example:5000":{"auth":"YWxpY2U6cGE6c3M="}}})";
  CHECK(Find(json, "registry.example").login.empty());
  CHECK(Find(json, "example").login.empty());
}

TEST_CASE("the Hub's login stands under its old address") {
  const char* json = R"({"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"}}})";
  CHECK(Find(json, "docker.io").login.username == "a");
}

TEST_CASE("an address from an old file means its host") {
  CHECK(
      Find(R"({"auths":{"https://r.example/v1/":{"auth":"YTpi"}}})", "r.example").login.username ==
      "a");
}

TEST_CASE("an identity token comes instead of a password") {
  const LoginSource source = Find(R"({"auths":{"r":{"identitytoken":"xyz"}}})", "r");
  CHECK(source.login.identity_token == "xyz");
  CHECK_FALSE(source.login.empty());
}

TEST_CASE("a helper of its own comes first, the common one last") {
  const char* json =
      R"({"credHelpers":{"a":"ecr-login"},"credsStore":"pass","auths":{"a":{"auth":"YTpi"},"b":{"auth":"YTpi"}}})";
  CHECK(Find(json, "a").helper == "ecr-login");
  CHECK(Find(json, "a").server_url == "a");
  CHECK(Find(json, "b").helper.empty());
  CHECK(Find(json, "c").helper == "pass");
  CHECK(Find(json, "docker.io").server_url == "https://index.docker.io/v1/");
}

TEST_CASE("a helper is a program's name and no path") {
  for (const char* name : {"../evil", "a b", "a/b"}) {
    const std::string json = std::string(R"({"credsStore":")") + name + "\"}";
    CHECK(absl::IsFailedPrecondition(FindLogin(json, "a").status()));
  }
}

TEST_CASE("a file that can't be read says what to do") {
  for (const char* json :
       {"", "[]", "{", R"({"auths":{"a":{"auth":"!"}}})", R"({"auths":{"a":{"auth":"YWJj"}}})"}) {
    Status status = FindLogin(json, "a").status();
    INFO(json);
    CHECK(absl::IsFailedPrecondition(status));
    CHECK(status.message().find("docker login") != absl::string_view::npos);
  }
  CHECK(Find(R"({"auths":[],"credHelpers":7,"credsStore":{}})", "a").login.empty());
}

TEST_CASE("a helper's answer is a login, or an identity token") {
  StatusOr<Login> login = ParseHelperAnswer(R"({"ServerURL":"x","Username":"a","Secret":"b"})");
  REQUIRE(login.ok());
  CHECK(login->username == "a");
  CHECK(login->password == "b");
  login = ParseHelperAnswer(R"({"Username":"<token>","Secret":"b"})");
  REQUIRE(login.ok());
  CHECK(login->identity_token == "b");
  CHECK(login->username.empty());
  CHECK(absl::IsFailedPrecondition(ParseHelperAnswer("nothing").status()));
}

}  // namespace ctr
