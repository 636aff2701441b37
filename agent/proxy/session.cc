#include "agent/proxy/session.h"

#include <algorithm>
#include <array>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "agent/base/ipv4.h"
#include "agent/proxy/passthrough.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

// As far as its first empty line, where a client of HTTP/2 stops to look like one of HTTP/1.1.
constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\n";

Status Http2ByName() {
  return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
               "HTTP/2 is not offered here; connect to the instance's or the class's own address, "
               "which passes it on, or send HTTP/1.1");
}

// How long a drain waits for the first request of a connection.
constexpr Duration kFirstRequestGrace = std::chrono::seconds(3);

// The methods that may be sent again without harm (RFC 9110, 9.2.2).
bool IsIdempotent(std::string_view method) {
  constexpr std::array<std::string_view, 6> kMethods = {"GET",   "HEAD", "OPTIONS",
                                                        "TRACE", "PUT",  "DELETE"};
  return std::find(kMethods.begin(), kMethods.end(), method) != kMethods.end();
}

AnswerForm FormOf(const RequestHead& head) {
  return {.json = WantsJson(head.fields),
          .head = head.method == "HEAD",
          .http10 = head.http10,
          .keep_alive = head.keep_alive};
}

// The one value of a field; bad_request if it is there twice.
Status TakeOnce(const Field& field, std::string_view& value) {
  if (!value.empty()) {
    return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
                 absl::StrCat(std::string(field.name), " is given twice; send it once"));
  }
  value = field.value;
  return absl::OkStatus();
}

}  // namespace

Session::Session(LoopContext& loop, Accepted accepted)
    : loop_(loop),
      stream_(std::make_shared<Stream>(loop.poller, std::move(accepted.fd))),
      kind_(accepted.kind),
      local_address_(accepted.local_address),
      local_port_(accepted.local_port),
      peer_(std::move(accepted.peer)),
      share_(std::move(accepted.share)),
      begin_(loop.clock.Now()),
      deadline_(loop.clock.Now() + loop.limits.header_timeout) {
  loop_.sessions.insert(this);
  loop_.connections.fetch_add(1, std::memory_order_relaxed);
}

Session::~Session() {
  loop_.sessions.erase(this);
  loop_.connections.fetch_sub(1, std::memory_order_release);
}

void Session::Start() {
  asio::co_spawn(loop_.executor, Run(),
                 asio::bind_cancellation_slot(
                     cancel_.slot(), [self = shared_from_this()](std::exception_ptr failure) {
                       // The coroutine that calls this still refers to the signal.
                       asio::post(self->loop_.executor, [self] {});
                       if (!failure) return;
                       try {
                         std::rethrow_exception(failure);
                       } catch (const boost::system::system_error& error) {
                         if (error.code() != asio::error::operation_aborted) {
                           spdlog::error("a connection of {} ended: {}", self->peer_, error.what());
                         }
                       } catch (const std::exception& error) {
                         spdlog::error("a connection of {} ended: {}", self->peer_, error.what());
                       }
                     }));
}

void Session::Sweep(MonoTime now) {
  if (served_now_ != nullptr) {
    if (!served_now_->Sweep(now)) Abort();
  } else if (now >= deadline_ && begun_ && !late_) {
    late_ = true;
    stream_->Cancel();
  } else if (now >= deadline_) {
    Abort();
  }
}

void Session::CloseIfIdle() {
  if (served_now_ != nullptr) {
    if (served_now_->IsIdle(loop_.clock.Now())) Abort();
    return;
  }
  if (!stream_->in().empty() || stream_->Readable()) return;
  if (!served_ && loop_.clock.Now() - begin_ < kFirstRequestGrace) return;
  Abort();
}

awaitable<void> Session::Run() {
  if (kind_ == ListenerKind::kSteered) {
    if (StatusOr<Route> route = FindConnectionRoute();
        route.ok() && route->protocol == Protocol::kTcp) {
      co_return co_await PassThrough();
    }
  }
  After after = After::kKeepAlive;
  while (after == After::kKeepAlive) {
    StatusOr<size_t> head_size = co_await ReadHead();
    if (!head_size.ok()) {
      after = co_await Refuse(head_size.status());
    } else if (*head_size == 0) {
      co_return;
    } else {
      after = co_await Serve(*head_size);
      served_ = true;
    }
    deadline_ = loop_.clock.Now() + loop_.limits.idle_timeout;
  }
  if (after == After::kLinger) co_await Linger();
}

// The size of the head that now stands in the buffer; 0 if the client closed instead.
awaitable<StatusOr<size_t>> Session::ReadHead() {
  Buffer& in = stream_->in();
  in.Shrink();
  begun_ = false;
  for (HeadScanner scanner(LineEnds::kStrict);;) {
    // An empty line before a request is some old clients' end of the last body.
    while (!begun_ && in.view().starts_with("\r\n")) in.Consume(2);
    if (!in.empty() && in.view() != "\r") {
      if (!begun_) deadline_ = loop_.clock.Now() + loop_.limits.header_timeout;
      begun_ = true;
      StatusOr<size_t> size = scanner.Scan(in.view());
      if (!size.ok() || *size > 0) co_return size;
    }
    if (co_await stream_->Read() > 0) continue;
    if (!late_) co_return 0;
    co_return Error(absl::StatusCode::kDeadlineExceeded, code::kBadRequest,
                    "the request's header did not come in time (header_timeout)");
  }
}

