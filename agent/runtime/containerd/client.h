#pragma once

#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include <grpcpp/grpcpp.h>

#include "agent/rpc/call_unary.h"
#include "github.com/containerd/containerd/api/services/containers/v1/containers.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/content/v1/content.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/diff/v1/diff.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/images/v1/images.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/leases/v1/leases.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/namespaces/v1/namespace.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/snapshots/v1/snapshots.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/tasks/v1/tasks.grpc.pb.h"
#include "github.com/containerd/containerd/api/services/version/v1/version.grpc.pb.h"

namespace ctr {

// containerd's messages and services by short names: `containers::CreateContainerRequest`,
// `TasksApi`.
namespace containers = ::containerd::services::containers::v1;
namespace content = ::containerd::services::content::v1;
namespace diff = ::containerd::services::diff::v1;
namespace images = ::containerd::services::images::v1;
namespace leases = ::containerd::services::leases::v1;
namespace namespaces = ::containerd::services::namespaces::v1;
namespace snapshots = ::containerd::services::snapshots::v1;
namespace tasks = ::containerd::services::tasks::v1;
namespace version = ::containerd::services::version::v1;

using ContainersApi = containers::Containers::StubInterface::async_interface;
using ContentApi = content::Content::StubInterface::async_interface;
using DiffApi = diff::Diff::StubInterface::async_interface;
using ImagesApi = images::Images::StubInterface::async_interface;
using LeasesApi = leases::Leases::StubInterface::async_interface;
using NamespacesApi = namespaces::Namespaces::StubInterface::async_interface;
using SnapshotsApi = snapshots::Snapshots::StubInterface::async_interface;
using TasksApi = tasks::Tasks::StubInterface::async_interface;
using VersionApi = version::Version::StubInterface::async_interface;

inline constexpr char kSnapshotter[] = "overlayfs";

struct ContainerdCall {
  Duration timeout = std::chrono::seconds(30);
  std::string lease = "";  // resources made by the call belong to it; "" for none
  bool wait_for_ready =
      false;  // wait for containerd while it is away instead of failing with UNAVAILABLE
};

// A connection to one containerd, bound to one of its namespaces. Immutable; any thread may call
// it. Connects when first used and reconnects by itself.
class ContainerdClient {
 public:
  // `socket` is a path below 108 bytes; `containerd_namespace` need not exist.
  ContainerdClient(std::string socket, std::string containerd_namespace);

  // One unary call in our namespace as a coroutine, on the caller's executor:
  //   StatusOr<tasks::StartResponse> started = co_await client->Call(&TasksApi::Start,
  //   std::move(request));
  // The error has containerd's code and its message in one line, without the prefixes and suffixes
  // that it repeats.
  template <typename Api, typename Request, typename Response>
  awaitable<StatusOr<Response>> Call(rpc::UnaryMethod<Api, Request, Response> method,
                                     std::type_identity_t<Request> request,
                                     ContainerdCall options = {}) const {
    StatusOr<Response> response = co_await rpc::CallUnary(async<Api>(), method, std::move(request),
                                                          OptionsOf(std::move(options)));
    if (!response.ok()) co_return CleanError(response.status());
    co_return response;
  }

  // The same for a call that only reads: it waits for a containerd that is just being started
  // again, and is made again if the connection broke.
  template <typename Api, typename Request, typename Response>
  awaitable<StatusOr<Response>> Ask(rpc::UnaryMethod<Api, Request, Response> method,
                                    std::type_identity_t<Request> request) const {
    constexpr int kAttempts = 3;
    StatusOr<Response> response = Unreachable();
    for (int attempt = 0; attempt < kAttempts && absl::IsUnavailable(response.status());
         ++attempt) {
      response = co_await Call(method, request,
                               {.timeout = std::chrono::seconds(10), .wait_for_ready = true});
    }
    if (absl::IsDeadlineExceeded(response.status())) co_return Unreachable();
    co_return response;
  }

  // For the streaming calls, which run blocking on the work pool: content()->Write(context.get()).
  std::unique_ptr<grpc::ClientContext> NewContext(ContainerdCall options = {}) const;
  content::Content::StubInterface* content() const { return std::get<0>(stubs_).get(); }
  containers::Containers::StubInterface* containers() const { return std::get<1>(stubs_).get(); }
  images::Images::StubInterface* images() const { return std::get<2>(stubs_).get(); }
  snapshots::Snapshots::StubInterface* snapshots() const { return std::get<3>(stubs_).get(); }

  // Ends every call that is in progress, and each later one as it starts, with CANCELLED; not those
  // on streams.
  void Close() const { calls_->Cancel(); }
  bool closed() const { return calls_->cancelled(); }

  // A stream's final status with its message cleaned as Call's is.
  Status FromGrpc(const grpc::Status& status) const { return CleanError(rpc::FromGrpc(status)); }

  const std::string& socket() const { return socket_; }
  const std::string& containerd_namespace() const { return namespace_; }

 private:
  using Stubs = std::tuple<std::unique_ptr<content::Content::StubInterface>,
                           std::unique_ptr<containers::Containers::StubInterface>,
                           std::unique_ptr<images::Images::StubInterface>,
                           std::unique_ptr<snapshots::Snapshots::StubInterface>,
                           std::unique_ptr<diff::Diff::StubInterface>,
                           std::unique_ptr<leases::Leases::StubInterface>,
                           std::unique_ptr<namespaces::Namespaces::StubInterface>,
                           std::unique_ptr<tasks::Tasks::StubInterface>,
                           std::unique_ptr<version::Version::StubInterface>>;

  // The stub whose asynchronous interface is `Api`.
  template <typename Api, size_t kIndex = 0>
  Api* async() const {
    auto* stub = std::get<kIndex>(stubs_).get();
    if constexpr (std::is_same_v<decltype(stub->async()), Api*>) {
      return stub->async();
    } else {
      return async<Api, kIndex + 1>();
    }
  }

  rpc::CallOptions OptionsOf(ContainerdCall call) const;
  Status CleanError(const Status& status) const;
  Status Unreachable() const;

  const std::string socket_;
  const std::string namespace_;
  const std::shared_ptr<rpc::CallGroup> calls_ = std::make_shared<rpc::CallGroup>();
  Stubs stubs_;
};

}  // namespace ctr
