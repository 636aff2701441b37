#include "agent/control/check.h"

#include <array>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/proxy/upstream.h"

namespace ctr {
namespace {

using asio::experimental::awaitable_operators::operator||;
using Result = policy::Check::Result;
using Socket = asio::ip::tcp::socket;

StatusOr<Socket> OpenSocket(const asio::any_io_executor& executor, const CheckTarget& target) {
  if (!target.endpoint.netns) return absl::UnavailableError("it does not run");
  CTR_ASSIGN_OR_RETURN(UniqueFd fd, OpenUpstreamSocket(target.endpoint, target.readiness.port));
  Socket socket(executor);
  socket.assign(asio::ip::tcp::v4(), fd.Release());
  return socket;
}

asio::ip::tcp::endpoint EndpointOf(const CheckTarget& target) {
  const sockaddr_in address = UpstreamAddress(target.endpoint, target.readiness.port);
  return {asio::ip::address_v4(ntohl(address.sin_addr.s_addr)), target.readiness.port};
}

awaitable<Result> CheckTcp(CheckTarget target) {
  StatusOr<Socket> socket = OpenSocket(co_await asio::this_coro::executor, target);
  if (!socket.ok()) co_return Result::kFailed;
  ErrorCode error;
  co_await socket->async_connect(EndpointOf(target), asio::redirect_error(use_awaitable, error));
  co_return error ? Result::kFailed : Result::kPassed;
}

// "HTTP/1.1 204 …": 2xx and 3xx are passed.
bool IsGood(std::string_view line) {
  int status = 0;
  if (!line.starts_with("HTTP/1.") || line.size() < 12) return false;
  const std::string_view code = line.substr(9, 3);
  return absl::SimpleAtoi(absl::string_view(code.data(), code.size()), &status) && status >= 200 &&
         status < 400;
}

awaitable<Result> CheckHttp(CheckTarget target) {
  StatusOr<Socket> socket = OpenSocket(co_await asio::this_coro::executor, target);
  if (!socket.ok()) co_return Result::kFailed;
  ErrorCode error;
  const auto token = [&error] { return asio::redirect_error(use_awaitable, error); };
  co_await socket->async_connect(EndpointOf(target), token());
  if (error) co_return Result::kFailed;
  const std::string request = absl::StrCat("GET ", target.readiness.http_path,
                                           " HTTP/1.1\r\nHost: localhost\r\nUser-Agent: "
                                           "ctr-readiness\r\nConnection: close\r\n\r\n");
  co_await asio::async_write(*socket, asio::buffer(request), token());
  std::array<char, 512> answer{};
  size_t size = 0;
  while (!error && size < 12) {
    size += co_await socket->async_read_some(
        asio::buffer(answer.data() + size, answer.size() - size), token());
  }
  co_return IsGood({answer.data(), size}) ? Result::kPassed : Result::kFailed;
}

// What it prints is thrown away, but read: it must not wait for that.
awaitable<void> Discard(UniqueFd fd) {
  asio::posix::stream_descriptor stream(co_await asio::this_coro::executor, fd.Release());
  std::array<char, 4096> bytes;
  for (ErrorCode error; !error;) {
    co_await stream.async_read_some(asio::buffer(bytes),
                                    asio::redirect_error(use_awaitable, error));
  }
}

awaitable<Result> CheckExec(Runtime& runtime, CheckTarget target) {
  StatusOr<std::unique_ptr<ExecProcess>> process =
      co_await runtime.Exec(target.container_id, {.argv = target.readiness.exec});
  if (!process.ok()) co_return Result::kFailed;
  ExecStreams streams = (*process)->TakeStreams();
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  asio::co_spawn(executor, Discard(std::move(streams.output)), asio::detached);
  asio::co_spawn(executor, Discard(std::move(streams.error)), asio::detached);
  StatusOr<int> code = co_await (*process)->WaitExit();
  co_return code.ok() && *code == 0 ? Result::kPassed : Result::kFailed;
}

awaitable<Result> MakeCheck(Runtime& runtime, CheckTarget target) {
  switch (target.readiness.check) {
    case ReadinessConfig::Check::kHttp:
      co_return co_await CheckHttp(std::move(target));
    case ReadinessConfig::Check::kExec:
      co_return co_await CheckExec(runtime, std::move(target));
    case ReadinessConfig::Check::kTcp:
      co_return co_await CheckTcp(std::move(target));
    case ReadinessConfig::Check::kListening:
      break;
  }
  co_return Result::kPassed;
}

}  // namespace

awaitable<Result> RunCheck(Clock& clock, Runtime& runtime, CheckTarget target) {
  const MonoTime deadline = clock.Now() + target.readiness.timeout;
  auto result = co_await (MakeCheck(runtime, std::move(target)) || clock.SleepUntil(deadline));
  co_return result.index() == 0 ? std::get<0>(result) : Result::kTimedOut;
}

}  // namespace ctr
