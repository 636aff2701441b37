#include "agent/proxy/exchange.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/proxy/admission.h"
#include "agent/proxy/body_writer.h"

namespace ctr {
namespace {

// An instance that refuses connections has just died, and control is about to notice; or its
// program does not listen on that port. Tells the two apart soon enough for the latter.
constexpr std::array<Duration, 3> kRefusedBackoff = {
    std::chrono::milliseconds(10), std::chrono::milliseconds(50), std::chrono::milliseconds(200)};

constexpr int kMaxInterims = 100;
// A program that does not know Expect never asks for the body: after so long it is asked for here.
constexpr Duration kContinuePatience = std::chrono::milliseconds(500);

Status UpstreamError(std::string_view message) {
  return Error(absl::StatusCode::kUnavailable, code::kUpstreamError, message);
}

}  // namespace

Exchange::Exchange(LoopContext& loop, std::shared_ptr<Stream> client, Request request)
    : loop_(loop), client_(std::move(client)), request_(std::move(request)) {}

Exchange::~Exchange() {
  if (uploading()) upload_->Cancel();
}

awaitable<After> Exchange::Run(Route route) {
  origin_ = PickInstance(route, loop_.random);
  name_ = {route.class_route->name, route.id};
  hold_until_ = loop_.clock.Now() + route.class_route->hold_timeout;
  if (Status reached = co_await Reach(route); !reached.ok()) co_return co_await Fail(reached);
  StatusOr<ResponseHead> head = co_await Ask();
  // A server may close an idle connection at any time. Nothing has come back and all of the request
  // is still here: once more, on a new one.
  if (!head.ok() && reused_ && !answered_ && !upload_ && request_.idempotent) {
    fresh_only_ = true;
    if (Status reached = co_await Reach(route); !reached.ok()) co_return co_await Fail(reached);
    head = co_await Ask();
  }
  if (!head.ok()) co_return co_await Fail(head.status());
  co_return co_await Relay(*std::move(head));
}

// "GET /path from 10.0.0.1", for the record of a wake.
std::string Exchange::Cause() const {
  constexpr size_t kMaxTarget = 200;
  std::string_view line = std::string_view(request_.message).substr(0, request_.message.find('\r'));
  line = line.substr(0, line.rfind(' '));
  return absl::StrCat(std::string(line.substr(0, kMaxTarget)), " from ",
                      std::string(request_.peer));
}

awaitable<Status> Exchange::Reach(Route route) {
  for (size_t attempt = 0;; ++attempt) {
    CTR_CO_RETURN_IF_ERROR(co_await Enter(route));
    Status connected = co_await Connect(route.port);
    if (connected.ok() || attempt == kRefusedBackoff.size()) co_return connected;
    // Out of the gate, so that control can close it.
    passage_ = Passage();
    co_await loop_.clock.SleepUntil(loop_.clock.Now() + kRefusedBackoff[attempt]);
  }
}

awaitable<Status> Exchange::Enter(const Route& route) {
  if (passage_.slot()) co_return absl::OkStatus();
  CTR_CO_ASSIGN_OR_RETURN(passage_, TryEnter(route.slot));
  if (!passage_.slot() || !passage_.endpoint()) {
    passage_ = Passage();
    const MonoTime begin = loop_.clock.Now();
    CTR_CO_ASSIGN_OR_RETURN(passage_, co_await Admit(loop_, route, origin_, hold_until_, Cause()));
    timings_.wake += loop_.clock.Now() - begin;
  }
  co_return absl::OkStatus();
}

awaitable<Status> Exchange::Connect(uint16_t port) {
  upstream_ = nullptr;
  if (!fresh_only_) {
    upstream_ =
        loop_.upstreams.Take(passage_.endpoint(), port, loop_.clock.Now(), request_.idempotent);
  }
  reused_ = upstream_ != nullptr;
  if (reused_) co_return absl::OkStatus();
  CTR_CO_ASSIGN_OR_RETURN(
      upstream_, co_await Dial(loop_.poller, passage_.endpoint(), port, loop_.limits.dial_timeout));
  co_return absl::OkStatus();
}

awaitable<StatusOr<ResponseHead>> Exchange::Ask() {
  timings_.route = loop_.clock.Now() - request_.arrived - timings_.wake;
  co_await SendRequest();
  co_return co_await ReadResponseHead();
}

// What the instance no longer takes, it may have answered before.
awaitable<void> Exchange::SendRequest() {
  WriteBatch batch;
  batch.Add(request_.message);
  co_await upstream_->stream.Write(std::move(batch));
  if (request_.rest.kind == BodyKind::kNone) co_return;
  window_begin_ = loop_.clock.Now();
  window_received_ = client_->received();
  upload_ = std::make_shared<Upload>(client_, upstream_, request_.rest);
  upload_->Start();
}

awaitable<StatusOr<ResponseHead>> Exchange::ReadResponseHead() {
  Buffer& in = upstream_->stream.in();
  for (HeadScanner scanner(LineEnds::kLenient);;) {
    StatusOr<size_t> size = scanner.Scan(in.view());
    if (!size.ok()) co_return UpstreamError("the instance's response header is larger than 64 KiB");
    if (*size == 0) {
      if (co_await upstream_->stream.Read() == 0) co_return UpstreamGone();
      answered_ = true;
      continue;
    }
    StatusOr<ResponseHead> head = ParseResponseHead(in.view().substr(0, *size), request_.answer_to);
    if (!head.ok()) co_return head.status();
    if (head->status == 101) co_return UpstreamError("the instance switched protocols unasked");
    if (head->status >= 200) {
      head_size_ = *size;
      co_return head;
    }
    if (++interims_ > kMaxInterims) {
      co_return UpstreamError("the instance sends interim responses without end");
    }
    if (!co_await RelayInterim(*head)) co_return UpstreamGone();
    in.Consume(*size);
    scanner = HeadScanner(LineEnds::kLenient);
  }
}

// HTTP/1.0 knows no interim responses; of two 100s, one may be ours. False if the client is gone.
awaitable<bool> Exchange::RelayInterim(const ResponseHead& head) {
  if (request_.form.http10) co_return true;
  if (head.status == 100 && !std::exchange(request_.expects_continue, false)) co_return true;
  std::string text;
  AppendInterimResponse(text, head);
  WriteBatch batch;
  batch.Add(text);
  co_return co_await client_->Write(std::move(batch));
}

Status Exchange::UpstreamGone() const {
  if (upload_ && upload_->state() == Upload::State::kMalformed) return upload_->error();
  return UpstreamError(
      answered_ ? "the instance closed the connection in the middle of a response header"
                : "the instance closed the connection without a response; see: ctr logs");
}

awaitable<After> Exchange::Relay(ResponseHead head) {
  responding_ = true;
  // An answer before the request's end mostly refuses it: the client had better not go on.
  const bool refused = uploading() && head.status >= 300;
  const ClientSide client{.http10 = request_.form.http10,
                          .keep_alive = request_.form.keep_alive && !loop_.draining && !refused};
  const ClientFraming framing = FrameForClient(head, client);
  // The request is sent: its text makes room for the response's.
  std::string text = std::move(request_.message);
  text.clear();
  AppendClientResponse(text, head, client, framing, passage_.slot()->name(), timings_);
  upstream_->stream.in().Consume(head_size_);
  const bool complete = co_await RelayBody(std::move(text), head.body, framing.kind);
  co_return co_await Finish(complete, head.keep_alive, framing.keep_alive);
}

// Whether all of it went through. If the instance broke off, the client must not take what it got
// for all: neither the length nor the last chunk comes, or the close is a reset.
awaitable<bool> Exchange::RelayBody(std::string head, Framing framing, BodyKind client_kind) {
  const BodyEncoding encoding =
      client_kind == BodyKind::kChunked ? BodyEncoding::kChunked : BodyEncoding::kPlain;
  Stream& upstream = upstream_->stream;
  BodyDecoder decoder(framing);
  BodyPieces pieces;
  std::string chunk_size;
  for (bool first = true;; first = false) {
    pieces.Clear();
    StatusOr<size_t> used = decoder.Decode(upstream.in().view(), pieces);
    if (!used.ok() && !first) break;
    WriteBatch batch;
    if (first) batch.Add(head);
    AddBody(batch, pieces, encoding, decoder, chunk_size);
    if (!batch.empty() && !co_await client_->Write(std::move(batch))) co_return false;
    if (!used.ok()) break;
    upstream.in().Consume(*used);
    if (decoder.done()) co_return true;
    if (*used > 0 && !upstream.in().empty()) continue;
    if (co_await upstream.Read() > 0) continue;
    if (!upstream.ended() || !decoder.EndOfStream()) break;
  }
  if (client_kind == BodyKind::kUntilClose) client_->CloseWithReset();
  co_return false;
}

awaitable<After> Exchange::Finish(bool complete, bool upstream_keep_alive, bool client_keep_alive) {
  const std::shared_ptr<Slot> slot = passage_.slot();
  passage_ = Passage();
  const bool upload_open = uploading();
  if (upload_open) co_await upload_->Stop();
  const bool sent = !upload_ || upload_->state() == Upload::State::kDone;
  if (complete && sent && upstream_keep_alive && upstream_->stream.in().empty()) {
    loop_.upstreams.Put(slot, std::move(upstream_), loop_.clock.Now());
  }
  upstream_ = nullptr;
  if (!complete) co_return After::kClose;
  if (!sent) co_return After::kLinger;
  if (client_keep_alive) co_return After::kKeepAlive;
  // The client wanted to go on, and may be sending already: that must not reset the answer away.
  if (loop_.draining && request_.form.keep_alive) co_return After::kLinger;
  co_return After::kClose;
}

awaitable<After> Exchange::Fail(Status error) {
  responding_ = true;
  passage_ = Passage();
  upstream_ = nullptr;
  if (uploading()) co_await upload_->Stop();
  if (upload_ && upload_->state() == Upload::State::kClientGone) co_return After::kClose;
  if (name_.class_name.empty()) name_.class_name = ClassOf(error);
  loop_.refusals.Add(name_, error, [this] { return Cause(); }, loop_.clock.Now());
  const bool unread = request_.rest.kind != BodyKind::kNone;
  request_.form.keep_alive &= !unread && !loop_.draining;
  std::string answer = ErrorAnswer(error, request_.form);
  WriteBatch batch;
  batch.Add(answer);
  if (!co_await client_->Write(std::move(batch))) co_return After::kClose;
  if (unread || loop_.draining) co_return After::kLinger;
  co_return request_.form.keep_alive ? After::kKeepAlive : After::kClose;
}

bool Exchange::Sweep(MonoTime now) {
  if (IsClientGone(now)) return false;
  LookAtUpload(now);
  return true;
}

bool Exchange::IsClientGone(MonoTime now) {
  const Stream::Peer peer = client_->LookAtPeer();
  if (peer == Stream::Peer::kGone) return true;
  const bool half_closed = peer == Stream::Peer::kClosing && !client_->reading();
  const bool doubtful = half_closed || client_->blocked();
  if (doubtful != doubtful_ || client_->sent() != sent_) progress_at_ = now;
  doubtful_ = doubtful;
  sent_ = client_->sent();
  if (!doubtful) return false;
  const SessionLimits& limits = loop_.limits;
  const Duration patience = client_->blocked() ? limits.write_stall
                            : upstream_        ? limits.half_closed
                                               : limits.half_closed_held;
  return now - progress_at_ >= patience;
}

void Exchange::LookAtUpload(MonoTime now) {
  if (!uploading() || responding_) return;
  const SessionLimits& limits = loop_.limits;
  const Duration window = now - window_begin_;
  if (request_.expects_continue && window >= kContinuePatience && !client_->blocked()) {
    request_.expects_continue = false;
    client_->WriteNow("HTTP/1.1 100 Continue\r\n\r\n");
  }
  const bool instance_is_slow = !client_->reading();
  if (!instance_is_slow && window < limits.body_window) return;
  const uint64_t received = client_->received() - window_received_;
  const auto wanted = limits.min_body_rate * (limits.body_window / std::chrono::seconds(1));
  if (!instance_is_slow && received < static_cast<uint64_t>(wanted)) {
    upload_->GiveUp(Error(absl::StatusCode::kDeadlineExceeded, code::kBadRequest,
                          absl::StrCat("the body came at less than ", limits.min_body_rate,
                                       " bytes a second (min_body_rate)")));
  }
  window_begin_ = now;
  window_received_ = client_->received();
}

}  // namespace ctr
