#include "agent/api/metrics_server.h"

#include <fcntl.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/proxy/http_head.h"

namespace ctr {
namespace {

using asio::ip::tcp;

constexpr auto kPatience = std::chrono::seconds(5);  // for a scrape
constexpr int kMaxScrapes = 16;                      // at a time

using Text = std::function<std::string()>;

std::string Answer(std::string_view bytes, const Text& text) {
  StatusOr<RequestHead> head = ParseRequestHead(bytes);
  std::string status = "200 OK";
  std::string body;
  if (!head.ok()) {
    status = "400 Bad Request";
    body = absl::StrCat(head.status().message(), "\n");
  } else if (head->target.substr(0, head->target.find('?')) != "/metrics") {
    status = "404 Not Found";
    body = "there is /metrics alone\n";
  } else if (head->method != "GET" && head->method != "HEAD") {
    status = "405 Method Not Allowed";
    body = "GET it\n";
  } else {
    body = text();
  }
  std::string answer =
      absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Type: text/plain; version=0.0.4\r\n",
                   "Content-Length: ", body.size(), "\r\nConnection: close\r\n\r\n");
  if (!head.ok() || head->method != "HEAD") answer += body;
  return answer;
}

awaitable<void> Scrape(tcp::socket socket, const Text& text) {
  asio::steady_timer timer(socket.get_executor(), kPatience);
  timer.async_wait([&socket](ErrorCode error) {
    ErrorCode ignored;
    if (!error) socket.close(ignored);
  });
  std::string bytes;
  ErrorCode error;
  HeadScanner scanner(LineEnds::kStrict);
  StatusOr<size_t> size = 0;
  while (!error && size.ok() && *size == 0) {
    char piece[4096];
    const size_t count = co_await socket.async_read_some(
        asio::buffer(piece), asio::redirect_error(use_awaitable, error));
    bytes.append(piece, count);
    size = scanner.Scan(bytes);
  }
  if (error) co_return;
  const std::string answer = Answer(std::string_view(bytes).substr(0, size.value_or(0)), text);
  co_await asio::async_write(socket, asio::buffer(answer),
                             asio::redirect_error(use_awaitable, error));
  socket.shutdown(tcp::socket::shutdown_both, error);
  timer.cancel();
}

awaitable<void> Accept(tcp::acceptor acceptor, Text text) {
  int scrapes = 0;
  for (;;) {
    ErrorCode error;
    tcp::socket socket = co_await acceptor.async_accept(asio::redirect_error(use_awaitable, error));
    if (error || scrapes >= kMaxScrapes) {
      asio::steady_timer pause(acceptor.get_executor(), std::chrono::milliseconds(100));
      co_await pause.async_wait(use_awaitable);
      continue;
    }
    ++scrapes;
    asio::co_spawn(acceptor.get_executor(), Scrape(std::move(socket), text),
                   [&scrapes](std::exception_ptr) { --scrapes; });
  }
}

}  // namespace

Status ServeMetrics(asio::any_io_executor executor, const std::string& address, uint16_t port,
                    std::function<std::string()> text) {
  const tcp::endpoint endpoint(asio::ip::make_address(address), port);
  tcp::acceptor acceptor(executor);
  ErrorCode error;
  acceptor.open(endpoint.protocol(), error);
  // Asio makes no socket close-on-exec.
  if (!error) ::fcntl(acceptor.native_handle(), F_SETFD, FD_CLOEXEC);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(16, error);
  if (error) {
    return Error(absl::StatusCode::kAlreadyExists, code::kInUse,
                 absl::StrCat("cannot serve metrics on ", address, ":", port, ": ", error.message(),
                              "; give another address in agent.toml"));
  }
  asio::co_spawn(executor, Accept(std::move(acceptor), std::move(text)), asio::detached);
  return absl::OkStatus();
}

}  // namespace ctr
