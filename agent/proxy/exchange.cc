#include "agent/proxy/exchange.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/proxy/body_writer.h"

namespace ctr {
namespace {

constexpr int kMaxInterims = 100;
// As nginx writes down a client that has closed before the answer.
constexpr int kClientGone = 499;
// A program that does not know Expect never asks for the body: after so long it is asked for here.
constexpr Duration kContinuePatience = std::chrono::milliseconds(500);

Status UpstreamError(std::string_view message) {
  return Error(absl::StatusCode::kUnavailable, code::kUpstreamError, message);
}

// Nobody is there any more to be answered.
Status ClientGone() { return absl::CancelledError("the client went away"); }

}  // namespace

Exchange::Exchange(LoopContext& loop, std::shared_ptr<Stream> client, Request request)
    : loop_(loop), client_(std::move(client)), request_(std::move(request)), approach_(loop) {}

Exchange::~Exchange() {
  if (uploading()) upload_->Cancel();
  Account();
}

void Exchange::Account() {
  const uint64_t in = client_->received() - client_->in().size() - request_.received_before;
  const uint64_t out = client_->sent() - request_.sent_before;
  const Duration took = loop_.clock.Now() - request_.arrived;
  if (Traffic* traffic = approach_.traffic(); traffic != nullptr && status_ != 0) {
    if (switched_) {
      traffic->AddConnection(loop_.index, in, out);
    } else {
      constexpr int kLastClass = 599;  // what is beyond counts there
      traffic->Add(loop_.index, {std::min(status_, kLastClass), took, in, out});
    }
  }
  if (!loop_.access_log.enabled()) return;
  loop_.access_log.Add({.at = loop_.clock.Wall(),
                        .client = request_.peer,
                        .request = request_.line,
                        .host = request_.host,
                        .instance = &approach_.name(),
                        .status = status_ != 0 ? status_ : kClientGone,
                        .error = error_,
                        .bytes_in = in,
                        .bytes_out = out,
                        .took = took,
                        .wake = approach_.waited()});
}

awaitable<After> Exchange::Run(Route route) {
  approach_.Begin(std::move(route));
  Approach::Wish wish{.pooled = !request_.upgrade,
                      .can_send_again = request_.idempotent,
                      .bytes = request_.message.size() + client_->in().size()};
  StatusOr<bool> reached = approach_.TryReach(wish);
  Status error = reached.status();
  if (reached.ok() && !*reached) error = co_await approach_.Reach(wish, [this] { return Cause(); });
  if (!error.ok()) co_return co_await Fail(error);
  StatusOr<ResponseHead> head = co_await Ask();
  // A server may close an idle connection at any time. Nothing has come back and all of the request
  // is still here: once more, on a new one.
  if (!head.ok() && approach_.reused() && !answered_ && !timed_out_ && !upload_ &&
      request_.idempotent) {
    asked_at_.reset();
    wish.pooled = false;
    error = co_await approach_.Reach(wish, [this] { return Cause(); });
    if (!error.ok()) co_return co_await Fail(error);
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

awaitable<StatusOr<ResponseHead>> Exchange::Ask() {
  timings_.wake = approach_.waited();
  timings_.route = loop_.clock.Now() - request_.arrived - timings_.wake;
  asked_at_ = loop_.clock.Now();
  WriteBatch batch;
  batch.Add(request_.message);
  // What the instance no longer takes, it may have answered before.
  if (upstream().WriteNow(batch) == Stream::Written::kMore) {
    co_await upstream().Write(std::move(batch));
  }
  if (timed_out_) co_return UpstreamGone();
  approach_.Sent();
  if (request_.rest.kind != BodyKind::kNone) {
    window_begin_ = loop_.clock.Now();
    window_received_ = client_->received();
    upload_ = std::make_shared<Upload>(client_, approach_.upstream(), request_.rest);
    upload_->Start();
  }
  co_return co_await ReadResponseHead();
}

awaitable<StatusOr<ResponseHead>> Exchange::ReadResponseHead() {
  Buffer& in = upstream().in();
  for (HeadScanner scanner(LineEnds::kLenient);;) {
    StatusOr<size_t> size = scanner.Scan(in.view());
    if (!size.ok()) co_return UpstreamError("the instance's response header is larger than 64 KiB");
    if (*size == 0) {
      if (co_await upstream().Read() == 0) co_return UpstreamGone();
      answered_ = true;
      continue;
    }
    StatusOr<ResponseHead> head = ParseResponseHead(in.view().substr(0, *size), request_.answer_to);
    if (!head.ok()) co_return head.status();
    if (head->status == 101 && !request_.upgrade) {
      co_return UpstreamError("the instance switched protocols unasked");
    }
    if (head->status >= 200 || head->status == 101) {
      head_size_ = *size;
      co_return head;
    }
    if (++interims_ > kMaxInterims) {
      co_return UpstreamError("the instance sends interim responses without end");
    }
    if (!co_await RelayInterim(*head)) co_return ClientGone();
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
  if (upload_ && upload_->state() == Upload::State::kClientGone) return ClientGone();
  if (timed_out_) {
    return Error(absl::StatusCode::kDeadlineExceeded, code::kUpstreamTimeout,
                 "the instance did not answer within response_timeout");
  }
  return UpstreamError(
      answered_ ? "the instance closed the connection in the middle of a response header"
                : "the instance closed the connection without a response; see: ctr logs");
}

awaitable<After> Exchange::Relay(ResponseHead head) {
  responding_ = true;
  status_ = head.status;
  if (head.status == 101) {
    approach_.Unsaid();
    co_return co_await Switch(head);
  }
  approach_.Answered(head.status);
  // An answer before the request's end mostly refuses it: the client had better not go on. So if
  // the rest of the request has nowhere to go, or may not come at all.
  const bool refused =
      uploading() && (head.status >= 300 || request_.expects_continue || !head.keep_alive);
  const ClientSide client{.http10 = request_.form.http10,
                          .keep_alive = request_.form.keep_alive && !loop_.draining && !refused};
  const ClientFraming framing = FrameForClient(head, client);
  // The request is sent: its text makes room for the response's.
  std::string text = std::move(request_.message);
  text.clear();
  AppendClientResponse(text, head, client, framing, approach_.passage().slot()->name(), timings_);
  upstream().in().Consume(head_size_);
  const bool complete = co_await RelayBody(std::move(text), head.body, framing.kind);
  if (complete && framing.keep_alive && uploading()) {
    responded_ = true;
    window_begin_ = loop_.clock.Now();
    window_received_ = client_->received();
    co_await upload_->AwaitEnd();
  }
  if (uploading()) co_await upload_->Stop();
  co_return Finish(complete, head.keep_alive, framing.keep_alive);
}

// From here on the two speak another protocol.
awaitable<After> Exchange::Switch(const ResponseHead& head) {
  std::string text;
  AppendSwitchResponse(text, head, approach_.passage().slot()->name(), timings_);
  upstream().in().Consume(head_size_);
  WriteBatch batch;
  batch.Add(text);
  if (!co_await client_->Write(std::move(batch))) co_return After::kClose;
  request_.message = text = std::string();  // a connection may be idle for long
  switched_ = true;
  tunnel_ = std::make_shared<Tunnel>(loop_, *client_, approach_);
  co_await tunnel_->Run();
  tunnel_.reset();
  co_return After::kClose;
}

// Whether all of it went through. If the instance broke off, the client must not take what it got
// for all: neither the length nor the last chunk comes, or the close is a reset.
awaitable<bool> Exchange::RelayBody(std::string head, Framing framing, BodyKind client_kind) {
  const BodyEncoding encoding =
      client_kind == BodyKind::kChunked ? BodyEncoding::kChunked : BodyEncoding::kPlain;
  Stream& upstream = this->upstream();
  BodyDecoder decoder(framing, From::kInstance);
  BodyPieces pieces;
  std::string chunk_size;
  for (bool first = true;; first = false) {
    pieces.Clear();
    StatusOr<size_t> used = decoder.Decode(upstream.in().view(), pieces);
    if (!used.ok() && !first) break;
    WriteBatch batch;
    if (first) batch.Add(head);
    AddBody(batch, pieces, encoding, decoder, chunk_size);
    Stream::Written written = client_->WriteNow(batch);
    if (written == Stream::Written::kMore && co_await client_->Write(std::move(batch))) {
      written = Stream::Written::kAll;
    }
    if (written != Stream::Written::kAll) co_return false;
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

After Exchange::Finish(bool complete, bool upstream_keep_alive, bool client_keep_alive) {
  const bool sent = !upload_ || upload_->state() == Upload::State::kDone;
  // An instance that has answered first may not have read the rest, and take it for a request.
  const bool keep =
      complete && sent && !responded_ && upstream_keep_alive && upstream().in().empty();
  approach_.Leave(keep ? Approach::Connection::kKeep : Approach::Connection::kClose);
  if (!complete) return After::kClose;
  if (!sent) return After::kLinger;
  if (client_keep_alive) return After::kKeepAlive;
  // The client wanted to go on, and may be sending already: that must not reset the answer away.
  if (loop_.draining && request_.form.keep_alive) return After::kLinger;
  return CloseOrLinger();
}

// What it has sent beside its last request must not reset the answer away (RFC 9112, 9.6).
After Exchange::CloseOrLinger() const {
  return client_->in().empty() && !client_->Readable() ? After::kClose : After::kLinger;
}

awaitable<After> Exchange::Fail(Status error) {
  responding_ = true;
  const std::string why = ErrorCodeOf(error);
  if (why == code::kUpstreamError || why == code::kUpstreamTimeout) approach_.Failed();
  approach_.Leave(Approach::Connection::kClose);
  if (uploading()) co_await upload_->Stop();
  if (absl::IsCancelled(error)) co_return After::kClose;
  InstanceName name = approach_.name();
  if (name.class_name.empty()) name.class_name = ClassOf(error);
  loop_.refusals.Add(std::move(name), error, [this] { return Cause(); }, loop_.clock.Now());
  const bool unread = request_.rest.kind != BodyKind::kNone;
  request_.form.keep_alive &= !unread && !loop_.draining;
  std::string answer = ErrorAnswer(error, request_.form);
  status_ = HttpStatusOf(error);
  error_ = ErrorCodeOf(error);
  WriteBatch batch;
  batch.Add(answer);
  if (!co_await client_->Write(std::move(batch))) co_return After::kClose;
  if (unread || loop_.draining) co_return After::kLinger;
  co_return request_.form.keep_alive ? After::kKeepAlive : CloseOrLinger();
}

bool Exchange::Sweep(MonoTime now) {
  if (tunnel_) return tunnel_->Sweep();
  const SessionLimits& limits = loop_.limits;
  const bool held = !approach_.upstream();
  const Duration half_closed = held ? limits.half_closed_held : limits.half_closed;
  if (watch_.IsGone(*client_, half_closed, limits.write_stall, now)) return false;
  LookAtUpload(now);
  LookAtAnswer(now);
  return true;
}

// Time in which it waits for the client is not the instance's.
void Exchange::LookAtAnswer(MonoTime now) {
  if (!asked_at_ || responding_ || timed_out_) return;
  if (uploading() && client_->reading()) asked_at_ = now;
  const std::optional<Duration> timeout = approach_.response_timeout();
  if (!timeout || now - *asked_at_ < *timeout) return;
  timed_out_ = true;
  upstream().Cancel();
}

void Exchange::LookAtUpload(MonoTime now) {
  if (!uploading() || (responding_ && !responded_)) return;
  const SessionLimits& limits = loop_.limits;
  const Duration window = now - window_begin_;
  if (request_.expects_continue && window >= kContinuePatience && !client_->blocked()) {
    request_.expects_continue = false;
    WriteBatch batch;
    batch.Add("HTTP/1.1 100 Continue\r\n\r\n");
    client_->WriteNow(batch);
  }
  // Once it has answered, an instance that takes no more of the request is not waited for.
  const bool instance_is_slow = !client_->reading() && !responded_;
  if (!instance_is_slow && window < limits.body_window) return;
  const uint64_t received = client_->received() - window_received_;
  const auto wanted = limits.min_body_rate * (limits.body_window / std::chrono::seconds(1));
  if (!instance_is_slow && received < static_cast<uint64_t>(wanted)) {
    if (responded_) return upload_->Cancel();
    upload_->GiveUp(Error(absl::StatusCode::kDeadlineExceeded, code::kBadRequest,
                          absl::StrCat("the body came at less than ", limits.min_body_rate,
                                       " bytes a second (min_body_rate)")));
  }
  window_begin_ = now;
  window_received_ = client_->received();
}

}  // namespace ctr
