#include "agent/proxy/http_body.h"

#include <string>

#include <doctest/doctest.h>

namespace ctr {
namespace {

struct Decoded {
  bool ok = true;
  bool done = false;
  std::string body;
  std::string left;  // what stands behind the body
};

// Decodes `bytes`, which come in pieces of `step`.
Decoded Decode(Framing framing, std::string_view bytes, size_t step) {
  BodyDecoder decoder(framing, From::kClient);
  BodyPieces pieces;
  Decoded result;
  std::string buffer;
  while (!bytes.empty() || !buffer.empty()) {
    const std::string_view next = bytes.substr(0, step);
    bytes.remove_prefix(next.size());
    buffer.append(next);
    for (size_t used = 1; used > 0 && !decoder.done();) {
      pieces.Clear();
      StatusOr<size_t> decoded = decoder.Decode(buffer, pieces);
      if (!decoded.ok()) {
        result.ok = false;
        return result;
      }
      for (std::string_view piece : pieces.Get()) result.body.append(piece);
      used = *decoded;
      buffer.erase(0, used);
    }
    if (next.empty() || decoder.done()) break;
  }
  result.done = decoder.done();
  result.left = buffer + std::string(bytes);
  return result;
}

constexpr Framing kChunkedBody{BodyKind::kChunked, 0};

bool IsBroken(std::string_view bytes) { return !Decode(kChunkedBody, bytes, bytes.size()).ok; }

TEST_CASE("a fixed body ends after its length, whatever comes behind") {
  for (size_t step : {1, 2, 3, 100}) {
    Decoded decoded = Decode({BodyKind::kFixed, 5}, "helloGET /", step);
    CHECK(decoded.done);
    CHECK(decoded.body == "hello");
    CHECK(decoded.left == "GET /");
  }
  CHECK(BodyDecoder({BodyKind::kFixed, 0}, From::kClient).done());
  CHECK_FALSE(Decode({BodyKind::kFixed, 5}, "hell", 1).done);
}

TEST_CASE("a chunked body is taken out of its chunks, however they are cut") {
  const std::string_view bytes =
      "5\r\nhello\r\n1;ext=\"1\"\r\n \r\n00A ;x\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET";
  for (size_t step = 1; step <= bytes.size(); ++step) {
    CAPTURE(step);
    Decoded decoded = Decode(kChunkedBody, bytes, step);
    REQUIRE(decoded.ok);
    CHECK(decoded.done);
    CHECK(decoded.body == "hello 0123456789");
    CHECK(decoded.left == "GET");
  }
}

TEST_CASE("trailers are kept, but for those that frame, route or authorise") {
  BodyDecoder decoder(kChunkedBody, From::kClient);
  BodyPieces pieces;
  const std::string_view bytes =
      "0\r\nX-Checksum:  abc \r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: x\r\n"
      "Authorization: y\r\nCtr-Instance: a/b\r\nConnection: z\r\nGrpc-Status: 0\r\n\r\n";
  REQUIRE(*decoder.Decode(bytes, pieces) == bytes.size());
  CHECK(decoder.done());
  CHECK(decoder.trailers() == "X-Checksum: abc\r\nGrpc-Status: 0\r\n");
  CHECK(IsBroken("0\r\nX : 1\r\n\r\n"));
  CHECK(IsBroken("0\r\nX: 1\r\n folded\r\n\r\n"));
  CHECK(IsBroken(std::string_view("0\r\nX: \0\r\n\r\n", 12)));
}

TEST_CASE("broken chunks are refused") {
  CHECK(IsBroken("\r\n"));
  CHECK(IsBroken("x\r\n"));
  CHECK(IsBroken("-1\r\n"));
  CHECK(IsBroken("+1\r\n"));
  CHECK(IsBroken("0x1\r\n"));
  CHECK(IsBroken(" 1\r\n"));
  CHECK(IsBroken("1 \r\n"));
  CHECK(IsBroken("1 1\r\n"));
  CHECK(IsBroken("1\n"));
  CHECK(IsBroken("1\rx\n"));
  CHECK(IsBroken("1;a\x01\r\n"));
  CHECK(IsBroken("ffffffffffffffff\r\n"));
  CHECK(IsBroken("1\r\nab\r\n"));
  CHECK(IsBroken("1\r\na\n"));
  CHECK(IsBroken("0\r\nno colon\r\n\r\n"));
  CHECK(IsBroken("0\r\n: x\r\n\r\n"));
  CHECK(IsBroken("1" + std::string(5000, ' ')));
  CHECK(IsBroken("1 \r\na\r\n0\r\n\r\n"));
  CHECK(IsBroken("0\r\nX: " + std::string(20000, 'x')));
}

TEST_CASE("an instance may pad the size of its chunks with white space") {
  BodyDecoder decoder(kChunkedBody, From::kInstance);
  BodyPieces pieces;
  REQUIRE(decoder.Decode("5  \r\nhello\r\n0 \r\n\r\n", pieces).ok());
  CHECK(decoder.done());
  CHECK(pieces.Get()[0] == "hello");
  BodyDecoder other(kChunkedBody, From::kInstance);
  CHECK_FALSE(other.Decode("5 x\r\nhello\r\n", pieces).ok());
}

TEST_CASE("a chunked body that is cut off is not done") {
  CHECK_FALSE(Decode(kChunkedBody, "5\r\nhel", 100).done);
  CHECK_FALSE(Decode(kChunkedBody, "5\r\nhello\r\n", 100).done);
  CHECK_FALSE(Decode(kChunkedBody, "5\r\nhello\r\n0\r\n", 100).done);
  BodyDecoder decoder(kChunkedBody, From::kClient);
  CHECK_FALSE(decoder.EndOfStream());
}

TEST_CASE("a body until the close ends properly with the stream") {
  BodyDecoder decoder({BodyKind::kUntilClose, 0}, From::kInstance);
  BodyPieces pieces;
  CHECK(*decoder.Decode("abc", pieces) == 3);
  CHECK_FALSE(decoder.done());
  CHECK(decoder.EndOfStream());
}

TEST_CASE("very many small chunks are taken a few at a time") {
  std::string bytes;
  std::string body;
  for (int i = 0; i < 100; ++i) {
    bytes += "1\r\nx\r\n";
    body += "x";
  }
  Decoded decoded = Decode(kChunkedBody, bytes + "0\r\n\r\n", 1000);
  CHECK(decoded.done);
  CHECK(decoded.body == body);
}

}  // namespace
}  // namespace ctr
