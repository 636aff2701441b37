#include "agent/proxy/client_watch.h"

namespace ctr {

bool ClientWatch::IsGone(Stream& client, Duration half_closed, Duration stall, MonoTime now) {
  const Stream::Peer peer = client.LookAtPeer();
  if (peer == Stream::Peer::kGone) return true;
  const bool closing = peer == Stream::Peer::kClosing && !client.reading();
  const bool doubtful = closing || client.blocked();
  if (doubtful != doubtful_ || client.sent() != sent_) progress_at_ = now;
  doubtful_ = doubtful;
  sent_ = client.sent();
  return doubtful && now - progress_at_ >= (client.blocked() ? stall : half_closed);
}

}  // namespace ctr
