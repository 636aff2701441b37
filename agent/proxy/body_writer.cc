#include "agent/proxy/body_writer.h"

#include "agent/proxy/http_rewrite.h"

namespace ctr {

void AddBody(WriteBatch& batch, const BodyPieces& pieces, BodyEncoding encoding,
             const BodyDecoder& decoder, std::string& chunk_size) {
  const size_t size = pieces.TotalSize();
  const bool chunked = encoding == BodyEncoding::kChunked;
  if (chunked && size > 0) {
    chunk_size.clear();
    AppendChunkSize(chunk_size, size);
    batch.Add(chunk_size);
  }
  for (std::string_view piece : pieces.Get()) batch.Add(piece);
  if (!chunked) return;
  if (size > 0) batch.Add("\r\n");
  if (!decoder.done()) return;
  batch.Add("0\r\n");
  batch.Add(decoder.trailers());
  batch.Add("\r\n");
}

}  // namespace ctr
