// How a RegistrySession logs in.
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/base/duration.h"
#include "agent/registry/backoff.h"
#include "agent/registry/credentials.h"
#include "agent/registry/refusal.h"
#include "agent/registry/session.h"
#include "agent/runtime/image_config.h"

namespace ctr {
namespace {

constexpr size_t kMaxTokenBytes = 256 << 10;
constexpr Duration kTokenTime = std::chrono::seconds(30);

std::string BasicOf(const Login& login) {
  return "Basic " + absl::Base64Escape(absl::StrCat(login.username, ":", login.password));
}

std::string ScopeOf(const Challenge& challenge, const std::string& repository) {
  const std::string& asked = challenge.Get("scope");
  return asked.empty() ? absl::StrCat("repository:", repository, ":pull") : asked;
}

// How a token is asked for: by GET with a password or nothing, or by an identity token (OAuth 2).
HttpRequest TokenRequest(const Challenge& challenge, const std::string& scope, const Login& login) {
  HttpRequest request;
  request.url = challenge.Get("realm");
  const std::string& service = challenge.Get("service");
  if (!login.identity_token.empty()) {
    request.form = absl::StrCat(
        "grant_type=refresh_token&client_id=ctr&service=", UrlEncoded(service),
        "&scope=", UrlEncoded(scope), "&refresh_token=", UrlEncoded(login.identity_token));
    return request;
  }
  absl::StrAppend(&request.url, request.url.find('?') == std::string::npos ? "?" : "&",
                  "service=", UrlEncoded(service));
  for (absl::string_view one : absl::StrSplit(scope, ' ', absl::SkipEmpty())) {
    absl::StrAppend(&request.url, "&scope=", UrlEncoded({one.data(), one.size()}));
  }
  if (!login.empty()) request.headers.push_back("Authorization: " + BasicOf(login));
  return request;
}

StatusOr<std::string> ParseToken(const std::string& body, const std::string& host) {
  StatusOr<nlohmann::json> answer = ParseImageDocument(body, "it");
  std::string token;
  if (answer.ok() && answer->is_object()) {
    for (const char* name : {"access_token", "token"}) {
      auto member = answer->find(name);
      if (member != answer->end() && member->is_string()) token = member->get<std::string>();
    }
  }
  // It goes into a header.
  const bool fits =
      !token.empty() && token.find_first_of(std::string_view("\r\n\0 ", 4)) == std::string::npos;
  if (fits) return token;
  return absl::FailedPreconditionError(
      absl::StrCat("the token server ", host, " gave no token: it is none, or broken"));
}

}  // namespace

const std::string& RegistrySession::DockerConfig() {
  if (docker_config_.empty()) {
    docker_config_ =
        settings_->docker_config.empty() ? DefaultDockerConfig() : settings_->docker_config;
  }
  return docker_config_;
}

StatusOr<Login> RegistrySession::LoginOf(Endpoint& endpoint) {
  if (!endpoint.login) {
    CTR_ASSIGN_OR_RETURN(endpoint.login, LookUpLogin(DockerConfig(), endpoint.host, *abandoned_));
  }
  return *endpoint.login;
}

Status RegistrySession::Authorize(const HttpResponse& response) {
  std::vector<Challenge> challenges;
  for (const auto& [name, value] : response.headers) {
    if (name != "www-authenticate") continue;
    std::vector<Challenge> more = ParseChallenges(value);
    challenges.insert(challenges.end(), more.begin(), more.end());
  }
  const Challenge* challenge = ChooseChallenge(challenges);
  if (challenge == nullptr) return Denied(response);
  CTR_ASSIGN_OR_RETURN(Login login, LoginOf(endpoint()));
  if (challenge->scheme == "basic") {
    if (login.username.empty()) return Denied(response);
    endpoint().authorization = BasicOf(login);
    return absl::OkStatus();
  }
  CTR_ASSIGN_OR_RETURN(std::string token, FetchToken(*challenge, login));
  endpoint().authorization = "Bearer " + token;
  return absl::OkStatus();
}

// A registry that is reached by TLS does not get a login sent in the clear to anybody.
StatusOr<std::string> RegistrySession::FetchToken(const Challenge& challenge, const Login& login) {
  HttpRequest request = TokenRequest(challenge, ScopeOf(challenge, reference_.repository), login);
  const std::string origin = OriginOf(request.url);
  const std::string host = HostOf(request.url);
  const bool plain_is_fine = endpoint().base.starts_with("http:");
  if (!origin.starts_with("https:") && !(plain_is_fine && origin.starts_with("http:"))) {
    return absl::FailedPreconditionError(
        absl::StrCat("registry ", endpoint().host, " names a token server, \"",
                     origin.empty() ? "?" : origin, "\", that is not reached by https: refused"));
  }
  request.ca_file = CaFileFor(request.url);
  request.is_loopback = IsLoopbackHost(host);
  request.time_limit = kTokenTime;
  StatusOr<HttpResponse> response = HttpFetch(request, kMaxTokenBytes, nullptr, *abandoned_);
  if (!response.ok()) {
    return Annotate(response.status(), absl::StrCat("the token server ", host));
  }
  if (response->status == 200) return ParseToken(response->body, host);
  if (response->status == 401 || response->status == 403) return Denied(*response);
  const Duration wait = AskedWait(*response);
  const std::string answer =
      absl::StrCat("the token server ", host, " answers with ", response->status,
                   wait > kMostAskedWait ? ", and asks to wait " + FormatDuration(wait) : "",
                   ItsWords(*response));
  return response->status >= 500 || response->status == 429
             ? WithRetryAfter(absl::UnavailableError(answer), wait)
             : absl::FailedPreconditionError(answer);
}

Status RegistrySession::Denied(const HttpResponse& response) {
  const Endpoint& from = endpoint();
  const bool has_login = from.login && !from.login->empty();
  const std::string where = from.host == "docker.io" ? "" : " " + from.host;
  const std::string file = DockerConfig();
  if (!has_login) {
    return absl::PermissionDeniedError(
        absl::StrCat("registry ", from.host, " refuses it (", response.status,
                     ") without a login, or does not have it; "
                     "log in as the agent's user: docker login",
                     where, " (it is looked for in ", file, ")", ItsWords(response)));
  }
  return absl::PermissionDeniedError(absl::StrCat(
      "registry ", from.host, " refuses it (", response.status, ") to the login in ", file,
      ", or does not have it; log in as who may read it: docker login", where, ItsWords(response)));
}

}  // namespace ctr
