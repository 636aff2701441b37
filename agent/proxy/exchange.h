#pragma once

#include <memory>
#include <optional>
#include <string>

#include "agent/proxy/approach.h"
#include "agent/proxy/client_watch.h"
#include "agent/proxy/error_answer.h"
#include "agent/proxy/http_rewrite.h"
#include "agent/proxy/loop_context.h"
#include "agent/proxy/tunnel.h"
#include "agent/proxy/upload.h"

namespace ctr {

// What is kept of a request once its head was read and written anew.
struct Request {
  std::string message;  // as it goes to the instance: the head, and the body if all of it was there
  Framing rest;         // of a body that is still to be read from the client; kNone: nothing is
  AnswerTo answer_to = AnswerTo::kOther;
  bool idempotent = false;
  bool expects_continue = false;  // and its body is not all there
  bool upgrade = false;           // to another protocol, which the instance may take up
  AnswerForm form;  // how to answer it ourselves; keep_alive says what the client wants
  MonoTime arrived;
  std::string_view peer;  // the client's address; the session's
  // Of the client's stream, before the request.
  uint64_t received_before = 0;
  uint64_t sent_before = 0;
  // For the access log, if there is one.
  std::string line = {};  // "GET /path"
  std::string host = {};
};

// What becomes of the client's connection.
enum class After {
  kKeepAlive,
  kClose,
  kLinger,  // the client may still be sending: let it read the answer first
};

// One request and its response: lets it into the instance, waking it first, sends it there and
// relays the answer. In flight at the instance (Passage) from the one to the other, however it
// ends. Owned by its session's coroutine.
class Exchange final : public Served {
 public:
  Exchange(LoopContext& loop, std::shared_ptr<Stream> client, Request request);
  ~Exchange();
  Exchange(const Exchange&) = delete;

  awaitable<After> Run(Route route);
  // Answers with an error of ours, which is recorded.
  awaitable<After> Fail(Status error);

  bool Sweep(MonoTime now) override;
  bool IsIdle(MonoTime now) const override { return tunnel_ && tunnel_->IsIdle(now); }

 private:
  std::string Cause() const;
  Stream& upstream() { return approach_.upstream()->stream; }
  awaitable<StatusOr<ResponseHead>> Ask();
  awaitable<void> SendRequest();
  awaitable<bool> RelayInterim(const ResponseHead& head);
  awaitable<StatusOr<ResponseHead>> ReadResponseHead();
  Status UpstreamGone() const;
  awaitable<After> Relay(ResponseHead head);
  awaitable<After> Switch(const ResponseHead& head);
  awaitable<bool> RelayBody(std::string head, Framing framing, BodyKind client_kind);
  After Finish(bool complete, bool upstream_keep_alive, bool client_keep_alive);
  After CloseOrLinger() const;
  void LookAtUpload(MonoTime now);
  void LookAtAnswer(MonoTime now);
  void Account();
  bool uploading() const { return upload_ && upload_->state() == Upload::State::kRunning; }

  LoopContext& loop_;
  const std::shared_ptr<Stream> client_;
  Request request_;

  Approach approach_;
  bool answered_ = false;    // a byte of the response has come
  bool responding_ = false;  // a response, be it ours, goes to the client
  bool responded_ = false;   // all of it went, and the request's rest is waited for
  int interims_ = 0;
  size_t head_size_ = 0;  // of the response, in upstream_'s buffer
  std::shared_ptr<Upload> upload_;
  std::shared_ptr<Tunnel> tunnel_;
  Timings timings_;
  int status_ = 0;     // that the client got, or gets; 0: it has gone before
  std::string error_;  // Ctr-Error's
  bool switched_ = false;
  std::optional<MonoTime> asked_at_;  // since when the instance has had to answer
  bool timed_out_ = false;

  // What Sweep saw before.
  ClientWatch watch_;
  MonoTime window_begin_;  // of the body's rate
  uint64_t window_received_ = 0;
};

}  // namespace ctr
