#pragma once

#include <string>

#include "agent/proxy/http_body.h"
#include "agent/proxy/stream.h"

namespace ctr {

enum class BodyEncoding { kPlain, kChunked };

// Adds the pieces of a body that `decoder` gave as they go on the wire: as they are, or as one
// chunk, and with the last of them the end of the chunks and the trailers. `chunk_size` holds the
// chunk's first line until it is written.
void AddBody(WriteBatch& batch, const BodyPieces& pieces, BodyEncoding encoding,
             const BodyDecoder& decoder, std::string& chunk_size);

}  // namespace ctr
