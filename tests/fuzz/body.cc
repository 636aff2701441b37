// A chunked body: however its bytes are cut, the same comes out, and what is passed on says the
// same again.
#include <algorithm>
#include <functional>
#include <random>
#include <string>

#include "agent/proxy/body_writer.h"
#include "agent/proxy/http_body.h"
#include "tests/fuzz/fuzz.h"

namespace ctr {
namespace {

struct Decoded {
  bool ok = true;
  bool done = false;
  std::string body;
  std::string trailers;
  std::string left;     // what stands behind the body
  std::string encoded;  // as it is passed on, chunked

  bool operator==(const Decoded& other) const {
    return done == other.done && body == other.body && trailers == other.trailers &&
           left == other.left;
  }
};

// Relays a body, as an upload does, whose bytes come in pieces of as many as `next` says.
Decoded Relay(Framing framing, From from, std::string_view bytes,
              const std::function<size_t()>& next) {
  BodyDecoder decoder(framing, from);
  BodyPieces pieces;
  Decoded result;
  std::string buffer;
  std::string chunk_size;
  for (;;) {
    pieces.Clear();
    const StatusOr<size_t> used = decoder.Decode(buffer, pieces);
    if (!used.ok()) {
      result.ok = false;
      return result;
    }
    for (std::string_view piece : pieces.Get()) result.body.append(piece);
    WriteBatch batch;
    AddBody(batch, pieces, BodyEncoding::kChunked, decoder, chunk_size);
    for (const iovec& part : batch.parts()) {
      result.encoded.append(static_cast<const char*>(part.iov_base), part.iov_len);
    }
    CTR_HOLDS(*used <= buffer.size());
    buffer.erase(0, *used);
    if (decoder.done()) break;
    if (*used > 0 && !buffer.empty()) continue;
    if (bytes.empty()) break;
    const std::string_view more = bytes.substr(0, std::max<size_t>(1, next()));
    buffer.append(more);
    bytes.remove_prefix(more.size());
  }
  result.done = decoder.done();
  result.trailers = decoder.trailers();
  result.left = buffer + std::string(bytes);
  return result;
}

void CheckCuts(Framing framing, From from, std::string_view input) {
  const Decoded whole = Relay(framing, from, input, [&] { return input.size(); });
  std::minstd_rand random(static_cast<unsigned>(input.size() + 1));
  for (size_t most : {size_t{1}, size_t{7}, size_t{40}}) {
    const Decoded cut = Relay(framing, from, input, [&] { return 1 + random() % most; });
    CTR_HOLDS(cut.ok == whole.ok);
    // How much of a broken body has gone on before that was seen may differ.
    CTR_HOLDS(whole.ok ? cut == whole
                       : cut.body.starts_with(whole.body) || whole.body.starts_with(cut.body));
  }
  if (!whole.ok || !whole.done) return;
  const Decoded again =
      Relay({BodyKind::kChunked, 0}, from, whole.encoded, [&] { return whole.encoded.size(); });
  CTR_HOLDS(again.ok && again.done && again.left.empty());
  CTR_HOLDS(again.body == whole.body);
  CTR_HOLDS(again.trailers == whole.trailers);
  CTR_HOLDS(again.encoded.size() <= whole.encoded.size());
}

}  // namespace

void Fuzz(std::string_view input) {
  CheckCuts({BodyKind::kChunked, 0}, From::kClient, input);
  CheckCuts({BodyKind::kChunked, 0}, From::kInstance, input);
  CheckCuts({BodyKind::kFixed, input.size() / 2}, From::kClient, input);
  CheckCuts({BodyKind::kUntilClose, 0}, From::kInstance, input);
}

}  // namespace ctr
