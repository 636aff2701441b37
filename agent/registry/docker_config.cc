#include "agent/registry/docker_config.h"

#include <algorithm>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/runtime/image_config.h"

namespace ctr {
namespace {

using nlohmann::json;

// What docker writes for the Hub.
constexpr char kHubKey[] = "https://index.docker.io/v1/";
constexpr char kTokenUser[] = "<token>";

Status Refused(std::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat(
      "docker's config.json can't be used: ", std::string(why),
      "; log in again (docker login), or name another file in [images] docker_config"));
}

std::string StringOr(const json& object, const std::string& name) {
  auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

const json* ObjectOr(const json& object, const std::string& name) {
  auto member = object.find(name);
  return member != object.end() && member->is_object() ? &*member : nullptr;
}

// "https://host/v1/" -> "host": old files have URLs.
std::string HostOfKey(absl::string_view key) {
  absl::ConsumePrefix(&key, "https://");
  absl::ConsumePrefix(&key, "http://");
  return std::string(key.substr(0, key.find('/')));
}

bool IsHelperName(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
}

std::vector<std::string> KeysOf(const std::string& host) {
  if (host == "docker.io") return {kHubKey, "index.docker.io", "docker.io", "registry-1.docker.io"};
  return {host};
}

StatusOr<Login> ParseLogin(const json& entry, const std::string& host) {
  Login login;
  login.username = StringOr(entry, "username");
  login.password = StringOr(entry, "password");
  login.identity_token = StringOr(entry, "identitytoken");
  const std::string auth = StringOr(entry, "auth");
  if (auth.empty()) return login;
  std::string decoded;
  const bool is_base64 = absl::Base64Unescape(auth, &decoded);
  const size_t colon = decoded.find(':');
  if (!is_base64 || colon == std::string::npos) {
    return Refused(absl::StrCat("its login for ", host, " can't be decoded"));
  }
  login.username = decoded.substr(0, colon);
  login.password = decoded.substr(colon + 1);
  // Docker pads it so.
  login.password = login.password.substr(0, login.password.find('\0'));
  return login;
}

StatusOr<LoginSource> FromHelper(std::string helper, const std::string& host) {
  if (!IsHelperName(helper)) return Refused("it names a credential helper that can't be one");
  return LoginSource{{}, std::move(helper), host == "docker.io" ? kHubKey : host};
}

}  // namespace

StatusOr<LoginSource> FindLogin(std::string_view config_json, const std::string& host) {
  StatusOr<json> config = ParseImageDocument(config_json, "it");
  if (!config.ok()) return Refused(std::string(config.status().message()));
  if (!config->is_object()) return Refused("it is no JSON object");
  const std::vector<std::string> keys = KeysOf(host);
  if (const json* helpers = ObjectOr(*config, "credHelpers")) {
    for (const std::string& key : keys) {
      std::string helper = StringOr(*helpers, key);
      if (!helper.empty()) return FromHelper(std::move(helper), host);
    }
  }
  if (const json* auths = ObjectOr(*config, "auths")) {
    for (const auto& [key, entry] : auths->items()) {
      const bool ours = std::find(keys.begin(), keys.end(), key) != keys.end() ||
                        std::find(keys.begin(), keys.end(), HostOfKey(key)) != keys.end();
      if (!ours || !entry.is_object()) continue;
      CTR_ASSIGN_OR_RETURN(Login login, ParseLogin(entry, host));
      // An entry without a login says that credsStore has it.
      if (!login.empty()) return LoginSource{std::move(login), "", ""};
    }
  }
  std::string store = StringOr(*config, "credsStore");
  if (store.empty()) return LoginSource();
  return FromHelper(std::move(store), host);
}

StatusOr<Login> ParseHelperAnswer(std::string_view answer) {
  StatusOr<json> parsed = ParseImageDocument(answer, "it");
  if (!parsed.ok() || !parsed->is_object()) {
    return absl::FailedPreconditionError("the credential helper's answer is no JSON object");
  }
  Login login;
  login.username = StringOr(*parsed, "Username");
  login.password = StringOr(*parsed, "Secret");
  if (login.username == kTokenUser) return Login{"", "", login.password};
  return login;
}

}  // namespace ctr
