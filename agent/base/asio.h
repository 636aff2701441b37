// Boost.Asio, precompiled: the one place that includes it for all of the agent.
#pragma once

#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>

namespace ctr {

namespace asio = boost::asio;
using asio::awaitable;
using asio::use_awaitable;
using ErrorCode = boost::system::error_code;

}  // namespace ctr
