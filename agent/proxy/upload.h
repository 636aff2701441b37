#pragma once

#include <memory>

#include "agent/proxy/http_body.h"
#include "agent/proxy/upstream.h"

namespace ctr {

// Sends a request's body to the instance while the response may already come. Home: the data loop
// of its streams. It ends by itself, or by Stop; whoever started it and drops it stops it.
class Upload : public std::enable_shared_from_this<Upload> {
 public:
  enum class State {
    kRunning,
    kDone,
    kStopped,
    kClientGone,      // before its body ended; the upstream connection is closed, too
    kMalformed,       // the body's framing is broken; likewise
    kUpstreamClosed,  // does not take more; it may have answered
  };

  Upload(std::shared_ptr<Stream> client, UpstreamPtr upstream, Framing framing);

  // Once.
  void Start();
  State state() const { return state_; }
  // Why it is kMalformed: bad_request.
  const Status& error() const { return error_; }

  // Ends it as kMalformed if it waits for the client, with this error.
  void GiveUp(Status error);

  // Returns when it has ended.
  awaitable<void> AwaitEnd();
  // Ends it now if it runs. Returns when it no longer touches its streams.
  awaitable<void> Stop();
  void Cancel() { cancel_.emit(asio::cancellation_type::terminal); }

 private:
  awaitable<void> Send();
  awaitable<State> SendBody();

  const std::shared_ptr<Stream> client_;
  const UpstreamPtr upstream_;
  const Framing framing_;

  State state_ = State::kRunning;
  Status error_;  // with kRunning: given up
  asio::cancellation_signal cancel_;
  asio::steady_timer ended_;  // never expires: cancelled at the end
};

}  // namespace ctr
