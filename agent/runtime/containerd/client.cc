#include "agent/runtime/containerd/client.h"

#include "absl/strings/str_cat.h"
#include "agent/runtime/containerd/errors.h"

namespace ctr {
namespace {

constexpr int kMaxMessageBytes = 64 << 20;

std::shared_ptr<grpc::Channel> Connect(const std::string& socket) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  // gRPC's defaults wait a second and more before they look again: long for a socket on the same
  // host.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  // How long a connection may take to come up, whatever its name says: on a busy host, a while.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  // Two clients of one socket share no connection, so that each has its own backoff.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(absl::StrCat("unix:", socket),
                                   grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

ContainerdClient::ContainerdClient(std::string socket, std::string containerd_namespace)
    : socket_(std::move(socket)), namespace_(std::move(containerd_namespace)) {
  std::shared_ptr<grpc::Channel> channel = Connect(socket_);
  stubs_ = Stubs(content::Content::NewStub(channel), containers::Containers::NewStub(channel),
                 images::Images::NewStub(channel), snapshots::Snapshots::NewStub(channel),
                 diff::Diff::NewStub(channel), leases::Leases::NewStub(channel),
                 namespaces::Namespaces::NewStub(channel), tasks::Tasks::NewStub(channel),
                 version::Version::NewStub(channel));
}

std::unique_ptr<grpc::ClientContext> ContainerdClient::NewContext(ContainerdCall options) const {
  auto context = std::make_unique<grpc::ClientContext>();
  rpc::Prepare(*context, OptionsOf(std::move(options)));
  return context;
}

rpc::CallOptions ContainerdClient::OptionsOf(ContainerdCall call) const {
  rpc::CallOptions options;
  options.timeout = call.timeout;
  options.wait_for_ready = call.wait_for_ready;
  options.group = calls_;
  options.metadata.emplace_back("containerd-namespace", namespace_);
  if (!call.lease.empty()) options.metadata.emplace_back("containerd-lease", std::move(call.lease));
  return options;
}

Status ContainerdClient::Unreachable() const {
  return absl::UnavailableError(absl::StrCat("containerd can't be reached at ", socket_));
}

Status ContainerdClient::CleanError(const Status& status) const {
  if (status.ok()) return status;
  if (status.code() == absl::StatusCode::kUnavailable) {
    return Unreachable();
  }
  return Status(status.code(), CleanContainerdMessage(std::string(status.message())));
}

}  // namespace ctr
