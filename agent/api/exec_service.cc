// The exec part of AgentService. Its handler runs on a strand of the work pool, not on control: it
// moves bytes.
#include <utility>

#include "agent/api/agent_service.h"
#include "agent/api/exec_stream.h"
#include "agent/api/requests.h"
#include "agent/base/work.h"

namespace ctr {
namespace {

ExecSpec SpecOf(const v1::ExecStart& start) {
  ExecSpec spec;
  spec.argv = {start.command().begin(), start.command().end()};
  spec.env = {start.env().begin(), start.env().end()};
  spec.working_dir = start.working_dir();
  spec.wants_stdin = start.stdin();
  if (start.has_terminal()) {
    spec.terminal = {static_cast<uint16_t>(start.terminal().rows()),
                     static_cast<uint16_t>(start.terminal().columns())};
  }
  return spec;
}

}  // namespace

grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecResponse>* AgentService::Exec(
    grpc::CallbackServerContext* context) {
  return rpc::ServeBidi<v1::ExecRequest, v1::ExecResponse>(
      context, asio::make_strand(work_),
      [this](rpc::CallContext call, rpc::StreamReader<v1::ExecRequest>& reader,
             rpc::StreamWriter<v1::ExecResponse>& writer) {
        return DoExec(std::move(call), reader, writer);
      });
}

awaitable<Status> AgentService::DoExec(rpc::CallContext call,
                                       rpc::StreamReader<v1::ExecRequest>& reader,
                                       rpc::StreamWriter<v1::ExecResponse>& writer) {
  const Session counted(this);
  std::optional<v1::ExecRequest> first = co_await reader.Read();
  if (!first || !first->has_start()) {
    co_return BadRequest("the first message of an exec must be its start");
  }
  // On control.
  struct Started {
    std::shared_ptr<RunningExec> exec;
    std::shared_ptr<ExecStreams> streams;
  };
  auto start = [](AgentService* self, v1::ExecStart request,
                  rpc::CallContext caller) -> awaitable<StatusOr<Started>> {
    CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, self->Find(request.ref()));
    std::string cause = CauseOf(caller, "exec", self->control_);
    CTR_CO_ASSIGN_OR_RETURN(
        std::shared_ptr<RunningExec> exec,
        co_await RunningExec::Start(&self->supervisor_, &self->runtime_, self->control_,
                                    std::move(instance), SpecOf(request), caller.deadline,
                                    std::move(cause)));
    auto streams = std::make_shared<ExecStreams>(exec->TakeStreams());
    co_return Started{std::move(exec), std::move(streams)};
  };
  CTR_CO_ASSIGN_OR_RETURN(
      Started started,
      co_await RunOn(control_, start(this, std::move(*first->mutable_start()), call)));
  auto stream =
      std::make_shared<ExecStream>(co_await asio::this_coro::executor, control_, clock_, reader,
                                   writer, std::move(started.exec), std::move(*started.streams));
  co_return co_await stream->Run();
}

}  // namespace ctr
