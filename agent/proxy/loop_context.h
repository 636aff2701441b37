#pragma once

#include <atomic>
#include <memory>
#include <random>
#include <span>

#include "absl/container/flat_hash_set.h"
#include "agent/base/clock.h"
#include "agent/proxy/access_log.h"
#include "agent/proxy/refusal_log.h"
#include "agent/proxy/route_table.h"
#include "agent/proxy/upstream.h"
#include "agent/proxy/waker.h"

namespace ctr {

class Session;

struct SessionLimits {
  Duration header_timeout = std::chrono::seconds(30);  // from a head's first byte, or the connect
  Duration idle_timeout = std::chrono::seconds(75);    // between requests
  Duration dial_timeout = std::chrono::seconds(5);
  Duration linger = std::chrono::seconds(5);  // for the client to read an answer to what it sends
  // A client that has closed its side may still read, or be gone: so long it is served on while
  // nothing is sent to it, before its request was handed on and after.
  Duration half_closed_held = std::chrono::seconds(2);
  Duration half_closed = std::chrono::seconds(30);
  // A client must send its body at so many bytes a second, over any 20 seconds in which the
  // instance would take more; 0: at any rate. And take some of the answer in that time.
  int64_t min_body_rate = 240;
  Duration body_window = std::chrono::seconds(20);
  Duration write_stall = std::chrono::seconds(60);
};

// What the connections of one data loop share. Owned by the loop, which outlives them; used on it.
struct LoopContext {
  LoopContext(asio::io_context& io, const RoutePublisher& routes, Waker& waker, Clock& clock,
              SessionLimits limits, size_t index, std::string access_log_path)
      : executor(io.get_executor()),
        poller(io),
        waker(waker),
        clock(clock),
        limits(limits),
        index(index),
        access_log(std::move(access_log_path)),
        routes(routes),
        refusals([this](Refusal refusal) { this->waker.Refused(std::move(refusal)); }) {}

  const asio::any_io_executor executor;
  Poller poller;
  Waker& waker;
  Clock& clock;
  const SessionLimits limits;
  const size_t index;  // of the loop
  AccessLog access_log;

  // Room for what is read and passed on before anything else runs. Of the loop, not of a
  // connection.
  std::span<char> scratch() {
    if (!scratch_) scratch_ = std::make_unique_for_overwrite<char[]>(kScratch);
    return {scratch_.get(), kScratch};
  }

  RouteReader routes;
  UpstreamPool upstreams;
  RefusalLog refusals;
  std::mt19937_64 random{std::random_device()()};
  absl::flat_hash_set<Session*> sessions;
  bool draining = false;  // every response closes its connection
  bool stopping = false;  // no connection begins

  // Any thread.
  std::atomic<size_t> connections{0};  // open ones
  std::atomic<size_t> wakes{0};        // calls of the waker that have not returned

 private:
  static constexpr size_t kScratch = 128 * 1024;
  std::unique_ptr<char[]> scratch_;
};

}  // namespace ctr
