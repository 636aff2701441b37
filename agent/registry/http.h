// One HTTP request by libcurl. Blocking, for a pool; any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/time.h"

namespace ctr {

struct HttpRequest {
  std::string url;                        // http or https
  std::vector<std::string> headers = {};  // "Name: value"
  std::string form = {};                  // posted if it is not ""
  std::string ca_file = {};               // trusted beside the system's; "" for none
  int64_t offset = 0;                     // asks for the body from there on
  bool is_loopback = false;               // no proxy is asked
  // How long all of it may take; zero: as long as something comes, 8 KiB a second at least.
  Duration time_limit = Duration::zero();
};

struct HttpResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;      // of what no sink took: its first bytes, at most `max_body`
  std::string redirect;  // the whole URL of a 3xx; "" for none

  // The first one of that name; "" if there is none.
  std::string Header(std::string_view name) const;
};

// Takes a successful answer's body piece by piece. An error ends the transfer with it. `response`
// has status and headers.
using HttpSink = std::function<Status(const HttpResponse& response, std::string_view piece)>;

// Why a transfer failed, beyond the code of its Status.
namespace http_detail {
// What the other side does not speak.
inline constexpr std::string_view kNoTls = "no_tls";
inline constexpr std::string_view kNoHttp = "no_http";
// It sends less than 8 KiB a second for a minute.
inline constexpr std::string_view kTooSlow = "too_slow";
}  // namespace http_detail

// Sends the request and takes the answer; redirects are not followed. A body of a 2xx goes to
// `sink` if there is one; of any other at most `max_body` bytes are kept, and more of a 2xx is
// FAILED_PRECONDITION. UNAVAILABLE for what may go better next time (the connection), also once
// `sink` has got a part; FAILED_PRECONDITION for what will not (a certificate); CANCELLED once
// `abandoned` is true.
StatusOr<HttpResponse> HttpFetch(const HttpRequest& request, size_t max_body, const HttpSink& sink,
                                 const std::atomic<bool>& abandoned);

// For queries: "a b" -> "a%20b".
std::string UrlEncoded(std::string_view text);

}  // namespace ctr
