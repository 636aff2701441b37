#include "agent/proxy/http_rewrite.h"

#include <string>

#include <doctest/doctest.h>

#include "agent/proxy/error_answer.h"

namespace ctr {
namespace {

const InstanceName kInstance{"web", "alice"};

std::string Upstream(const std::string& bytes,
                     Forwarding forwarding = {"10.0.0.9", "127.77.0.2:80"}) {
  StatusOr<RequestHead> head = ParseRequestHead(bytes);
  REQUIRE(head.ok());
  std::string out;
  AppendUpstreamRequest(out, *head, forwarding);
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
        "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Host: a.b\r\nX-Forwarded-Proto: http\r\n"
        "Forwarded: for=10.0.0.9;host=\"a.b\";proto=http\r\n\r\n");
}

TEST_CASE("a request of HTTP/1.0 without Host gets the address's") {
  CHECK(Has(Upstream("GET / HTTP/1.0\r\n\r\n"), "Host: 127.77.0.2:80\r\n"));
}

TEST_CASE("fields for one hop and Ctr-* are left out of a request") {
  const std::string out = Upstream(
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n"
      "Proxy-Connection: x\r\nTE: gzip\r\nUpgrade: websocket\r\n"
      "Expect: 100-continue\r\nCtr-Instance: web/alice\r\nctr-anything: 1\r\nX-Kept: 1\r\n\r\n");
  for (std::string_view gone :
       {"Connection", "X-Mine", "Keep-Alive", "TE:", "Upgrade", "Expect", "Ctr-", "ctr-"}) {
    CAPTURE(gone);
    CHECK_FALSE(Has(out, gone));
  }
  CHECK(Has(out, "X-Kept: 1\r\n"));
}

TEST_CASE("an Upgrade goes on if it is meant, and never one to HTTP/2") {
  const std::string request =
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
  const std::string whole = request + "\r\n";
  StatusOr<RequestHead> head = ParseRequestHead(whole);
  REQUIRE(head.ok());
  CHECK(head->upgrade);
  CHECK(Has(Upstream(whole, {.upgrade = true}), "Connection: upgrade\r\nUpgrade: websocket\r\n"));
  CHECK(Has(Upstream(request + "Upgrade: h2c, other/2\r\n\r\n", {.upgrade = true}),
            "Connection: upgrade\r\nUpgrade: websocket, other/2\r\n"));
  for (const std::string& not_meant : {
           std::string("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, HTTP2-Settings\r\n"
                       "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2, H2C\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"),
           std::string("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"),
       }) {
    CAPTURE(not_meant);
    const std::string bytes = not_meant + "\r\n";
    StatusOr<RequestHead> other = ParseRequestHead(bytes);
    REQUIRE(other.ok());
    CHECK_FALSE(other->upgrade);
    CHECK_FALSE(Has(Upstream(bytes), "Upgrade"));
  }
}

TEST_CASE("who takes trailers says so to the instance") {
  CHECK(Has(Upstream("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"),
            "TE: trailers\r\nConnection: TE\r\n"));
}

TEST_CASE("a 101 goes to the client with what was switched to") {
  StatusOr<ResponseHead> head = ParseResponseHead(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Accept: x\r\n\r\n",
      AnswerTo::kOther);
  REQUIRE(head.ok());
  std::string out;
  AppendSwitchResponse(out, *head, kInstance, {});
  CHECK(out ==
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nUpgrade: websocket\r\n"
        "Connection: upgrade\r\nCtr-Instance: web/alice\r\n"
        "Server-Timing: wake;dur=0.000, route;dur=0.000\r\n\r\n");
}

TEST_CASE("Connection cannot take framing or Host away") {
  const std::string out = Upstream(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
      "Connection: Host, Content-Length, X-Forwarded-For\r\n\r\n");
  CHECK(Has(out, "Host: a\r\n"));
  CHECK(Has(out, "Content-Length: 3\r\n"));
  CHECK(Has(out, "X-Forwarded-For: 10.0.0.9\r\n"));
}

TEST_CASE("Forwarded is appended to; an IPv6 address is quoted in it") {
  const std::string out = Upstream(
      "GET / HTTP/1.1\r\nHost: a:80\r\nForwarded: for=1.1.1.1\r\nForwarded: for=_x\r\n\r\n",
      {.client_address = "2001:db8::1"});
  CHECK(Has(out,
            "Forwarded: for=1.1.1.1, for=_x, for=\"[2001:db8::1]\";host=\"a:80\";proto=http\r\n"));
  CHECK(Has(out, "X-Forwarded-For: 2001:db8::1\r\n"));
}

TEST_CASE("a quote left open in Forwarded does not swallow what we say") {
  for (const char* open : {"for=\"x", "for=\"x\\\"", "for=a;host=\"b\\\\\\"}) {
    const std::string out = Upstream(std::string("GET / HTTP/1.1\r\nHost: a\r\nForwarded: ") +
                                     open + "\r\nForwarded: for=\"a\\\"b\"\r\n\r\n");
    CHECK(Has(out, "Forwarded: for=\"a\\\"b\", for=10.0.0.9;host=\"a\";proto=http\r\n"));
  }
}

TEST_CASE("a field that CGI takes for one of ours is left out") {
  const std::string out = Upstream(
      "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.1.1.1\r\nX-Forwarded_Proto: https\r\n"
      "Content_Length: 5\r\ntransfer_encoding: chunked\r\nCtr_Instance: web/bob\r\n"
      "My_Field: 1\r\n\r\n");
  for (std::string_view gone : {"_F", "1.1.1.1", "https", "_L", "chunked", "bob"}) {
    CAPTURE(gone);
    CHECK_FALSE(Has(out.substr(0, out.find("My_Field")), gone));
  }
  CHECK(Has(out, "My_Field: 1\r\n"));
}

TEST_CASE("a proxy that is trusted says what host and scheme its client asked for") {
  const std::string bytes =
      "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.c\r\n\r\n";
  const std::string out = Upstream(bytes, {.client_address = "127.0.0.1", .trusted = true});
  CHECK(Has(out, "X-Forwarded-Host: b.c\r\nX-Forwarded-Proto: https\r\n"));
  CHECK(Has(out, ";proto=https\r\n"));
  const std::string twice = Upstream(
      "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n\r\n",
      {.client_address = "127.0.0.1", .trusted = true});
  CHECK(Has(twice, "X-Forwarded-Proto: http\r\n"));
}

TEST_CASE("Expect goes on while the client may wait with its body") {
  const std::string bytes =
      "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n";
  CHECK(Has(Upstream(bytes, {.body_waits = true}), "Expect: 100-continue\r\n"));
  CHECK_FALSE(Has(Upstream(bytes, {.body_waits = false}), "Expect"));
}

TEST_CASE("an interim response keeps its fields, and gets none of ours") {
  StatusOr<ResponseHead> head = ParseResponseHead(
      "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n", AnswerTo::kOther);
  REQUIRE(head.ok());
  std::string out;
  AppendInterimResponse(out, *head);
  CHECK(out == "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
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

TEST_CASE("what an instance says of requests and of logging in goes to the client") {
  const std::string out = Client(
      "HTTP/1.1 407 Log In\r\nHost: a\r\nX-Forwarded-Host: b\r\nForwarded: for=c\r\n"
      "Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n");
  for (std::string_view kept : {"\r\nHost: a\r\n", "X-Forwarded-Host: b\r\n",
                                "Forwarded: for=c\r\n", "Proxy-Authenticate: Basic\r\n"}) {
    CAPTURE(kept);
    CHECK(Has(out, kept));
  }
}

TEST_CASE("a 426 says what to upgrade to, HTTP/2 left out") {
  CHECK(Has(Client("HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\n"
                   "Upgrade: h2c, websocket\r\nContent-Length: 0\r\n\r\n"),
            "\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"));
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
  const auto refused = [](std::string_view detail) {
    return HttpStatusOf(
        WithDetail(Error(absl::StatusCode::kInvalidArgument, code::kBadRequest, "x"), detail));
  };
  CHECK(refused(detail::kMethodNotAllowed) == 405);
  CHECK(refused(detail::kTargetTooLong) == 414);
  CHECK(refused(detail::kExpectationFailed) == 417);
  CHECK(refused(detail::kFieldsTooLarge) == 431);
  CHECK(refused(detail::kNotImplemented) == 501);
  CHECK(refused(detail::kVersionNotSupported) == 505);
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
