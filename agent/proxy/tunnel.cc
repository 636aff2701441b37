#include "agent/proxy/tunnel.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace ctr {
namespace {

// How exactly the last activity is known.
constexpr Duration kTouchInterval = std::chrono::milliseconds(20);
constexpr Duration kQuiet = std::chrono::seconds(1);
// Reads of one direction before others on the loop have their turn.
constexpr int kTunnelReadsInARow = 16;

}  // namespace

Tunnel::Tunnel(LoopContext& loop, Stream& client, const Approach& approach)
    : loop_(loop),
      slot_(approach.passage().slot()),
      endpoint_(approach.passage().endpoint()),
      up_{client, approach.upstream()->stream},
      down_{approach.upstream()->stream, client},
      done_(loop.executor, MonoTime::max()) {
  slot_->BeginTunnel();
}

Tunnel::~Tunnel() {
  up_.from.socket().SetWatcher(nullptr);
  up_.to.socket().SetWatcher(nullptr);
  slot_->EndTunnel();
}

awaitable<void> Tunnel::Run() {
  for (Flow* flow : {&up_, &down_}) {
    flow->rest = flow->from.in().view();
    flow->from.in().Clear();
    flow->from.socket().SetWatcher(this);
  }
  Touch();
  OnReady();
  if (over_) co_return;
  ErrorCode ignored;
  co_await done_.async_wait(asio::redirect_error(use_awaitable, ignored));
}

bool Tunnel::Sweep() { return slot_->endpoint() == endpoint_; }

bool Tunnel::IsIdle(MonoTime now) const {
  return !asked_ && now - touched_ >= kQuiet && up_.rest.empty() && down_.rest.empty();
}

void Tunnel::OnReady() {
  if (over_) return;
  const Moved up = Move(up_);
  const Moved down = up == Moved::kBroken ? Moved::kBroken : Move(down_);
  if (down == Moved::kBroken) {
    up_.from.CloseWithReset();
    up_.to.CloseWithReset();
    End();
  } else if (up_.ended && down_.ended) {
    End();
  } else if ((up == Moved::kMore || down == Moved::kMore) && !std::exchange(again_, true)) {
    loop_.poller.Post([weak = weak_from_this()] {
      if (std::shared_ptr<Tunnel> self = weak.lock()) {
        self->again_ = false;
        self->OnReady();
      }
    });
  }
}

// Moves what can be moved at once.
Tunnel::Moved Tunnel::Move(Flow& flow) {
  if (flow.ended) return Moved::kWaits;
  PolledSocket& socket = flow.from.socket();
  for (int reads = 0;; ++reads) {
    if (!flow.rest.empty()) {
      if (!SendRest(flow)) return Moved::kBroken;
      if (!flow.rest.empty()) return Moved::kWaits;
    }
    if (flow.read_all) {
      flow.to.ShutdownWrite();
      flow.ended = true;
      return Moved::kWaits;
    }
    if (!socket.ready(PolledSocket::kRead)) return Moved::kWaits;
    if (reads == kTunnelReadsInARow) return Moved::kMore;
    const std::span<char> room = loop_.scratch();
    const ssize_t count = ::recv(socket.fd(), room.data(), room.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno != EAGAIN) return Moved::kBroken;
    if (count < 0) {
      socket.Blocked(PolledSocket::kRead);
      return Moved::kWaits;
    }
    flow.read_all = count == 0;
    if (static_cast<size_t>(count) < room.size()) socket.UsedUp(PolledSocket::kRead);
    if (count == 0) continue;
    flow.from.Count(static_cast<uint64_t>(count), 0);
    asked_ = &flow == &up_;
    Touch();
    if (!Send(flow, {room.data(), static_cast<size_t>(count)})) return Moved::kBroken;
  }
}

// What does not go at once is kept. False if nobody is there any more.
bool Tunnel::Send(Flow& flow, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent =
        ::send(flow.to.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) {
      flow.to.socket().Blocked(PolledSocket::kWrite);
      flow.rest.assign(bytes);
      return true;
    }
    flow.to.Count(0, static_cast<uint64_t>(sent));
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool Tunnel::SendRest(Flow& flow) {
  while (flow.rest_sent < flow.rest.size()) {
    const ssize_t sent = ::send(flow.to.fd(), flow.rest.data() + flow.rest_sent,
                                flow.rest.size() - flow.rest_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN;
    flow.rest_sent += static_cast<size_t>(sent);
    flow.to.Count(0, static_cast<uint64_t>(sent));
  }
  flow.rest = std::string();  // its memory, too
  flow.rest_sent = 0;
  return true;
}

void Tunnel::Touch() {
  const MonoTime now = loop_.clock.Now();
  if (now - touched_ < kTouchInterval) return;
  touched_ = now;
  slot_->TouchTunnel(now);
}

void Tunnel::End() {
  over_ = true;
  done_.cancel();
}

}  // namespace ctr
