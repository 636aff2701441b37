#include "agent/registry/session.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/duration.h"
#include "agent/registry/backoff.h"
#include "agent/registry/blob_transfer.h"
#include "agent/registry/credentials.h"
#include "agent/registry/refusal.h"
#include "agent/runtime/image_config.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

constexpr int kMaxRedirects = 5;
// In a row, and without anything that was got in between: some 6 seconds.
constexpr int kMaxFailures = 5;
constexpr int kMaxMirrorFailures = 2;
constexpr Duration kDocumentTime = std::chrono::seconds(60);
constexpr Duration kGlance = std::chrono::milliseconds(50);

Duration AskedWaitOf(const Status& failure) {
  return RetryAfterOf(failure).value_or(Duration::zero());
}

// Attempts that failed, the last one so, of which there are not to be too many.
bool IsEnough(int failures, bool is_mirror, const Status& last) {
  return failures >= (is_mirror ? kMaxMirrorFailures : kMaxFailures) ||
         AskedWaitOf(last) > kMostAskedWait;
}

// A server of HTTPS answers so what comes without TLS.
bool SeemsToSpeakTls(const StatusOr<HttpResponse>& response) {
  if (response.ok()) return response->status == 400;
  return DetailOf(response.status()) == http_detail::kNoHttp;
}

}  // namespace

RegistrySession::RegistrySession(RegistryReference reference,
                                 std::shared_ptr<const ImageSettings> settings,
                                 std::shared_ptr<const std::atomic<bool>> abandoned)
    : reference_(std::move(reference)),
      settings_(std::move(settings)),
      abandoned_(std::move(abandoned)) {
  const RegistrySettings* own = settings_->Find(reference_.host);
  const RegistrySettings usual;
  const RegistrySettings& registry = own == nullptr ? usual : *own;
  for (const std::string& mirror : registry.mirrors) {
    const RegistrySettings* of_mirror = settings_->Find(HostOf(mirror));
    endpoints_.push_back({.base = mirror,
                          .host = HostOf(mirror),
                          .ca_file = of_mirror != nullptr ? of_mirror->ca_file : registry.ca_file,
                          .is_mirror = true});
  }
  // As for docker, one on this machine may do without TLS.
  const bool is_here = registry.ca_file.empty() && IsLoopbackHost(reference_.host);
  const char* scheme = registry.plain_http || is_here ? "http://" : "https://";
  endpoints_.push_back({.base = absl::StrCat(scheme, ApiHost(reference_.host)),
                        .host = reference_.host,
                        .ca_file = registry.ca_file,
                        .may_be_tls = is_here && !registry.plain_http});
}

bool RegistrySession::NextEndpoint() {
  if (current_ + 1 >= endpoints_.size()) return false;
  ++current_;
  return true;
}

bool RegistrySession::MayTryElsewhere() {
  return std::exchange(is_mixed_, false) || NextEndpoint();
}

StatusOr<RegistrySession::Document> RegistrySession::FetchManifest(const std::string& wanted) {
  for (std::string mirrors;;) {
    StatusOr<Document> document = AskForManifest(wanted);
    if (document.ok() || absl::IsCancelled(document.status())) return document;
    const std::string host = endpoint().host;
    if (!NextEndpoint()) {
      return mirrors.empty() ? document.status()
                             : Annotate(document.status(), "no mirror has it (" + mirrors + ")");
    }
    absl::StrAppend(&mirrors, mirrors.empty() ? "" : "; ", host, ": ", document.status().message());
  }
}

