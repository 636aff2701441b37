#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr {

// How to log in to a registry.
struct Login {
  std::string username;  // "" for nobody
  std::string password;
  std::string identity_token;  // instead of both: for the token server's refresh_token grant

  bool empty() const { return username.empty() && identity_token.empty(); }
};

// What docker's config.json says of one registry: a login, or the name of a program that knows it.
struct LoginSource {
  Login login;
  std::string helper;      // "pass": docker-credential-pass; "" for none
  std::string server_url;  // what the helper is asked for
};

// Reads config.json for the registry `host` as docker does: `credHelpers`, then `auths`, then
// `credsStore`. Nothing found gives an empty one. FAILED_PRECONDITION for a file that is no JSON,
// names an impossible helper or has a login that can't be decoded.
StatusOr<LoginSource> FindLogin(std::string_view config_json, const std::string& host);

// What `docker-credential-X get` prints. FAILED_PRECONDITION for anything else.
StatusOr<Login> ParseHelperAnswer(std::string_view answer);

}  // namespace ctr
