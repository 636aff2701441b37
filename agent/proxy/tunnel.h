#pragma once

#include <memory>
#include <string>

#include "agent/proxy/approach.h"

namespace ctr {

// Bytes both ways between a client and an instance, until both have ended: the end of one direction
// is passed on, and the other goes on; a reset ends both. While nothing moves it holds no buffer.
// Home: the data loop of its streams, which outlive it.
class Tunnel final : public SocketWatcher, public std::enable_shared_from_this<Tunnel> {
 public:
  // `approach` has reached the instance, and does not leave it before the tunnel is gone.
  Tunnel(LoopContext& loop, Stream& client, const Approach& approach);
  ~Tunnel();
  Tunnel(const Tunnel&) = delete;

  // Once: moves bytes until the end. What was read into the streams' buffers goes first.
  awaitable<void> Run();

  // Now and then: false if the instance's start has ended, and the tunnel is to be ended, too.
  bool Sweep();

  // Whether it has been quiet for a second, and the instance had the last word: what the client
  // said last may still be answered.
  bool IsIdle(MonoTime now) const;

 private:
  // One direction.
  struct Flow {
    Stream& from;
    Stream& to;
    std::string rest = {};  // that `to` did not take
    size_t rest_sent = 0;
    bool read_all = false;  // `from` has ended
    bool ended = false;     // and `to` was told
  };
  enum class Moved { kWaits, kMore, kBroken };

  void OnReady() override;
  Moved Move(Flow& flow);
  bool Send(Flow& flow, std::string_view bytes);
  bool SendRest(Flow& flow);
  void Touch();
  void End();

  LoopContext& loop_;
  const std::shared_ptr<Slot> slot_;
  const std::shared_ptr<const Endpoint> endpoint_;
  Flow up_;
  Flow down_;
  MonoTime touched_;
  bool asked_ = false;  // the last bytes were the client's
  bool over_ = false;
  bool again_ = false;       // OnReady is posted
  asio::steady_timer done_;  // never expires: cancelled at the end
};

}  // namespace ctr