StatusOr<RegistrySession::Document> RegistrySession::AskForManifest(const std::string& wanted) {
  const Question question{
      .path = "manifests/" + wanted, .accept = kManifestTypes, .time_limit = kDocumentTime};
  for (int failures = 1;; ++failures) {
    StatusOr<HttpResponse> response = AskForSuccess(question, nullptr);
    if (response.ok()) {
      Document document{std::move(response->body), response->Header("content-type"), ""};
      document.digest = Sha256Digest(document.text);
      if (IsSha256Digest(wanted) && document.digest != wanted) {
        return absl::FailedPreconditionError(absl::StrCat(
            endpoint().host, " answered for ", wanted, " with something that has the digest ",
            document.digest, ": it is corrupt, and refused"));
      }
      return document;
    }
    if (!absl::IsUnavailable(response.status())) return response.status();
    if (IsEnough(failures, endpoint().is_mirror, response.status())) return response.status();
    CTR_RETURN_IF_ERROR(Sleep(failures, response.status()));
  }
}

Status RegistrySession::FetchBlob(const BlobDescriptor& blob, const Sink& sink) {
  BlobTransfer transfer(blob, sink);
  is_mixed_ = false;
  if (blob.size == 0) return absl::OkStatus();
  for (int failures = 1;; ++failures) {
    transfer.Begin();
    const Question question{.path = "blobs/" + blob.digest, .offset = transfer.received()};
    const HttpSink take = [&](const HttpResponse& response, std::string_view piece) {
      return transfer.Take(response, piece);
    };
    StatusOr<HttpResponse> response = AskForSuccess(question, take);
    CTR_RETURN_IF_ERROR(transfer.sink_error());
    Status failure = transfer.CheckWhole();
    // What breaks after the last byte has broken nothing.
    const bool is_here = failure.ok() && absl::IsUnavailable(response.status());
    if (!response.ok() && !is_here) failure = response.status();
    if (failure.ok() || absl::IsCancelled(failure)) return failure;
    // A trickle is no progress, however much it has come to.
    const bool trickles = DetailOf(failure) == http_detail::kTooSlow;
    if (transfer.HasProgressed() && !trickles) failures = 1;
    if (!absl::IsUnavailable(failure) || IsEnough(failures, endpoint().is_mirror, failure)) {
      if (!NextEndpoint()) return failure;
      is_mixed_ = transfer.received() > 0;
      failures = 0;
      continue;
    }
    CTR_RETURN_IF_ERROR(Sleep(failures, failure));
  }
}

StatusOr<HttpResponse> RegistrySession::AskForSuccess(const Question& question,
                                                      const HttpSink& sink) {
  CTR_ASSIGN_OR_RETURN(HttpResponse response, Ask(question, sink));
  if (response.status >= 200 && response.status < 300) return response;
  return MeaningOf(response);
}

std::string RegistrySession::UrlOf(const Question& question) const {
  return absl::StrCat(endpoint().base, "/v2/", reference_.repository, "/", question.path);
}

StatusOr<HttpResponse> RegistrySession::Ask(const Question& question, const HttpSink& sink) {
  bool logged_in = false;
  for (;;) {
    StatusOr<HttpResponse> response = AskThrough(question, sink, UrlOf(question));
    if (endpoint().may_be_tls && SeemsToSpeakTls(response)) {
      response = AskByTls(question, sink, std::move(response));
    }
    if (!response.ok() || response->status != 401 || logged_in) return response;
    CTR_RETURN_IF_ERROR(Authorize(*response));
    logged_in = true;
  }
}

StatusOr<HttpResponse> RegistrySession::AskByTls(const Question& question, const HttpSink& sink,
                                                 StatusOr<HttpResponse> by_http) {
  endpoint().may_be_tls = false;
  const std::string plain = endpoint().base;
  endpoint().base = absl::StrCat("https://", HostOf(plain));
  StatusOr<HttpResponse> by_tls = AskThrough(question, sink, UrlOf(question));
  if (DetailOf(by_tls.status()) != http_detail::kNoTls) return by_tls;
  endpoint().base = plain;
  return by_http;
}

