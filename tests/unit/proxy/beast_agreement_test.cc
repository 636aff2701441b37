#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <boost/beast/http.hpp>
#include <doctest/doctest.h>

#include "absl/strings/ascii.h"
#include "agent/proxy/http_head.h"

// A second opinion: Boost.Beast's parser, which is laxer, reads whatever ours takes, and reads the
// same in it. What two readers understand differently would be a way to smuggle requests.
namespace ctr {
namespace {

namespace http = boost::beast::http;
using Values = std::map<std::string, std::vector<std::string>>;

const std::vector<std::string> kSeeds = {
    "GET /a/b?c=d HTTP/1.1\r\nHost: alice.web.localhost:8080\r\nAccept: */*\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: \t1 2\t\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nX-Empty:\r\nX-Empty: \r\n\r\n",
};

std::string Lower(std::string_view text) {
  return absl::AsciiStrToLower(absl::string_view(text.data(), text.size()));
}

// One to three bytes of a seed are replaced, put in, taken away or doubled.
std::string Mutate(std::string bytes, std::mt19937& random) {
  using namespace std::string_view_literals;
  static constexpr std::string_view kBytes = "\0\t\n\r\x0b \"#%,/:;=?Aa0159\x7f\x80\xff"sv;
  for (unsigned changes = 1 + random() % 3; changes > 0; --changes) {
    const size_t at = random() % bytes.size();
    const char byte = kBytes[random() % kBytes.size()];
    switch (random() % 4) {
      case 0:
        bytes[at] = byte;
        break;
      case 1:
        bytes.insert(at, 1, byte);
        break;
      case 2:
        bytes.erase(at, 1);
        break;
      default:
        bytes.insert(at, bytes.substr(at, 1 + random() % 30));
    }
  }
  return bytes;
}

void CheckAgreement(const std::string& bytes, const RequestHead& ours) {
  CAPTURE(bytes);
  http::request_parser<http::empty_body> beast;
  beast.skip(false);
  boost::system::error_code error;
  const size_t used = beast.put(boost::asio::buffer(bytes), error);
  const bool more = error == http::error::need_more;
  CHECK_MESSAGE((!error || more), error.message());
  CHECK(beast.is_header_done());
  CHECK(used <= bytes.size());
  const auto& theirs = beast.get();
  CHECK(std::string_view(theirs.method_string()) == ours.method);
  if (bytes.find(" http", 0) == std::string::npos) {
    CHECK(std::string_view(theirs.target()) == ours.target);
  }
  CHECK(theirs.version() == (ours.http10 ? 10 : 11));
  CHECK(theirs.chunked() == (ours.body.kind == BodyKind::kChunked));
  CHECK(beast.keep_alive() == ours.keep_alive);

  Values our_values;
  Values their_values;
  for (const Field& field : ours.fields) {
    our_values[Lower(field.name)].emplace_back(field.value);
  }
  for (const auto& field : theirs) {
    their_values[Lower(std::string_view(field.name_string()))].emplace_back(field.value());
  }
  CHECK(our_values == their_values);
}

TEST_CASE("what our parser takes, Beast's takes and reads the same") {
  std::mt19937 random(20261105);
  int taken = 0;
  for (int i = 0; i < 30'000; ++i) {
    const std::string bytes = i < 5 ? kSeeds[i] : Mutate(kSeeds[random() % kSeeds.size()], random);
    StatusOr<size_t> size = HeadScanner(LineEnds::kStrict).Scan(bytes);
    if (!size.ok() || *size == 0) continue;
    const std::string head = bytes.substr(0, *size);
    StatusOr<RequestHead> ours = ParseRequestHead(head);
    if (!ours.ok()) continue;
    const size_t version = head.find(" HTTP/1.") + 8;
    if (head[version] > '1') continue;  // which Beast does not know
    ++taken;
    CheckAgreement(head, *ours);
  }
  CHECK(taken > 1000);
}

}  // namespace
}  // namespace ctr
