#pragma once

#include <functional>
#include <string>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/base/fd_store.h"

namespace ctr {

// A listener on `address` (an IP) and `port`: that of an agent that hands over, or a new one, which
// `store` lends the next. IN_USE if another server has the address.
StatusOr<UniqueFd> ListenForMetrics(const std::string& address, uint16_t port, FdStore& store);

// Serves GET /metrics on it from now on, until `stop` or as long as `executor` runs: each answer is
// what `text` says then, on that executor, which must be the control loop's.
void ServeMetrics(asio::any_io_executor executor, UniqueFd listener,
                  std::function<std::string()> text, asio::cancellation_slot stop);

}  // namespace ctr
