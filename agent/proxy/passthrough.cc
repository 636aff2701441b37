#include "agent/proxy/passthrough.h"

#include "absl/strings/str_cat.h"

namespace ctr {

std::string Passthrough::Cause() const {
  return absl::StrCat("a connection from ", std::string(peer_));
}

awaitable<void> Passthrough::Run(Route route) {
  approach_.Begin(std::move(route));
  Status reached = co_await approach_.Reach({.pooled = false}, [this] { return Cause(); });
  if (!reached.ok()) {
    Fail(reached);
    co_return;
  }
  tunnel_ = std::make_shared<Tunnel>(loop_, client_, approach_);
  co_await tunnel_->Run();
  tunnel_.reset();
}

void Passthrough::Fail(const Status& error) {
  error_ = ErrorCodeOf(error);
  loop_.refusals.Add(approach_.name(), error, [this] { return Cause(); }, loop_.clock.Now());
  client_.CloseWithReset();
}

bool Passthrough::Sweep(MonoTime now) {
  if (tunnel_) return tunnel_->Sweep();
  return !watch_.IsGone(client_, loop_.limits.half_closed_held, loop_.limits.write_stall, now);
}

void Passthrough::Account() {
  if (Traffic* traffic = approach_.traffic()) {
    traffic->AddConnection(loop_.index, client_.received(), client_.sent());
  }
  if (!loop_.access_log.enabled()) return;
  loop_.access_log.Add({.at = loop_.clock.Wall(),
                        .client = peer_,
                        .instance = &approach_.name(),
                        .error = error_,
                        .bytes_in = client_.received(),
                        .bytes_out = client_.sent(),
                        .took = loop_.clock.Now() - begin_,
                        .wake = approach_.waited()});
}

}  // namespace ctr
