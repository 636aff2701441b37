#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <utility>

#include <grpc/support/log.h>
#include <grpcpp/create_channel_posix.h>

#include "absl/strings/str_cat.h"
#include "agent/base/duration.h"
#include "agent/base/fd.h"

namespace ctr::cli {
namespace {

constexpr char kUnreachable[] = "agent_unreachable";
constexpr char kErrorMetadata[] = "ctr-error";
constexpr char kHandedOver[] = "handed_over";
constexpr char kGrpcsOwnDeadlineText[] = "Deadline Exceeded";
constexpr int kMaxMetadataBytes = 1 << 20;
constexpr int kConnectSeconds = 10;

Status Unreachable(const std::string& socket_path, std::string_view why) {
  return Error(
      absl::StatusCode::kUnavailable, kUnreachable,
      absl::StrCat("cannot reach the agent at unix://", socket_path, ": ", std::string(why)));
}

std::string WhyNotConnected(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return "no such socket; start it: ctr-agent";
    case ECONNREFUSED:
      return "nothing listens on the socket; start it: ctr-agent";
    case EACCES:
    case EPERM:
      return "permission denied; run as root or join the group ctr";
    case EAGAIN:
      return "it accepts no connections; see the agent's log";
    default:
      return absl::StrCat(::strerror(error_number), "; is ctr-agent running?");
  }
}

// A connected socket is made here, not by gRPC: its errors are then the system's own, and gRPC's
// resolver and its waits between attempts have no part in it.
StatusOr<UniqueFd> ConnectSocket(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoError(errno, "cannot make a Unix socket");
  // A full backlog blocks connect(2), of an agent that hangs for ever.
  timeval patience = {.tv_sec = kConnectSeconds, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  ::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof(address.sun_path) - 1));
  int result;
  do {
    result = ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  } while (result < 0 && errno == EINTR);
  if (result < 0) return Unreachable(path, WhyNotConnected(errno));
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
  return fd;
}

// What gRPC logs about a lost connection is said by the call's status already.
void SilenceGrpc() {
  if (::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
}

}  // namespace

int ExitStatusOf(const Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
      return 2;
    case absl::StatusCode::kNotFound:
      return 3;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAlreadyExists:
      return 4;
    case absl::StatusCode::kUnavailable:
      return 5;
    case absl::StatusCode::kDeadlineExceeded:
      return 124;
    default:
      return 1;
  }
}

Client::Client(std::string socket_path, std::optional<Duration> timeout, std::unique_ptr<Stub> stub)
    : socket_path_(std::move(socket_path)),
      timeout_(timeout),
      connected_at_(std::chrono::system_clock::now()),
      stub_(std::move(stub)) {}

StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& socket_path,
                                                  std::optional<Duration> timeout) {
  SilenceGrpc();
  CTR_ASSIGN_OR_RETURN(std::unique_ptr<Stub> stub, MakeStub(socket_path));
  return std::unique_ptr<Client>(new Client(socket_path, timeout, std::move(stub)));
}

StatusOr<std::unique_ptr<Client::Stub>> Client::MakeStub(const std::string& socket_path) {
  CTR_ASSIGN_OR_RETURN(UniqueFd fd, ConnectSocket(socket_path));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  auto channel = grpc::CreateCustomInsecureChannelFromFd("localhost", fd.Release(), arguments);
  return std::make_unique<Stub>(std::move(channel));
}

bool Client::IsHandedOver(const grpc::ClientContext& context) {
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto name = metadata.find(kErrorMetadata);
  return name != metadata.end() && name->second == kHandedOver;
}

void Client::SetDeadline(grpc::ClientContext& context) const {
  if (!timeout_) return;
  context.set_deadline(connected_at_ + std::chrono::duration_cast<WallTime::duration>(*timeout_));
}

Status Client::StatusFrom(const grpc::Status& status, const grpc::ClientContext& context) const {
  if (status.ok()) return absl::OkStatus();
  auto code = static_cast<absl::StatusCode>(status.error_code());
  if (code == absl::StatusCode::kCancelled) {
    return Error(absl::StatusCode::kUnavailable, "agent_unreachable",
                 "the agent ended the call, as it does when it stops");
  }
  const auto& metadata = context.GetServerTrailingMetadata();
  if (auto name = metadata.find(kErrorMetadata); name != metadata.end()) {
    // The agent did answer: what it cannot reach itself is a failure, not an absent agent.
    if (code == absl::StatusCode::kUnavailable) code = absl::StatusCode::kInternal;
    return Error(code, std::string_view(name->second.data(), name->second.size()),
                 status.error_message());
  }
  switch (code) {
    case absl::StatusCode::kUnavailable:
      return Unreachable(socket_path_,
                         absl::StrCat("the connection was lost (", status.error_message(),
                                      "); is ctr-agent running?"));
    case absl::StatusCode::kDeadlineExceeded:
      if (status.error_message() != kGrpcsOwnDeadlineText)
        return Status(code, status.error_message());
      return Error(code, "timeout",
                   absl::StrCat("not done within ",
                                timeout_ ? FormatDuration(*timeout_) : "the time allowed",
                                "; give it longer with --timeout"));
    case absl::StatusCode::kUnimplemented:
      return absl::UnimplementedError("the agent does not know this call; update ctr-agent");
    default:
      return Status(code, status.error_message());
  }
}

}  // namespace ctr::cli
