#include "agent/registry/http.h"

#include <algorithm>
#include <exception>
#include <memory>

#include <curl/curl.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "agent/registry/reference.h"

namespace ctr {
namespace {

constexpr long kConnectSeconds = 10;
constexpr long kSlowestBytes = 8 << 10;  // a second, over that many:
constexpr long kSlowSeconds = 60;
constexpr size_t kMaxHeaderBytes = 64 << 10;
constexpr char kSystemCertificates[] = "/etc/ssl/certs";

// libcurl wants one call before any other; it is never undone.
void InitializeOnce() {
  static const CURLcode done = curl_global_init(CURL_GLOBAL_DEFAULT);
  static_cast<void>(done);
}

// One transfer while it is under way; libcurl's callbacks get it.
struct Transfer {
  const HttpSink& sink;
  const size_t max_body;
  const std::atomic<bool>& abandoned;
  HttpResponse response;
  size_t header_bytes = 0;
  Status refused;  // why a callback ended it

  bool Succeeds() const { return response.status >= 200 && response.status < 300; }
};

// An answer may be preceded by others (100, a proxy's): each status line begins anew.
size_t TakeHeader(char* data, size_t, size_t size, void* pointer) {
  auto& transfer = *static_cast<Transfer*>(pointer);
  transfer.header_bytes += size;
  if (transfer.header_bytes > kMaxHeaderBytes) {
    transfer.refused = absl::FailedPreconditionError("its answer has more than 64 KiB of headers");
    return 0;
  }
  const absl::string_view line = absl::StripTrailingAsciiWhitespace(absl::string_view(data, size));
  if (line.substr(0, 5) == "HTTP/") {
    transfer.response = {};
    const size_t space = line.find(' ');
    const std::string status(space == absl::string_view::npos ? "" : line.substr(space + 1, 3));
    transfer.response.status = std::atoi(status.c_str());
    return size;
  }
  const size_t colon = line.find(':');
  if (colon != absl::string_view::npos) {
    transfer.response.headers.emplace_back(
        absl::AsciiStrToLower(line.substr(0, colon)),
        std::string(absl::StripAsciiWhitespace(line.substr(colon + 1))));
  }
  return size;
}

size_t TakeBody(char* data, size_t, size_t size, void* pointer) {
  auto& transfer = *static_cast<Transfer*>(pointer);
  HttpResponse& response = transfer.response;
  try {
    if (transfer.Succeeds() && transfer.sink) {
      transfer.refused = transfer.sink(response, {data, size});
      return transfer.refused.ok() ? size : 0;
    }
    const size_t room = transfer.max_body - std::min(transfer.max_body, response.body.size());
    response.body.append(data, std::min(room, size));
    if (size <= room) return size;
    if (transfer.Succeeds()) {
      transfer.refused = absl::FailedPreconditionError(
          absl::StrCat("its answer is larger than ", transfer.max_body, " bytes"));
    }
    return 0;  // of an error, enough is known
  } catch (const std::exception& exception) {
    transfer.refused = absl::InternalError(exception.what());
    return 0;
  }
}

int LookAround(void* pointer, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Transfer*>(pointer)->abandoned.load() ? 1 : 0;
}

using Handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using Lines = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

Lines HeaderLines(const HttpRequest& request) {
  curl_slist* lines = nullptr;
  for (const std::string& header : request.headers) {
    lines = curl_slist_append(lines, header.c_str());
  }
  return {lines, curl_slist_free_all};
}

void Prepare(CURL* curl, const HttpRequest& request, Transfer& transfer) {
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "ctr-agent");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, kSlowestBytes);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, kSlowSeconds);
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L << 10);
  if (request.time_limit > Duration::zero()) {
    const auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(request.time_limit);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(limit.count()));
  }
  if (request.is_loopback) curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
  if (!request.ca_file.empty()) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, request.ca_file.c_str());
    curl_easy_setopt(curl, CURLOPT_CAPATH, kSystemCertificates);
  }
  if (!request.form.empty()) curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, request.form.c_str());
  if (request.offset > 0) {
    curl_easy_setopt(curl, CURLOPT_RANGE, absl::StrCat(request.offset, "-").c_str());
  }
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, TakeHeader);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, TakeBody);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, LookAround);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
}

Status FailureOf(CURLcode code, const char* error, const std::string& url) {
  const std::string host = HostOf(url);
  const std::string why = *error != '\0' ? error : curl_easy_strerror(code);
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return absl::FailedPreconditionError(
          absl::StrCat("the certificate of ", host, " is not trusted (", why,
                       "); name its CA in the agent's file: [[registry]] host, ca"));
    case CURLE_SSL_CONNECT_ERROR:
      return WithDetail(absl::UnavailableError(absl::StrCat("no TLS with ", host, ": ", why)),
                        http_detail::kNoTls);
    case CURLE_OPERATION_TIMEDOUT:
      return WithDetail(absl::UnavailableError(absl::StrCat(host, " is too slow: ", why)),
                        http_detail::kTooSlow);
    case CURLE_URL_MALFORMAT:
      return absl::FailedPreconditionError(absl::StrCat(host, ": ", why));
    case CURLE_COULDNT_RESOLVE_HOST:
      // Also what a DNS server that is just away comes to.
      return absl::UnavailableError(absl::StrCat(why, ": check the name, and the host's DNS"));
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
      return WithDetail(
          absl::FailedPreconditionError(absl::StrCat(host, " does not speak HTTP: ", why)),
          http_detail::kNoHttp);
    default:
      return absl::UnavailableError(absl::StrCat(host, " can't be reached: ", why));
  }
}

}  // namespace

std::string HttpResponse::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return "";
}

StatusOr<HttpResponse> HttpFetch(const HttpRequest& request, size_t max_body, const HttpSink& sink,
                                 const std::atomic<bool>& abandoned) {
  InitializeOnce();
  const Handle curl(curl_easy_init(), curl_easy_cleanup);
  if (curl == nullptr) return absl::InternalError("libcurl can't be used");
  Transfer transfer{sink, max_body, abandoned, {}, 0, absl::OkStatus()};
  char error[CURL_ERROR_SIZE] = "";
  const Lines lines = HeaderLines(request);
  Prepare(curl.get(), request, transfer);
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, lines.get());
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, error);
  const CURLcode code = curl_easy_perform(curl.get());
  if (abandoned.load()) return absl::CancelledError("the pull was given up");
  if (!transfer.refused.ok()) return transfer.refused;
  const bool enough = code == CURLE_WRITE_ERROR && !transfer.Succeeds();
  if (code != CURLE_OK && !enough) return FailureOf(code, error, request.url);
  const char* redirect = nullptr;
  curl_easy_getinfo(curl.get(), CURLINFO_REDIRECT_URL, &redirect);
  if (redirect != nullptr) transfer.response.redirect = redirect;
  return std::move(transfer.response);
}

std::string UrlEncoded(std::string_view text) {
  std::string encoded;
  for (unsigned char c : text) {
    if (absl::ascii_isalnum(c) || std::string_view("-_.~").find(c) != std::string_view::npos) {
      encoded.push_back(static_cast<char>(c));
    } else {
      absl::StrAppend(&encoded, "%", absl::Hex(c, absl::kZeroPad2));
    }
  }
  return encoded;
}

}  // namespace ctr
