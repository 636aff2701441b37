#include "agent/api/metrics_server.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/proxy/http_head.h"

namespace ctr {
namespace {

using asio::ip::tcp;

constexpr auto kPatience = std::chrono::seconds(5);  // for a scrape
constexpr int kMaxScrapes = 16;                      // at a time
constexpr int kScrapeBacklog = 16;
constexpr char kName[] = "metrics";  // in the FdStore

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

awaitable<void> Scrape(tcp::socket socket, Text text) {
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
  const auto scrapes = std::make_shared<int>(0);  // which may outlast this
  for (;;) {
    ErrorCode error;
    tcp::socket socket = co_await acceptor.async_accept(asio::redirect_error(use_awaitable, error));
    if (error == asio::error::operation_aborted) co_return;
    if (error || *scrapes >= kMaxScrapes) {
      asio::steady_timer pause(acceptor.get_executor(), std::chrono::milliseconds(100));
      co_await pause.async_wait(use_awaitable);
      continue;
    }
    ++*scrapes;
    asio::co_spawn(acceptor.get_executor(), Scrape(std::move(socket), text),
                   [scrapes](std::exception_ptr) { --*scrapes; });
  }
}

tcp::endpoint EndpointOf(int listener) {
  tcp::endpoint endpoint;
  socklen_t size = static_cast<socklen_t>(endpoint.capacity());
  ::getsockname(listener, endpoint.data(), &size);
  endpoint.resize(size);
  return endpoint;
}

bool ListensOn(int fd, const tcp::endpoint& wanted) {
  return CheckListening(fd, wanted.protocol().family()).ok() && EndpointOf(fd) == wanted;
}

}  // namespace

StatusOr<UniqueFd> ListenForMetrics(const std::string& address, uint16_t port, FdStore& store) {
  const tcp::endpoint endpoint(asio::ip::make_address(address), port);
  if (UniqueFd handed_over = store.Take(kName); handed_over.valid()) {
    if (ListensOn(handed_over.get(), endpoint)) {
      store.Lend(kName, handed_over.get());
      return handed_over;
    }
    store.Remove(kName);
  }
  UniqueFd fd(::socket(endpoint.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int reuse = 1;
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) != 0 ||
      ::bind(fd.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0 ||
      ::listen(fd.get(), kScrapeBacklog) != 0) {
    return Error(absl::StatusCode::kAlreadyExists, code::kInUse,
                 absl::StrCat("cannot serve metrics on ", address, ":", port, ": ",
                              std::strerror(errno), "; give another address in agent.toml"));
  }
  store.Lend(kName, fd.get());
  return fd;
}

void ServeMetrics(asio::any_io_executor executor, UniqueFd listener,
                  std::function<std::string()> text, asio::cancellation_slot stop) {
  const tcp::endpoint endpoint = EndpointOf(listener.get());
  tcp::acceptor acceptor(executor, endpoint.protocol(), listener.Release());
  asio::co_spawn(executor, Accept(std::move(acceptor), std::move(text)),
                 asio::bind_cancellation_slot(stop, [](std::exception_ptr) {}));
}

}  // namespace ctr
