#include "agent/proxy/http_head.h"

#include <string>

#include <doctest/doctest.h>

namespace ctr {
namespace {

// A request line and fields, as one head; each part is a line.
std::string Head(std::initializer_list<std::string_view> lines) {
  std::string head;
  for (std::string_view line : lines) head.append(line).append("\r\n");
  return head + "\r\n";
}

// Scans and parses `bytes`, as a session does; "" if they are taken, else what is wrong.
std::string Refused(std::string_view bytes) {
  StatusOr<size_t> size = HeadScanner(LineEnds::kStrict).Scan(bytes);
  if (size.ok() && *size == 0) return "incomplete";
  Status status = size.ok() ? ParseRequestHead(bytes.substr(0, *size)).status() : size.status();
  if (status.ok()) return "";
  CHECK(ErrorCodeOf(status) == code::kBadRequest);
  return std::string(status.message());
}

std::string RefusedWith(std::string_view field) {
  return Refused(Head({"POST / HTTP/1.1", "Host: a", field}));
}

StatusOr<ResponseHead> Response(std::string_view bytes, AnswerTo answer_to = AnswerTo::kOther) {
  StatusOr<size_t> size = HeadScanner(LineEnds::kLenient).Scan(bytes);
  REQUIRE(size.ok());
  REQUIRE(*size > 0);
  return ParseResponseHead(bytes.substr(0, *size), answer_to);
}

std::string ResponseRefused(std::string_view bytes) {
  StatusOr<ResponseHead> head = Response(bytes);
  if (head.ok()) return "";
  CHECK(ErrorCodeOf(head.status()) == code::kUpstreamError);
  return std::string(head.status().message());
}

TEST_CASE("a plain request is read") {
  std::string bytes =
      Head({"GET /a?b=c HTTP/1.1", "Host: example.com:80", "Accept:  text/html  ", "X-Empty:"});
  StatusOr<RequestHead> head = ParseRequestHead(bytes);
  REQUIRE(head.ok());
  CHECK(head->method == "GET");
  CHECK(head->target == "/a?b=c");
  CHECK(head->host == "example.com:80");
  CHECK(head->keep_alive);
  CHECK_FALSE(head->http10);
  CHECK(head->body.kind == BodyKind::kNone);
  REQUIRE(head->fields.size() == 3);
  CHECK(head->fields[1].value == "text/html");
  CHECK(head->fields[2].value == "");
}

TEST_CASE("a head is found as its bytes come in") {
  const std::string bytes = Head({"GET / HTTP/1.1", "Host: a"}) + "rest";
  HeadScanner scanner(LineEnds::kStrict);
  const size_t end = bytes.size() - 4;
  for (size_t size = 1; size < end; ++size) {
    CHECK(*scanner.Scan(std::string_view(bytes).substr(0, size)) == 0);
  }
  CHECK(*scanner.Scan(bytes) == end);
}

TEST_CASE("a body is framed by one Content-Length or by chunked, and by nothing else") {
  CHECK(RefusedWith("Content-Length: 5") == "");
  CHECK(RefusedWith("Content-Length: 0") == "");
  CHECK(RefusedWith("Transfer-Encoding: chunked") == "");
  CHECK(RefusedWith("Transfer-Encoding: Chunked") == "");
  for (std::string_view bad :
       {"Transfer-Encoding: xchunked", "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity", "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1", "Transfer-Encoding:", "Transfer-Encoding: chunked,",
        "Transfer-Encoding: \x0b"
        "chunked",
        "Content-Length: 5, 5", "Content-Length: +5", "Content-Length: -5", "Content-Length: 0x5",
        "Content-Length: 5 5", "Content-Length:", "Content-Length: 5.0",
        "Content-Length: 99999999999999999999", "Content-Length: 5,"}) {
    CAPTURE(bad);
    CHECK(RefusedWith(bad) != "");
  }
}

TEST_CASE("a repeated Content-Length is refused, the same or not") {
  CHECK(RefusedWith("Content-Length: 5\r\nContent-Length: 5") != "");
  CHECK(RefusedWith("Content-Length: 5\r\ncontent-length: 6") != "");
}

TEST_CASE("a repeated Transfer-Encoding is refused") {
  CHECK(RefusedWith("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked") != "");
  CHECK(RefusedWith("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity") != "");
}

TEST_CASE("Transfer-Encoding beside Content-Length is refused") {
  CHECK(RefusedWith("Transfer-Encoding: chunked\r\nContent-Length: 5") != "");
  CHECK(RefusedWith("Content-Length: 5\r\nTransfer-Encoding: chunked") != "");
}

TEST_CASE("Transfer-Encoding in HTTP/1.0 is refused") {
  CHECK(Refused(Head({"POST / HTTP/1.0", "Transfer-Encoding: chunked"})) != "");
}

TEST_CASE("a folded field is refused, also as the first") {
  CHECK(RefusedWith("X-A: 1\r\n 2") != "");
  CHECK(RefusedWith("X-A: 1\r\n\t2") != "");
  CHECK(RefusedWith("Transfer-Encoding:\r\n chunked") != "");
  CHECK(Refused(Head({"GET / HTTP/1.1", " Host: a"})) != "");
}

TEST_CASE("HTTP/1.1 has one Host, HTTP/1.0 one at most") {
  CHECK(Refused(Head({"GET / HTTP/1.1"})) != "");
  CHECK(Refused(Head({"GET / HTTP/1.1", "Host: a", "Host: a"})) != "");
  CHECK(Refused(Head({"GET / HTTP/1.0"})) == "");
  CHECK(Refused(Head({"GET / HTTP/1.0", "Host: a", "host: b"})) != "");
}

TEST_CASE("a Host is a host and maybe a port") {
  for (std::string_view good :
       {"a", "a.b:80", "127.0.0.1:8080", "[::1]:80", "[::1]", "a_b.c", "a:"}) {
    CAPTURE(good);
    CHECK(Refused(Head({"GET / HTTP/1.1", "Host: " + std::string(good)})) == "");
  }
  for (std::string_view bad : {"", "a b", "a,b", "a/b", "u@a", "a:b", "a:80:80", "[::1", "[]",
                               ":80", "a#", "a?b", "a:123456", "\x80", "[::1]x", "a\\b"}) {
    CAPTURE(bad);
    CHECK(Refused(Head({"GET / HTTP/1.1", "Host: " + std::string(bad)})) != "");
  }
}

TEST_CASE("white space before a field's colon is refused") {
  CHECK(RefusedWith("Content-Length : 5") != "");
  CHECK(RefusedWith("Transfer-Encoding\t: chunked") != "");
}

TEST_CASE("a field's name is a token") {
  for (std::string_view bad : {": 1", "X A: 1", "X\x01: 1", "X(): 1", "nocolon", "\x80: 1"}) {
    CAPTURE(bad);
    CHECK(RefusedWith(bad) != "");
  }
}

TEST_CASE("control characters, NUL and bare CR in a client's value are refused") {
  for (char bad : {'\0', '\x01', '\r', '\x0b', '\x0c', '\x1f', '\x7f'}) {
    CAPTURE(static_cast<int>(bad));
    CHECK(RefusedWith(std::string("X-A: 1") + bad + "2") != "");
    CHECK(RefusedWith(std::string("X-A: ") + bad) != "");
  }
  CHECK(RefusedWith("X-A: 1\t2") == "");
  CHECK(RefusedWith("X-A: gr\xc3\xbc\xc3\x9f") == "");
}

TEST_CASE("a line that ends in a bare LF is refused at once") {
  CHECK(Refused("GET / HTTP/1.1\nHost: a\n\n") != "");
  CHECK(Refused("GET / HTTP/1.1\r\nHost: a\n\r\n") != "");
  CHECK(Refused("GET / HTTP/1.1\r\nHost: a\r\n\n") != "");
  CHECK(Refused("GET / HTTP/1.1\n") != "incomplete");
}

TEST_CASE("a bare CR in the request line is refused") {
  CHECK(Refused(Head({"GET /\r HTTP/1.1", "Host: a"})) != "");
  CHECK(Refused(Head({"GET / HTTP/1.1\r", "Host: a"})) != "");
}

TEST_CASE("a request line is a token, one target and a version, each after one space") {
  for (std::string_view bad :
       {"GET /", "GET", "GET  / HTTP/1.1", "GET /  HTTP/1.1", " GET / HTTP/1.1", "GET / HTTP/1.1 ",
        "G(T / HTTP/1.1", "GET /a b HTTP/1.1", "GET / HTTP/2.0", "GET / HTTP/0.9", "GET / http/1.1",
        "GET / HTTP/1.10", "GET / HTTP/01.1", "GET\t/ HTTP/1.1", "PRI * HTTP/2.0"}) {
    CAPTURE(bad);
    CHECK(Refused(Head({bad, "Host: a"})) != "");
  }
}

TEST_CASE("a request target is a path, a URL of this host, or the * of OPTIONS") {
  for (std::string_view bad :
       {"a", "*", "/a#b", "//\x01", "ftp://a/", "http://", "https://", "a:80", "http://b/",
        "http://u@a/", "/\x7f", "http://a?x", "http://a:443/", "https://a:80/"}) {
    CAPTURE(bad);
    CHECK(Refused(Head({"GET " + std::string(bad) + " HTTP/1.1", "Host: a"})) != "");
  }
  CHECK(Refused(Head({"CONNECT a:80 HTTP/1.1", "Host: a:80"})) != "");
  CHECK(Refused(Head({"OPTIONS * HTTP/1.1", "Host: a"})) == "");
  std::string bytes = Head({"GET HTTP://A/x?y HTTP/1.1", "Host: a"});
  StatusOr<RequestHead> head = ParseRequestHead(bytes);
  REQUIRE(head.ok());
  CHECK(head->target == "/x?y");
}

TEST_CASE("a URL's host and Host agree also where one names the scheme's port, or an empty one") {
  const auto target = [](const std::string& url, const std::string& host) {
    const std::string bytes = Head({"GET " + url + " HTTP/1.1", "Host: " + host});
    StatusOr<RequestHead> head = ParseRequestHead(bytes);
    return head.ok() ? std::string(head->target) + " of " + std::string(head->host) : "";
  };
  CHECK(target("http://a:80/x", "a") == "/x of a");
  CHECK(target("http://a/x", "A:80") == "/x of A:80");
  CHECK(target("http://a:/x", "a:80") == "/x of a:80");
  CHECK(target("HTTPS://a/x", "a:443") == "/x of a:443");
  CHECK(target("http://[::1]:80/", "[::1]") == "/ of [::1]");
  CHECK(target("http://a:8080/", "a") == "");
  CHECK(target("http://a:8080/", "a:80") == "");
}

TEST_CASE("what is refused for more than its form has a status of its own") {
  const auto detail_of = [](const std::string& bytes) {
    StatusOr<size_t> size = HeadScanner(LineEnds::kStrict).Scan(bytes);
    return DetailOf(size.ok() ? ParseRequestHead(bytes).status() : size.status());
  };
  const std::string long_text(kMaxHeadBytes, 'x');
  CHECK(detail_of("GET /" + long_text) == detail::kTargetTooLong);
  CHECK(detail_of("GET / HTTP/1.1\r\nX: " + long_text) == detail::kFieldsTooLarge);
  CHECK(detail_of(Head({"GET / HTTP/2.0", "Host: a"})) == detail::kVersionNotSupported);
  CHECK(detail_of(Head({"CONNECT a:80 HTTP/1.1", "Host: a:80"})) == detail::kMethodNotAllowed);
  CHECK(detail_of(Head({"GET / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked"})) ==
        detail::kNotImplemented);
  for (std::string_view bad : {"gzip", "chunked, gzip", "gzip, chunked, chunked"}) {
    CAPTURE(bad);
    CHECK(detail_of(
              Head({"GET / HTTP/1.1", "Host: a", "Transfer-Encoding: " + std::string(bad)})) == "");
  }
  CHECK(detail_of(Head({"GET / HTTP/1.1", "Host: a", "Content-Length: 1",
                        "Transfer-Encoding: gzip, chunked"})) == "");
  CHECK(detail_of(Head({"GET / HTTP/1.1", "Host: a", "Expect: x"})) == detail::kExpectationFailed);
  CHECK(detail_of(Head({"GET / HTTP/1.1", "Host: a b"})) == "");
}

TEST_CASE("a later minor version is read as HTTP/1.1") {
  const std::string bytes = Head({"GET / HTTP/1.2", "Host: a"});
  REQUIRE(ParseRequestHead(bytes).ok());
  CHECK_FALSE(ParseRequestHead(bytes)->http10);
  CHECK(Response(Head({"HTTP/1.3 200 OK"}))->status == 200);
}

TEST_CASE("OPTIONS of a URL without a path is that of the whole server") {
  const std::string bytes = Head({"OPTIONS http://a HTTP/1.1", "Host: a"});
  CHECK(ParseRequestHead(bytes)->target == "*");
  const std::string with_path = Head({"OPTIONS http://a/ HTTP/1.1", "Host: a"});
  CHECK(ParseRequestHead(with_path)->target == "/");
}

TEST_CASE("a Connection is a list of names") {
  CHECK(RefusedWith("Connection: close, X-A,, keep-alive") == "");
  CHECK(RefusedWith("Connection:") == "");
  for (std::string_view bad : {"Connection: a b", "Connection: a;b", "Connection: \"close\""}) {
    CAPTURE(bad);
    CHECK(RefusedWith(bad) != "");
  }
}

TEST_CASE("an Expect other than 100-continue is refused") {
  for (std::string_view good : {"Expect: 100-Continue", "Expect:", "Expect: 100-continue,",
                                "Expect: , 100-continue, 100-continue"}) {
    CAPTURE(good);
    CHECK(RefusedWith(good) == "");
  }
  CHECK(RefusedWith("Expect: 200-ok") != "");
  CHECK(RefusedWith("Expect: 100-continue, x") != "");
}

TEST_CASE("a header of more than 64 KiB is refused, also when its end is there") {
  std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
  bytes.append(kMaxHeadBytes, 'x');
  CHECK_FALSE(HeadScanner(LineEnds::kStrict).Scan(bytes).ok());
  CHECK_FALSE(HeadScanner(LineEnds::kStrict).Scan(bytes + "\r\n\r\n").ok());
}

TEST_CASE("a header of very many fields is refused") {
  std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 300; ++i) bytes += "X: 1\r\n";
  CHECK(Refused(bytes + "\r\n") != "");
}

TEST_CASE("keep-alive is the rule in HTTP/1.1 and asked for in HTTP/1.0") {
  const auto keep_alive = [](std::string_view version, std::string_view field) {
    std::string bytes = Head({"GET / " + std::string(version), "Host: a", field});
    return ParseRequestHead(bytes)->keep_alive;
  };
  CHECK(keep_alive("HTTP/1.1", "X: 1"));
  CHECK_FALSE(keep_alive("HTTP/1.1", "Connection: x, Close"));
  CHECK_FALSE(keep_alive("HTTP/1.0", "X: 1"));
  CHECK(keep_alive("HTTP/1.0", "Connection: Keep-Alive"));
}

TEST_CASE("a response's body is framed by what it says, its status and the request's method") {
  CHECK(Response(Head({"HTTP/1.1 200 OK", "Content-Length: 3"}))->body.length == 3);
  CHECK(Response(Head({"HTTP/1.1 200 OK", "Transfer-Encoding: chunked"}))->body.kind ==
        BodyKind::kChunked);
  CHECK(Response(Head({"HTTP/1.1 200 OK"}))->body.kind == BodyKind::kUntilClose);
  CHECK_FALSE(Response(Head({"HTTP/1.1 200 OK"}))->keep_alive);
  CHECK(Response(Head({"HTTP/1.1 204 No Content"}))->body.kind == BodyKind::kNone);
  CHECK(Response(Head({"HTTP/1.1 304 Not Modified", "Content-Length: 3"}))->body.kind ==
        BodyKind::kNone);
  CHECK(Response(Head({"HTTP/1.1 200 OK", "Content-Length: 3"}), AnswerTo::kHead)->body.kind ==
        BodyKind::kNone);
}

TEST_CASE("behind a 204 that speaks of a body no other answer is read") {
  CHECK(Response(Head({"HTTP/1.1 204 No Content", "Content-Length: 0"}))->keep_alive);
  CHECK_FALSE(Response(Head({"HTTP/1.1 204 No Content", "Content-Length: 6"}))->keep_alive);
  CHECK_FALSE(
      Response(Head({"HTTP/1.1 204 No Content", "Transfer-Encoding: chunked"}))->keep_alive);
}

TEST_CASE("a response whose framing is unclear is an upstream error") {
  for (std::string_view bad :
       {"Content-Length: 3\r\nContent-Length: 3", "Content-Length: 3, 3", "Content-Length: x",
        "Transfer-Encoding: chunked\r\nContent-Length: 3", "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, identity", "X: 1\r\n 2", "X : 1", "X: 1\r2"}) {
    CAPTURE(bad);
    CHECK(ResponseRefused(Head({"HTTP/1.1 200 OK", bad})) != "");
  }
  CHECK(ResponseRefused(Head({"HTTP/1.0 200 OK", "Transfer-Encoding: chunked"})) != "");
}

TEST_CASE("control characters of an instance's values go on, NUL and line ends do not") {
  const auto value = [](char c) {
    return Head({"HTTP/1.1 200 OK", std::string("X: a") + c + "b"});
  };
  for (char c : {'\x01', '\x0b', '\x1f', '\x7f'}) {
    CAPTURE(static_cast<int>(c));
    CHECK(ResponseRefused(value(c)) == "");
  }
  CHECK(ResponseRefused(value('\0')) != "");
  CHECK(ResponseRefused(value('\r')) != "");
}

TEST_CASE("a status line is a version, three digits and maybe a reason") {
  CHECK(Response(Head({"HTTP/1.1 200"}))->status == 200);
  CHECK(Response(Head({"HTTP/1.1 999 Denied"}))->status == 999);
  CHECK(Response(Head({"HTTP/1.1 404 "}))->reason == "");
  CHECK(Response(Head({"HTTP/1.0 404 Not  here"}))->reason == "Not  here");
  for (std::string_view bad : {"HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1 099 x", "HTTP/0.9 200 x",
                               "HTTP/2 200 OK", "HTTP/1.1  200", "200 OK", "HTTP/1.1 2x0 OK",
                               "HTTP/1.1 200 O\x01K", "ICY 200 OK padding"}) {
    CAPTURE(bad);
    CHECK(ResponseRefused(Head({bad})) != "");
  }
}

TEST_CASE("a response's lines may end in a bare LF, as CGI scripts write them") {
  StatusOr<ResponseHead> head = Response("HTTP/1.1 200 OK\nContent-Length: 2\r\n\nok");
  REQUIRE(head.ok());
  CHECK(head->body.length == 2);
}

TEST_CASE("a list is searched without regard to case and white space") {
  CHECK(ListHas("a, Close ,b", "close"));
  CHECK_FALSE(ListHas("closed", "close"));
  CHECK_FALSE(ListHas("", "close"));
}

}  // namespace
}  // namespace ctr