// The authorization goes to the endpoint alone: a registry redirects to hosts that it does not
// answer for, with addresses that need none.
StatusOr<HttpResponse> RegistrySession::AskThrough(const Question& question, const HttpSink& sink,
                                                   const std::string& url) {
  HttpRequest request{.url = url,
                      .ca_file = endpoint().ca_file,
                      .offset = question.offset,
                      .time_limit = question.time_limit};
  const std::string own_origin = OriginOf(url);
  for (int redirects = 0;; ++redirects) {
    const std::string origin = OriginOf(request.url);
    request.headers.clear();
    if (!question.accept.empty()) request.headers.push_back("Accept: " + question.accept);
    if (origin == own_origin && !endpoint().authorization.empty()) {
      request.headers.push_back("Authorization: " + endpoint().authorization);
    }
    request.is_loopback = IsLoopbackHost(HostOf(request.url));
    request.ca_file = CaFileFor(request.url);
    CTR_ASSIGN_OR_RETURN(HttpResponse response,
                         HttpFetch(request, kMaxImageDocumentBytes, sink, *abandoned_));
    if (response.status < 300 || response.status >= 400 || response.redirect.empty()) {
      // A 401 of somebody else is not for us to answer.
      if (response.status == 401 && origin != own_origin) response.status = 403;
      return response;
    }
    const std::string target = OriginOf(response.redirect);
    if (target.empty() || (own_origin.starts_with("https:") && !target.starts_with("https:"))) {
      return absl::FailedPreconditionError(
          absl::StrCat(endpoint().host, " redirects to ", target.empty() ? "something odd" : target,
                       ", where the connection would not be encrypted: that is refused"));
    }
    if (redirects == kMaxRedirects) {
      return absl::FailedPreconditionError(
          absl::StrCat(endpoint().host, " redirects without end: that is refused"));
    }
    request.url = std::move(response.redirect);
  }
}

std::string RegistrySession::CaFileFor(const std::string& url) {
  const RegistrySettings* settings = settings_->Find(HostOf(url));
  return settings != nullptr && !settings->ca_file.empty() ? settings->ca_file : endpoint().ca_file;
}

Status RegistrySession::MeaningOf(const HttpResponse& response) {
  const std::string& host = endpoint().host;
  const std::string words = ItsWords(response);
  const Duration wait = AskedWait(response);
  const auto unavailable = [&](const std::string& message) {
    return WithRetryAfter(absl::UnavailableError(message + words), wait);
  };
  switch (response.status) {
    case 401:
    case 403:
      return Denied(response);
    case 404:
      return Error(absl::StatusCode::kNotFound, code::kUnknownImage,
                   absl::StrCat("registry ", host, " does not have it; check name and tag", words));
    case 408:
      return unavailable(absl::StrCat("registry ", host, " was too slow (408)"));
    case 429:
      return unavailable(absl::StrCat("registry ", host, " limits how much is pulled (429): wait",
                                      wait > Duration::zero() ? " " + FormatDuration(wait) : "",
                                      ", or log in: docker login ", host));
    default:
      break;
  }
  const std::string answer = absl::StrCat("registry ", host, " answers with ", response.status);
  if (response.status >= 500) {
    return unavailable(wait > kMostAskedWait
                           ? absl::StrCat(answer, ", and asks to wait ", FormatDuration(wait))
                           : answer);
  }
  return absl::FailedPreconditionError(
      absl::StrCat(answer, ", which is no answer to a pull", words));
}

Status RegistrySession::Sleep(int failures, const Status& failure) {
  const double jitter = std::uniform_real_distribution<double>(0.5, 1)(random_);
  const MonoTime until =
      std::chrono::steady_clock::now() + PullBackoff(failures, jitter, AskedWaitOf(failure));
  while (std::chrono::steady_clock::now() < until) {
    if (abandoned_->load()) return absl::CancelledError("the pull was given up");
    std::this_thread::sleep_for(kGlance);
  }
  return absl::OkStatus();
}

}  // namespace ctr
