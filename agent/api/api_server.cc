#include "agent/api/api_server.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include "absl/strings/str_cat.h"
#include "agent/api/user_names.h"
#include "agent/base/descriptors.h"
#include "agent/base/unix_socket.h"
#include "agent/base/work.h"
#include "agent/rpc/callers.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr int kBacklog = 1024;
constexpr int kMaxMessageBytes = 64 << 20;  // a trace of a million rows has 47 MB
constexpr Duration kExhaustedPause = std::chrono::milliseconds(100);
// Descriptor numbers of connections go round in this range: a call of one that has just been closed
// is not taken for one of its successor with the same number.
constexpr int kFirstNumber = 512;
constexpr int kNumbers = 1024;
constexpr char kKeptName[] = "api";

// Whether who connects to `path` reaches this listener: both name the process that began to listen.
// The file may have been removed meanwhile, or be another agent's.
Status CheckIsAt(int listener, const sockaddr_un& address) {
  CTR_RETURN_IF_ERROR(CheckListening(listener, AF_UNIX));
  UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    // A full backlog is one that somebody listens on.
    if (errno != EAGAIN) return ErrnoError(errno, "nobody can connect to it");
    return absl::OkStatus();
  }
  CTR_ASSIGN_OR_RETURN(ucred ours, UnixPeerOf(listener));
  CTR_ASSIGN_OR_RETURN(ucred reached, UnixPeerOf(probe.get()));
  if (ours.pid == reached.pid) return absl::OkStatus();
  return absl::InvalidArgumentError("another socket has taken its place");
}

StatusOr<UniqueFd> Bind(const std::string& path) {
  CTR_ASSIGN_OR_RETURN(UniqueFd fd, BindUnixSocket(path, SOCK_STREAM, 0117));
  const group* ctr_group = ::getgrnam("ctr");
  if (ctr_group == nullptr) {
    spdlog::warn("there is no group \"ctr\": only root can use {}", path);
  } else if (::chown(path.c_str(), 0, ctr_group->gr_gid) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot give ", path, " to the group ctr"));
  }
  if (::listen(fd.get(), kBacklog) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot listen on ", path));
  }
  return fd;
}

// The listener of an earlier process, or a new one.
StatusOr<UniqueFd> OpenListener(const std::string& path, FdStore& store) {
  CTR_ASSIGN_OR_RETURN(const sockaddr_un address, UnixAddress(path));
  if (UniqueFd kept = store.Take(kKeptName); kept.valid()) {
    Status usable = CheckIsAt(kept.get(), address);
    if (usable.ok() && ::fcntl(kept.get(), F_SETFL, O_NONBLOCK) == 0) return kept;
    spdlog::warn("\"{}\" was kept, but {}", kKeptName, std::string(usable.message()));
    store.Remove(kKeptName);
  }
  CTR_ASSIGN_OR_RETURN(UniqueFd fd, Bind(path));
  store.Keep(kKeptName, fd.get());
  return fd;
}

}  // namespace

// Shared with the coroutines that accept.
struct ApiServer::State {
  State(std::unique_ptr<grpc::Server> grpc_server, UniqueFd listening,
        asio::any_io_executor control_executor, const asio::any_io_executor& work)
      : server(std::move(grpc_server)),
        listener(std::move(listening)),
        control(std::move(control_executor)),
        users(work) {}

  const std::unique_ptr<grpc::Server> server;
  const UniqueFd listener;
  const asio::any_io_executor control;
  UserNames users;
  int next_number = 0;
  bool accepting = true;
  std::atomic<bool> shut_down = false;
  asio::cancellation_signal stop;
};

StatusOr<std::unique_ptr<ApiServer>> ApiServer::Listen(const std::string& socket_path,
                                                       grpc::Service& service, FdStore& store,
                                                       asio::any_io_executor control,
                                                       asio::any_io_executor work) {
  CTR_ASSIGN_OR_RETURN(UniqueFd listener, OpenListener(socket_path, store));
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.RegisterService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server) return absl::InternalError("cannot start the API's server");
  auto state = std::make_shared<State>(std::move(server), std::move(listener), control, work);
  BeginAccepting(state);
  return std::unique_ptr<ApiServer>(new ApiServer(std::move(state)));
}

ApiServer::ApiServer(std::shared_ptr<State> state) : state_(std::move(state)) {}

ApiServer::~ApiServer() { StopAccepting(); }

void ApiServer::BeginAccepting(const std::shared_ptr<State>& state) {
  asio::co_spawn(state->control, Accept(state),
                 asio::bind_cancellation_slot(state->stop.slot(), [state](std::exception_ptr) {}));
}

void ApiServer::ResumeAccepting() {
  state_->accepting = true;
  BeginAccepting(state_);
}

void ApiServer::StopAccepting() {
  state_->accepting = false;
  state_->stop.emit(asio::cancellation_type::terminal);
}

awaitable<void> ApiServer::Accept(std::shared_ptr<State> state) {
  // A descriptor of its own, as Asio closes what it waits on.
  asio::posix::stream_descriptor waiter(state->control,
                                        ::fcntl(state->listener.get(), F_DUPFD_CLOEXEC, 3));
  asio::steady_timer pause(state->control);
  bool exhausted = false;
  while (state->accepting) {
    UniqueFd connection(OpenDescriptor([&state] {
      return ::accept4(state->listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    }));
    if (connection.valid()) {
      exhausted = false;
      asio::co_spawn(state->control, Admit(state, std::move(connection)), asio::detached);
      continue;
    }
    if (errno == EAGAIN) {
      co_await waiter.async_wait(asio::posix::stream_descriptor::wait_read, use_awaitable);
    } else if (errno != ECONNABORTED && errno != EINTR) {
      if (!std::exchange(exhausted, true)) {
        spdlog::warn("cannot accept on the API's socket: {}; callers wait", std::strerror(errno));
      }
      pause.expires_after(kExhaustedPause);
      co_await pause.async_wait(use_awaitable);
    }
  }
}

// Gives the connection to gRPC, and its calls the name of who is there: "root (pid 4711)".
awaitable<void> ApiServer::Admit(std::shared_ptr<State> state, UniqueFd connection) {
  StatusOr<ucred> peer = UnixPeerOf(connection.get());
  std::string caller;
  if (peer.ok()) {
    const std::string user = co_await state->users.NameOf(peer->uid);
    caller = absl::StrCat(user, " (pid ", peer->pid, ")");
  }
  if (state->shut_down) co_return;
  const int least = kFirstNumber + state->next_number++ % kNumbers;
  const int moved = ::fcntl(connection.get(), F_DUPFD_CLOEXEC, least);
  if (moved >= 0) connection = UniqueFd(moved);  // else the limit is lower than that
  rpc::Callers::Of(state->control).Set(connection.get(), std::move(caller));
  grpc::AddInsecureChannelFromFd(state->server.get(), connection.Release());
}

void ApiServer::Shutdown(Duration patience) {
  state_->shut_down = true;
  state_->server->Shutdown(
      std::chrono::system_clock::now() +
      std::chrono::duration_cast<std::chrono::system_clock::duration>(patience));
}

}  // namespace ctr
