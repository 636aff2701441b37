#include "agent/rpc/callback_threads.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

namespace ctr::rpc {
namespace {

// One call to nobody, which fails at once, on a channel that is never destroyed.
struct Keeper {
  Keeper()
      : stub(grpc::CreateChannel("unix:/nonexistent/keep-callback-threads",
                                 grpc::InsecureChannelCredentials())),
        request(&nothing, 1) {
    context.set_deadline(std::chrono::system_clock::now());
    stub.UnaryCall(&context, "/ctr.Keep/Threads", grpc::StubOptions(), &request, &response,
                   [](grpc::Status) {});
  }

  grpc::GenericStub stub;
  grpc::ClientContext context;
  const grpc::Slice nothing;
  const grpc::ByteBuffer request;
  grpc::ByteBuffer response;
};

}  // namespace

void KeepCallbackThreads() {
  static const Keeper* const keeper = new Keeper;
  static_cast<void>(keeper);
}

}  // namespace ctr::rpc
