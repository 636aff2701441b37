#pragma once

#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include <grpcpp/grpcpp.h>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "ctr/v1/agent.grpc.pb.h"

namespace ctr::cli {

// The exit status that a command which ended with `status` has: 0 done, 1 failed, 2 usage, 3 not
// found, 4 refused, 5 the agent cannot be reached, 124 timed out.
int ExitStatusOf(const Status& status);

// One connection to the agent, for one command, whose calls all end at one deadline. Any thread may
// call it.
class Client {
 public:
  using Stub = v1::Agent::Stub;

  // UNAVAILABLE, with what to do about it, if nothing answers at `socket_path`. The deadline of all
  // calls is `timeout` from now; none: they have none.
  static StatusOr<std::unique_ptr<Client>> Connect(const std::string& socket_path,
                                                   std::optional<Duration> timeout);

  template <typename Request, typename Response>
  StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                       Response*),
                          const std::type_identity_t<Request>& request) {
    std::unique_ptr<Stub> successor;
    for (int attempt = 0;; ++attempt) {
      grpc::ClientContext context;
      SetDeadline(context);
      Response response;
      Stub& stub = successor ? *successor : *stub_;
      grpc::Status status = (stub.*method)(&context, request, &response);
      if (status.ok()) return response;
      if (!IsHandedOver(context) || attempt == kSuccessors) return StatusFrom(status, context);
      CTR_ASSIGN_OR_RETURN(successor, MakeStub(socket_path_));
    }
  }

  // For streaming calls, which a command makes itself.
  Stub& stub() { return *stub_; }
  void SetDeadline(grpc::ClientContext& context) const;
  // What a call that has finished says. UNAVAILABLE always means that the agent did not answer.
  Status StatusFrom(const grpc::Status& status, const grpc::ClientContext& context) const;

 private:
  static constexpr int kSuccessors = 3;  // agents that take over during a call

  static StatusOr<std::unique_ptr<Stub>> MakeStub(const std::string& socket_path);
  // Another agent has taken over, which is to be asked.
  static bool IsHandedOver(const grpc::ClientContext& context);
  Client(std::string socket_path, std::optional<Duration> timeout, std::unique_ptr<Stub> stub);

  const std::string socket_path_;
  const std::optional<Duration> timeout_;
  const WallTime connected_at_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace ctr::cli
