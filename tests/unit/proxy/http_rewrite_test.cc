#include "agent/proxy/http_rewrite.h"

#include <string>

#include <doctest/doctest.h>

#include "agent/proxy/error_answer.h"

namespace ctr {
namespace {

const InstanceName kInstance{"web", "alice"};

std::string Upstream(const std::string& bytes,
                     Forwarded forwarded = {"10.0.0.9", "127.77.0.2:80"}) {
  StatusOr<RequestHead> head = ParseRequestHead(bytes);
  REQUIRE(head.ok());
  std::string out;
  AppendUpstreamRequest(out, *head, forwarded);
  CHECK(ParseRequestHead(out).ok());
  return out;
}

struct ToClient {
  AnswerTo answer_to = AnswerTo::kOther;
  ClientSide client{.http10 = false, .keep_alive = true};
  Timings timings = {};
};

std::string Client(const std::string& bytes, ToClient to = {}) {
  StatusOr<ResponseHead> head = ParseResponseHead(bytes, to.answer_to);
  REQUIRE(head.ok());
  std::string out;
  AppendClientResponse(out, *head, to.client, FrameForClient(*head, to.client), kInstance,
                       to.timings);
  CHECK(ParseResponseHead(out, to.answer_to).ok());
  return out;
}

bool Has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("a request goes on as HTTP/1.1 with its own fields and where it came from") {
  CHECK(Upstream("GET /x?y HTTP/1.1\r\nhOsT: a.b\r\nX-One: 1\r\nAccept: */*\r\n\r\n") ==
        "GET /x?y HTTP/1.1\r\nHost: a.b\r\nX-One: 1\r\nAccept: */*\r\n"
        "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Host: a.b\r\nX-Forwarded-Proto: http\r\n\r\n");
}

TEST_CASE("a request of HTTP/1.0 without Host gets the address's") {
  CHECK(Has(Upstream("GET / HTTP/1.0\r\n\r\n"), "Host: 127.77.0.2:80\r\n"));
}

TEST_CASE("fields for one hop and Ctr-* are left out of a request") {
  const std::string out = Upstream(
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n"
      "Proxy-Connection: x\r\nTE: trailers\r\nTrailer: X\r\nUpgrade: websocket\r\n"
      "Expect: 100-continue\r\nCtr-Instance: web/alice\r\nctr-anything: 1\r\nX-Kept: 1\r\n\r\n");
  for (std::string_view gone : {"Connection", "X-Mine", "Keep-Alive", "TE:", "Trailer", "Upgrade",
                                "Expect", "Ctr-", "ctr-"}) {
    CAPTURE(gone);
    CHECK_FALSE(Has(out, gone));
  }
  CHECK(Has(out, "X-Kept: 1\r\n"));
}

TEST_CASE("Connection cannot take framing or Host away") {
  const std::string out = Upstream(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
      "Connection: Host, Content-Length, X-Forwarded-For\r\n\r\n");
  CHECK(Has(out, "Host: a\r\n"));
  CHECK(Has(out, "Content-Length: 3\r\n"));
  CHECK(Has(out, "X-Forwarded-For: 10.0.0.9\r\n"));
}

TEST_CASE("X-Forwarded-For is appended to, the others are set") {
  const std::string out = Upstream(
      "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n"
      "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\r\n");
  CHECK(Has(out, "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.9\r\n"));
  CHECK_FALSE(Has(out, "https"));
  CHECK_FALSE(Has(out, "evil"));
}

TEST_CASE("a request's body keeps its framing") {
  CHECK(Has(Upstream("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n"),
            "Content-Length: 7\r\n"));
  CHECK(Has(Upstream("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
            "Content-Length: 0\r\n"));
  CHECK(Has(Upstream("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n"),
            "Transfer-Encoding: chunked\r\n"));
}

TEST_CASE("a response says who answered and how long it took") {
  ToClient to;
  to.timings.wake = std::chrono::microseconds(123456);
  to.timings.route = std::chrono::microseconds(7);
  CHECK(Client("HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: 2\r\n\r\n", to) ==
        "HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: 2\r\nCtr-Instance: web/alice\r\n"
        "Server-Timing: wake;dur=123.456, route;dur=0.007\r\n\r\n");
}

TEST_CASE("fields for one hop and Ctr-* are left out of a response") {
  const std::string out = Client(
      "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n"
      "Ctr-Instance: web/mallory\r\nCtr-Error: no\r\nContent-Length: 0\r\nUpgrade: h2c\r\n\r\n");
  for (std::string_view gone :
       {"Connection", "X-Mine", "Keep-Alive", "mallory", "Ctr-Error", "h2c"}) {
    CAPTURE(gone);
    CHECK_FALSE(Has(out, gone));
  }
}

TEST_CASE("a body of unknown length is chunked, and closes a connection of HTTP/1.0") {
  const std::string bytes = "HTTP/1.0 200 OK\r\n\r\n";
  std::string out = Client(bytes);
  CHECK(Has(out, "Transfer-Encoding: chunked\r\n"));
  CHECK_FALSE(Has(out, "Connection"));
  out = Client(bytes, {.client = {.http10 = true, .keep_alive = true}});
  CHECK_FALSE(Has(out, "chunked"));
  CHECK(Has(out, "Connection: close\r\n"));
}

TEST_CASE("a chunked body reaches a client of HTTP/1.0 until the close") {
  const std::string out = Client("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                 {.client = {.http10 = true, .keep_alive = true}});
  CHECK_FALSE(Has(out, "chunked"));
  CHECK(Has(out, "Connection: close\r\n"));
}

TEST_CASE("a client of HTTP/1.0 that asked for keep-alive is told that it has it") {
  CHECK(Has(Client("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                   {.client = {.http10 = true, .keep_alive = true}}),
            "Connection: keep-alive\r\n"));
}

TEST_CASE("an answer without a body keeps the length that it speaks of, a 204 has none") {
  CHECK(Has(Client("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", {.answer_to = AnswerTo::kHead}),
            "Content-Length: 9\r\n"));
  CHECK(Has(Client("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                   {.answer_to = AnswerTo::kHead}),
            "Transfer-Encoding: chunked\r\n"));
  CHECK(Has(Client("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
            "Content-Length: 9\r\n"));
  CHECK_FALSE(
      Has(Client("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"), "Content-Length"));
}

TEST_CASE("every code of the ingress has its status") {
  const auto status = [](std::string_view code) {
    return HttpStatusOf(Error(absl::StatusCode::kUnknown, code, "x"));
  };
  CHECK(status(code::kBadRequest) == 400);
  CHECK(status(code::kUnknownClass) == 404);
  CHECK(status(code::kUnknownInstance) == 404);
  CHECK(status(code::kManualStart) == 409);
  for (std::string_view unavailable :
       {code::kMaxInstances, code::kOverloaded, code::kQueueFull, code::kDraining}) {
    CHECK(status(unavailable) == 503);
  }
  CHECK(status(code::kStartFailed) == 502);
  CHECK(status(code::kUpstreamError) == 502);
  CHECK(status(code::kStartTimeout) == 504);
  CHECK(status(code::kUpstreamTimeout) == 504);
  CHECK(HttpStatusOf(absl::InternalError("x")) == 500);
  CHECK(HttpStatusOf(Error(absl::StatusCode::kResourceExhausted, code::kBadRequest, "x")) == 431);
}

TEST_CASE("an error is one line of text with its code") {
  const Status error = Error(absl::StatusCode::kUnavailable, code::kDraining, "going\r\naway");
  CHECK(ErrorAnswer(error, {.keep_alive = true}) ==
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Length: 12\r\nCtr-Error: draining\r\nRetry-After: 1\r\n\r\ngoing  away\n");
}

TEST_CASE("an error is JSON where that is asked for, and bare to HEAD") {
  const Status error = Error(absl::StatusCode::kNotFound, code::kUnknownClass, "no \"x\\\"");
  CHECK(Has(ErrorAnswer(error, {.json = true}),
            "\r\n\r\n{\"error\":{\"code\":\"unknown_class\",\"message\":\"no \\\"x\\\\\\\"\"}}\n"));
  CHECK(ErrorAnswer(error, {.head = true}).ends_with("Connection: close\r\n\r\n"));
}

TEST_CASE("JSON is asked for by name") {
  const auto wants = [](std::string_view accept) {
    Fields fields;
    fields.push_back({"Accept", accept, FieldId::kAccept});
    return WantsJson(fields);
  };
  CHECK(wants("application/json"));
  CHECK(wants("text/html, Application/JSON;q=0.5"));
  CHECK_FALSE(wants("*/*"));
  CHECK_FALSE(wants("application/json-seq"));
}

}  // namespace
}  // namespace ctr
