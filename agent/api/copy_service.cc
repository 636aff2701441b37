// The copy part of AgentService. Its handlers run on a strand of the work pool, not on control:
// they move bytes.
#include <climits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/api/agent_service.h"
#include "agent/api/convert.h"
#include "agent/api/requests.h"
#include "agent/base/work.h"
#include "agent/tar/bytes.h"

namespace ctr {
namespace {

// The path as it is meant: from the instance's root.
StatusOr<std::string> PathOf(const std::string& given) {
  if (given.empty()) return BadRequest("the path in the instance is empty; the root is /");
  if (given.find('\0') != std::string::npos || given.size() >= PATH_MAX - 1) {
    return BadRequest("the path in the instance is too long, or has a zero byte in it");
  }
  return given.front() == '/' ? given : absl::StrCat("/", given);
}

void ToProto(const tar::Totals& totals, v1::CopyTotals* proto) {
  proto->set_entries(static_cast<uint64_t>(totals.entries));
  proto->set_bytes(static_cast<uint64_t>(totals.bytes));
  proto->set_left_out(static_cast<uint64_t>(totals.left_out));
  proto->set_first_left_out(AsUtf8(totals.first_left_out));
}

}  // namespace

awaitable<StatusOr<std::unique_ptr<CopySession>>> AgentService::StartCopy(rpc::CallContext call,
                                                                          v1::InstanceRef ref,
                                                                          CopySpec spec) {
  // On control.
  auto enter =
      [](AgentService* self, v1::InstanceRef wanted, std::string description,
         rpc::CallContext caller) -> awaitable<StatusOr<std::shared_ptr<CopySession::Hold>>> {
    CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, self->Find(wanted));
    std::string cause = CauseOf(caller, "cp", self->control_);
    co_return co_await CopySession::Enter(&self->supervisor_, &self->runtime_, self->control_,
                                          std::move(instance), std::move(description),
                                          caller.deadline, std::move(cause));
  };
  CTR_CO_ASSIGN_OR_RETURN(
      std::shared_ptr<CopySession::Hold> hold,
      co_await RunOn(control_, enter(this, std::move(ref), spec.description, call)));
  StatusOr<std::unique_ptr<CopyProcess>> process = CopyProcess::Start(
      co_await asio::this_coro::executor, clock_, hold->files(), std::move(spec.arguments));
  if (!process.ok()) {
    hold->SetOutcome(absl::StrCat("failed: ", process.status().message()));
    co_return process.status();
  }
  co_return std::make_unique<CopySession>(std::move(hold), *std::move(process));
}

grpc::ServerReadReactor<v1::CopyInRequest>* AgentService::CopyIn(
    grpc::CallbackServerContext* context, v1::CopyTotals* response) {
  return rpc::ServeStream<v1::CopyInRequest>(
      context, asio::make_strand(work_),
      [this, response](rpc::CallContext call, rpc::StreamReader<v1::CopyInRequest>& reader) {
        return DoCopyIn(std::move(call), reader, response);
      });
}

awaitable<Status> AgentService::DoCopyIn(rpc::CallContext call,
                                         rpc::StreamReader<v1::CopyInRequest>& reader,
                                         v1::CopyTotals* response) {
  const Session counted(this);
  std::optional<v1::CopyInRequest> message = co_await reader.Read();
  if (!message || !message->has_start()) {
    co_return BadRequest("the first message of a copy must be its start");
  }
  const v1::CopyInStart start = message->start();
  CTR_CO_ASSIGN_OR_RETURN(std::string path, PathOf(start.path()));
  CopySpec spec{
      {"unpack", path, start.extract() ? "extract" : "copy", start.preserve() ? "preserve" : "-"},
      absl::StrCat("into ", tar::Shown(path))};
  CTR_CO_ASSIGN_OR_RETURN(std::unique_ptr<CopySession> session,
                          co_await StartCopy(std::move(call), start.ref(), std::move(spec)));
  while ((message = co_await reader.Read())) {
    if (!message->has_data()) co_return BadRequest("a message of a copy that is no data");
    if (message->data().empty()) continue;
    if (!co_await session->process().Feed(std::move(*message->mutable_data()))) break;
  }
  session->process().EndInput();
  CTR_CO_ASSIGN_OR_RETURN(tar::Totals totals, co_await session->Finish());
  ToProto(totals, response);
  co_return absl::OkStatus();
}

grpc::ServerWriteReactor<v1::CopyOutResponse>* AgentService::CopyOut(
    grpc::CallbackServerContext* context, const v1::CopyOutRequest* request) {
  return rpc::ServeWriter<v1::CopyOutResponse>(
      context, asio::make_strand(work_),
      [this, request](rpc::CallContext call, rpc::StreamWriter<v1::CopyOutResponse>& writer) {
        return DoCopyOut(std::move(call), request, writer);
      });
}

awaitable<Status> AgentService::DoCopyOut(rpc::CallContext call, const v1::CopyOutRequest* request,
                                          rpc::StreamWriter<v1::CopyOutResponse>& writer) {
  const Session counted(this);
  CTR_CO_ASSIGN_OR_RETURN(std::string path, PathOf(request->path()));
  CopySpec spec{{"pack", path, request->follow_link() ? "follow" : "-"},
                absl::StrCat("out of ", tar::Shown(path))};
  CTR_CO_ASSIGN_OR_RETURN(std::unique_ptr<CopySession> session,
                          co_await StartCopy(std::move(call), request->ref(), std::move(spec)));
  session->process().EndInput();
  for (;;) {
    v1::CopyOutResponse piece;
    *piece.mutable_data() = co_await session->process().Read();
    if (piece.data().empty()) break;
    co_await writer.Write(std::move(piece));
  }
  CTR_CO_ASSIGN_OR_RETURN(tar::Totals totals, co_await session->Finish());
  v1::CopyOutResponse last;
  ToProto(totals, last.mutable_totals());
  co_await writer.Write(std::move(last));
  co_return absl::OkStatus();
}

}  // namespace ctr
