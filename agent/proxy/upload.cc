#include "agent/proxy/upload.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "agent/proxy/body_writer.h"

namespace ctr {

Upload::Upload(std::shared_ptr<Stream> client, UpstreamPtr upstream, Framing framing)
    : client_(std::move(client)),
      upstream_(std::move(upstream)),
      framing_(framing),
      ended_(client_->executor(), MonoTime::max()) {}

void Upload::Start() {
  auto executor = client_->executor();
  asio::co_spawn(executor, Send(),
                 asio::bind_cancellation_slot(
                     cancel_.slot(), [self = shared_from_this(), executor](std::exception_ptr) {
                       if (self->state_ == State::kRunning) self->state_ = State::kStopped;
                       self->ended_.cancel();
                       // The coroutine that calls this still refers to the signal.
                       asio::post(executor, [self] {});
                     }));
}

awaitable<void> Upload::AwaitEnd() {
  if (state_ != State::kRunning) co_return;
  ErrorCode ignored;
  co_await ended_.async_wait(asio::redirect_error(use_awaitable, ignored));
}

awaitable<void> Upload::Stop() {
  if (state_ != State::kRunning) co_return;
  Cancel();
  co_await AwaitEnd();
}

void Upload::GiveUp(Status error) {
  error_ = std::move(error);
  client_->Cancel();
}

awaitable<void> Upload::Send() {
  state_ = co_await SendBody();
  if (state_ == State::kClientGone || state_ == State::kMalformed) {
    upstream_->stream.Close();
  }
}

awaitable<Upload::State> Upload::SendBody() {
  const BodyEncoding encoding =
      framing_.kind == BodyKind::kChunked ? BodyEncoding::kChunked : BodyEncoding::kPlain;
  BodyDecoder decoder(framing_, From::kClient);
  BodyPieces pieces;
  std::string chunk_size;
  for (;;) {
    pieces.Clear();
    StatusOr<size_t> used = decoder.Decode(client_->in().view(), pieces);
    if (!used.ok()) {
      error_ = Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
                     absl::StrCat("malformed request: ", used.status().message()));
      co_return State::kMalformed;
    }
    WriteBatch batch;
    AddBody(batch, pieces, encoding, decoder, chunk_size);
    if (!batch.empty() && !co_await upstream_->stream.Write(std::move(batch))) {
      co_return State::kUpstreamClosed;
    }
    client_->in().Consume(*used);
    if (decoder.done()) co_return State::kDone;
    if (*used > 0 && !client_->in().empty()) continue;
    if (co_await client_->Read() > 0) continue;
    co_return error_.ok() ? State::kClientGone : State::kMalformed;
  }
}

}  // namespace ctr