// An address says where a connection goes, whatever is spoken on it.
StatusOr<Route> Session::FindConnectionRoute() {
  RequestTarget target;
  target.local_address = local_address_;
  target.local_port = local_port_;
  target.by_address = true;
  target.connection = true;
  return ResolveRoute(loop_.routes.Newest(), target);
}

awaitable<void> Session::PassThrough() {
  Passthrough connection(loop_, *stream_, peer_);
  served_now_ = &connection;
  const auto served = absl::MakeCleanup([this] { served_now_ = nullptr; });
  StatusOr<Route> route = FindConnectionRoute();
  if (!route.ok()) {
    connection.Fail(route.status());
    co_return;
  }
  co_await connection.Run(*std::move(route));
}

awaitable<After> Session::Serve(size_t head_size) {
  if (stream_->in().view().starts_with(kHttp2Preface)) {
    if (kind_ != ListenerKind::kSteered) co_return co_await Refuse(Http2ByName());
    co_await PassThrough();
    co_return After::kClose;
  }
  StatusOr<RequestHead> head = ParseRequestHead(stream_->in().view().substr(0, head_size));
  if (!head.ok()) co_return co_await Refuse(head.status());
  StatusOr<Route> route = FindRoute(*head);
  Exchange exchange(loop_, stream_, TakeRequest(*head, head_size));
  served_now_ = &exchange;
  const auto served = absl::MakeCleanup([this] { served_now_ = nullptr; });
  if (!route.ok()) co_return co_await exchange.Fail(route.status());
  co_return co_await exchange.Run(*std::move(route));
}

// Answers what can't be understood: where the next request would begin is not known.
awaitable<After> Session::Refuse(Status error) {
  loop_.refusals.Add(
      {}, error, [this] { return absl::StrCat("a request from ", peer_); }, loop_.clock.Now());
  std::string answer = ErrorAnswer(error, {});
  if (loop_.access_log.enabled()) {
    const InstanceName nowhere;
    const std::string code = ErrorCodeOf(error);
    loop_.access_log.Add({.at = loop_.clock.Wall(),
                          .client = peer_,
                          .instance = &nowhere,
                          .status = HttpStatusOf(error),
                          .error = code});
  }
  WriteBatch batch;
  batch.Add(answer);
  const bool written = co_await stream_->Write(std::move(batch));
  co_return written ? After::kLinger : After::kClose;
}

// Closing with unread bytes resets the connection, and the client may lose our answer: reads what
// it still sends, for a while.
awaitable<void> Session::Linger() {
  deadline_ = loop_.clock.Now() + loop_.limits.linger;
  stream_->ShutdownWrite();
  do {
    stream_->in().Consume(stream_->in().size());
  } while (co_await stream_->Read() > 0);
}

StatusOr<Route> Session::FindRoute(const RequestHead& head) {
  RequestTarget target;
  target.local_address = local_address_;
  target.local_port = local_port_;
  target.by_address = kind_ == ListenerKind::kSteered;
  target.host = head.host;
  if (kind_ != ListenerKind::kUntrusted) {
    for (const Field& field : head.fields) {
      if (field.id == FieldId::kCtrInstance) {
        CTR_RETURN_IF_ERROR(TakeOnce(field, target.ctr_instance));
      } else if (field.id == FieldId::kCtrClass) {
        CTR_RETURN_IF_ERROR(TakeOnce(field, target.ctr_class));
      } else if (field.id == FieldId::kCtrPort) {
        CTR_RETURN_IF_ERROR(TakeOnce(field, target.ctr_port));
      }
    }
  }
  return ResolveRoute(loop_.routes.Newest(), target);
}

// Writes the request as it goes on, and takes it off the buffer: the head, and a body of known
// length that is there already.
Request Session::TakeRequest(const RequestHead& head, size_t head_size) {
  Request request;
  request.arrived = loop_.clock.Now();
  request.peer = peer_;
  request.received_before = stream_->received() - stream_->in().size();
  request.sent_before = stream_->sent();
  if (loop_.access_log.enabled()) {
    request.line = absl::StrCat(std::string(head.method), " ", std::string(head.target));
    request.host = head.host;
  }
  request.message.reserve(head_size + 256);
  std::string own_host;
  if (head.host.empty()) own_host = absl::StrCat(FormatIpv4(local_address_), ":", local_port_);
  Buffer& in = stream_->in();
  const bool all_there =
      head.body.kind == BodyKind::kNone ||
      (head.body.kind == BodyKind::kFixed && head.body.length <= in.size() - head_size);
  request.upgrade = all_there && head.upgrade;
  AppendUpstreamRequest(request.message, head,
                        {.client_address = peer_,
                         .host_if_missing = own_host,
                         .trusted = kind_ != ListenerKind::kUntrusted,
                         .body_waits = !all_there,
                         .upgrade = request.upgrade});
  request.answer_to = head.method == "HEAD" ? AnswerTo::kHead : AnswerTo::kOther;
  request.idempotent = IsIdempotent(head.method);
  request.expects_continue = head.expects_continue && !all_there;
  request.form = FormOf(head);
  in.Consume(head_size);
  if (all_there) {
    request.message.append(in.view().substr(0, head.body.length));
    in.Consume(head.body.length);
  } else {
    request.rest = head.body;
  }
  return request;
}

}  // namespace ctr
