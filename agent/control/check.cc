#include "agent/control/check.h"

#include <array>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/duration.h"
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

// "GET :8080/healthz", as messages name the check.
std::string NameOf(const ReadinessConfig& readiness) {
  switch (readiness.check) {
    case ReadinessConfig::Check::kHttp:
      return absl::StrCat("GET :", readiness.port, readiness.http_path);
    case ReadinessConfig::Check::kExec:
      return absl::StrJoin(readiness.exec, " ");
    default:
      return absl::StrCat("a connection to port ", readiness.port);
  }
}

CheckOutcome Failed(const CheckTarget& target, std::string_view how) {
  return {Result::kFailed, absl::StrCat(NameOf(target.readiness), std::string(how))};
}
CheckOutcome Failed(const CheckTarget& target, const ErrorCode& error) {
  return Failed(target, ": " + error.message());
}
CheckOutcome Failed(const CheckTarget& target, const Status& status) {
  return Failed(target, absl::StrCat(": ", status.message()));
}

awaitable<CheckOutcome> CheckTcp(CheckTarget target) {
  StatusOr<Socket> socket = OpenSocket(co_await asio::this_coro::executor, target);
  if (!socket.ok()) co_return Failed(target, socket.status());
  ErrorCode error;
  co_await socket->async_connect(EndpointOf(target), asio::redirect_error(use_awaitable, error));
  if (error) co_return Failed(target, error);
  co_return CheckOutcome{Result::kPassed};
}

// Of "HTTP/1.1 204 …"; 0 of anything else.
int HttpStatusIn(std::string_view line) {
  int status = 0;
  if (!line.starts_with("HTTP/1.") || line.size() < 12) return 0;
  const std::string_view code = line.substr(9, 3);
  return absl::SimpleAtoi(absl::string_view(code.data(), code.size()), &status) ? status : 0;
}

awaitable<CheckOutcome> CheckHttp(CheckTarget target) {
  StatusOr<Socket> socket = OpenSocket(co_await asio::this_coro::executor, target);
  if (!socket.ok()) co_return Failed(target, socket.status());
  ErrorCode error;
  const auto token = [&error] { return asio::redirect_error(use_awaitable, error); };
  co_await socket->async_connect(EndpointOf(target), token());
  if (error) co_return Failed(target, error);
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
  const int status = HttpStatusIn({answer.data(), size});
  if (status >= 200 && status < 400) co_return CheckOutcome{Result::kPassed};
  co_return Failed(target, status != 0 ? absl::StrCat(" answered ", status)
                                       : std::string(" was not answered in HTTP"));
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

awaitable<CheckOutcome> CheckExec(Runtime& runtime, CheckTarget target) {
  StatusOr<std::unique_ptr<ExecProcess>> process =
      co_await runtime.Exec(target.container_id, {.argv = target.readiness.exec});
  if (!process.ok()) co_return Failed(target, process.status());
  ExecStreams streams = (*process)->TakeStreams();
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  asio::co_spawn(executor, Discard(std::move(streams.output)), asio::detached);
  asio::co_spawn(executor, Discard(std::move(streams.error)), asio::detached);
  StatusOr<int> code = co_await (*process)->WaitExit();
  if (!code.ok()) co_return Failed(target, code.status());
  if (*code != 0) co_return Failed(target, absl::StrCat(" ended with status ", *code));
  co_return CheckOutcome{Result::kPassed};
}

awaitable<CheckOutcome> MakeCheck(Runtime& runtime, CheckTarget target) {
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
  co_return CheckOutcome{Result::kPassed};
}

}  // namespace

awaitable<CheckOutcome> RunCheck(Clock& clock, Runtime& runtime, CheckTarget target) {
  const ReadinessConfig readiness = target.readiness;
  const MonoTime deadline = clock.Now() + readiness.timeout;
  auto result = co_await (MakeCheck(runtime, std::move(target)) || clock.SleepUntil(deadline));
  if (result.index() == 0) co_return std::get<0>(std::move(result));
  co_return CheckOutcome{Result::kTimedOut, absl::StrCat(NameOf(readiness), " took longer than ",
                                                         FormatDuration(readiness.timeout))};
}

}  // namespace ctr
