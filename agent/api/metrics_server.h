#pragma once

#include <functional>
#include <string>

#include "agent/base/asio.h"
#include "agent/base/error.h"

namespace ctr {

// Serves GET /metrics on `address` (an IP) and `port` from now on, as long as `executor` runs: each
// answer is what `text` says then, on that executor, which must be the control loop's. IN_USE if
// another server has the address.
Status ServeMetrics(asio::any_io_executor executor, const std::string& address, uint16_t port,
                    std::function<std::string()> text);

}  // namespace ctr
