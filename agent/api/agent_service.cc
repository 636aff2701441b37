#include "agent/api/agent_service.h"

#include <unistd.h>

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "agent/api/convert.h"
#include "agent/api/requests.h"
#include "agent/base/work.h"
#include "agent/model/reference.h"

namespace ctr {
namespace {

InstanceSettings SettingsOf(const google::protobuf::Map<std::string, std::string>& env,
                            const google::protobuf::RepeatedPtrField<std::string>& entrypoint) {
  return {{env.begin(), env.end()}, {entrypoint.begin(), entrypoint.end()}, std::nullopt};
}

InstanceCounts CountOf(const Supervisor& supervisor, const std::string& class_name) {
  InstanceCounts counts;
  for (const auto& [name, instance] : supervisor.instances()) {
    if (name.class_name != class_name) continue;
    ++counts.known;
    const Observed& observed = instance->record().observed;
    if (observed.state != State::kStopped) ++counts.live_revisions[observed.revision];
    if (instance->Outdated()) ++counts.outdated;
  }
  return counts;
}

v1::ApplyClassResponse::Result ToProto(ApplyResult result) {
  switch (result) {
    case ApplyResult::kCreated:
      return v1::ApplyClassResponse::RESULT_CREATED;
    case ApplyResult::kConfigured:
      return v1::ApplyClassResponse::RESULT_CONFIGURED;
    case ApplyResult::kUnchanged:
      return v1::ApplyClassResponse::RESULT_UNCHANGED;
  }
  return v1::ApplyClassResponse::RESULT_UNSPECIFIED;
}

}  // namespace

AgentService::AgentService(asio::any_io_executor control, asio::any_io_executor work, Clock& clock,
                           Supervisor& supervisor, Runtime& runtime, AgentFacts facts)
    : control_(std::move(control)),
      work_(std::move(work)),
      clock_(clock),
      supervisor_(supervisor),
      runtime_(runtime),
      facts_(std::move(facts)),
      log_watcher_(control_, clock_),
      simulating_(control_, clock_, 1) {}

grpc::ServerUnaryReactor* AgentService::Handle(grpc::CallbackServerContext* context,
                                               rpc::UnaryHandler handler) {
  return rpc::Serve(context, control_, [this, handler = std::move(handler)](rpc::CallContext call) {
    return RunCall(handler, std::move(call));
  });
}

awaitable<Status> AgentService::RunCall(rpc::UnaryHandler handler, rpc::CallContext call) {
  if (handed_over_) co_return HandedOver();
  const Session counted(calls_);
  const auto position = cancels_.insert(cancels_.end(), call.cancel);
  const auto removed = absl::MakeCleanup([&] { cancels_.erase(position); });
  co_await AllowCancellation(false);
  try {
    co_return co_await handler(call);
  } catch (const boost::system::system_error&) {
    if (!handed_over_) throw;
  }
  co_return HandedOver();
}

void AgentService::EndCalls() {
  handed_over_ = true;
  for (const std::function<void()>& cancel : cancels_) cancel();
}

StatusOr<InstanceName> AgentService::NameOf(const v1::InstanceRef& ref) const {
  CTR_RETURN_IF_ERROR(CheckDnsLabel(ref.id(), "instance ID"));
  CTR_ASSIGN_OR_RETURN(std::string class_name, supervisor_.ResolveClass(ref.class_()));
  return InstanceName{std::move(class_name), ref.id()};
}

StatusOr<Supervisor::InstancePtr> AgentService::Find(const v1::InstanceRef& ref) const {
  CTR_ASSIGN_OR_RETURN(InstanceName name, NameOf(ref));
  return supervisor_.Find(std::move(name));
}

awaitable<Status> AgentService::DoApplyClass(const v1::ApplyClassRequest* request,
                                             v1::ApplyClassResponse* response,
                                             rpc::CallContext call) {
  CTR_CO_ASSIGN_OR_RETURN(AppliedClass applied,
                          co_await supervisor_.ApplyClass(request->source(), request->file_name(),
                                                          CauseOf(call, "class apply")));
  co_return FillApplied(applied, response);
}

Status AgentService::FillApplied(const AppliedClass& applied, v1::ApplyClassResponse* response) {
  response->set_result(ToProto(applied.result));
  response->set_note(applied.note);
  CTR_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> state, supervisor_.FindClass(applied.name));
  ctr::ToProto(*state, CountOf(supervisor_, applied.name), response->mutable_class_());
  return absl::OkStatus();
}

awaitable<Status> AgentService::DoGetInstance(const v1::GetInstanceRequest* request,
                                              v1::Instance* response, rpc::CallContext call) {
  CTR_CO_RETURN_IF_ERROR(CheckEnv(request->env()));
  CTR_CO_ASSIGN_OR_RETURN(InstanceName name, NameOf(request->ref()));
  CTR_CO_ASSIGN_OR_RETURN(
      Supervisor::InstancePtr instance,
      co_await supervisor_.GetOrCreate(std::move(name), SettingsOf(request->env(), {}),
                                       call.deadline, CauseOf(call, "get")));
  // `get` of a manual_start class is no error: it gives the instance as it is.
  if (!request->no_start() && instance->CheckMayStart().ok()) {
    CTR_CO_RETURN_IF_ERROR(co_await supervisor_.Start(instance, !request->no_wait(), call.deadline,
                                                      CauseOf(call, "get")));
  }
  ctr::ToProto(*instance, response);
  co_return absl::OkStatus();
}

awaitable<Status> AgentService::DoStartInstance(const v1::StartInstanceRequest* request,
                                                v1::Instance* response, rpc::CallContext call) {
  CTR_CO_RETURN_IF_ERROR(CheckEnv(request->env()));
  CTR_CO_ASSIGN_OR_RETURN(InstanceName name, NameOf(request->ref()));
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance,
                          co_await supervisor_.GetOrCreate(
                              std::move(name), SettingsOf(request->env(), request->entrypoint()),
                              call.deadline, CauseOf(call, "start")));
  CTR_CO_RETURN_IF_ERROR(co_await supervisor_.Start(instance, !request->no_wait(), call.deadline,
                                                    CauseOf(call, "start")));
  ctr::ToProto(*instance, response);
  co_return absl::OkStatus();
}

awaitable<Status> AgentService::DoStopInstance(const v1::StopInstanceRequest* request,
                                               v1::Instance* response, rpc::CallContext call) {
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, Find(request->ref()));
  if (request->signal() < 0 || request->signal() > 64 || request->grace_ms() < 0) {
    co_return BadRequest("the signal must be between 1 and 64 and the grace not negative");
  }
  StopRequest stop;
  stop.signal = request->signal();
  if (request->has_grace_ms()) stop.grace = std::chrono::milliseconds(request->grace_ms());
  CTR_CO_RETURN_IF_ERROR(co_await supervisor_.Stop(instance, stop, !request->no_wait(),
                                                   call.deadline, CauseOf(call, "stop")));
  ctr::ToProto(*instance, response);
  co_return absl::OkStatus();
}

awaitable<Status> AgentService::DoRestartInstance(const v1::RestartInstanceRequest* request,
                                                  v1::Instance* response, rpc::CallContext call) {
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, Find(request->ref()));
  CTR_CO_RETURN_IF_ERROR(co_await supervisor_.Restart(instance, !request->no_wait(), call.deadline,
                                                      CauseOf(call, "restart")));
  ctr::ToProto(*instance, response);
  co_return absl::OkStatus();
}

awaitable<Status> AgentService::DoDestroyInstance(const v1::DestroyInstanceRequest* request,
                                                  v1::DestroyInstanceResponse* response,
                                                  rpc::CallContext call) {
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, Find(request->ref()));
  response->set_class_(instance->name().class_name);
  co_return co_await supervisor_.Destroy(instance, call.deadline, CauseOf(call, "destroy"));
}

awaitable<Status> AgentService::DoWaitInstance(const v1::WaitInstanceRequest* request,
                                               v1::Instance* response, rpc::CallContext call) {
  std::optional<State> state = ParseState(request->state());
  const bool destroyed = request->state() == "destroyed";
  if (!state && !destroyed) {
    co_return BadRequest(absl::StrCat("\"", request->state(),
                                      "\" is not a state; use stopped, starting, running, healthy, "
                                      "frozen, stopping or destroyed"));
  }
  CTR_CO_ASSIGN_OR_RETURN(InstanceName name, NameOf(request->ref()));
  StatusOr<Supervisor::InstancePtr> found = supervisor_.Find(name);
  // It went with its class, perhaps.
  if (destroyed && absl::IsNotFound(found.status())) {
    response->set_class_(name.class_name);
    response->set_id(name.id);
    response->set_state(std::string(ToString(State::kStopped)));
    co_return absl::OkStatus();
  }
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, std::move(found));
  CTR_CO_RETURN_IF_ERROR(co_await instance->AwaitState(
      [state](const Instance& it) {
        return state ? it.shown_state() == *state && !it.forgotten() : it.forgotten();
      },
      call.deadline));
  ctr::ToProto(*instance, response);
  co_return absl::OkStatus();
}

awaitable<Status> AgentService::DoRoute(const v1::RouteRequest* request, v1::Instance* response,
                                        rpc::CallContext call) {
  CTR_CO_ASSIGN_OR_RETURN(std::string class_name, supervisor_.ResolveClass(request->class_()));
  if (request->instances() > 0xFFFF) {
    co_return BadRequest("route over 1 to 65535 instances");
  }
  CTR_CO_ASSIGN_OR_RETURN(
      Supervisor::InstancePtr instance,
      co_await supervisor_.Route(std::move(class_name), static_cast<int>(request->instances()),
                                 call.deadline, CauseOf(call, "route")));
  ctr::ToProto(*instance, response);
  co_return absl::OkStatus();
}

Status AgentService::DoListInstances(const v1::ListInstancesRequest& request,
                                     v1::ListInstancesResponse* response) const {
  if (!request.class_().empty())
    CTR_RETURN_IF_ERROR(supervisor_.FindClass(request.class_()).status());
  for (const auto& [name, instance] : supervisor_.instances()) {
    if (!request.class_().empty() && name.class_name != request.class_()) continue;
    if (!request.all() && instance->state() == State::kStopped) continue;
    ctr::ToProto(*instance, response->add_instances());
  }
  return absl::OkStatus();
}

Status AgentService::DoInspect(const v1::InspectInstanceRequest& request,
                               v1::InspectInstanceResponse* response) const {
  CTR_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, Find(request.ref()));
  const InstanceRecord& record = instance->record();
  ctr::ToProto(*instance, response->mutable_instance());
  StatusOr<std::string> image = NormalizeReference(instance->config().image);
  response->set_image(image.ok() ? *image : "");
  response->set_desired(record.desired == Desired::kRunning ? "running" : "stopped");
  response->mutable_env()->insert(record.env.begin(), record.env.end());
  if (record.entrypoint) {
    response->mutable_entrypoint()->Assign(record.entrypoint->begin(), record.entrypoint->end());
  }
  response->set_log_path(instance->LogPath());
  response->set_containerd_namespace(facts_.containerd_namespace);
  if (instance->container()) {
    response->set_container_id(instance->container()->id);
    response->set_pid(static_cast<uint32_t>(instance->container()->pid));
  }
  if (instance->state() == State::kHealthy) {
    // The monotonic times, shown on the wall clock as it is now.
    auto wall = [this](MonoTime time) {
      return UnixMilliseconds(clock_.Wall() +
                              std::chrono::duration_cast<WallTime::duration>(time - clock_.Now()));
    };
    response->set_last_activity_ms(wall(instance->slot()->last_activity()));
    if (auto sleeps_at = instance->SleepsAt()) response->set_sleeps_at_ms(wall(*sleeps_at));
  }
  return absl::OkStatus();
}

void AgentService::FillInfo(v1::Info* info) const {
  info->set_version(facts_.version);
  info->set_agent_id(facts_.agent_id);
  info->set_pid(static_cast<uint32_t>(::getpid()));
  info->set_started_at_ms(UnixMilliseconds(facts_.started_at));
  info->set_data_dir(facts_.data_dir);
  info->set_run_dir(facts_.run_dir);
  info->set_http_address(facts_.http_address);
  info->set_runtime(runtime_.Describe());
  info->set_containerd_socket(facts_.containerd_socket);
  info->set_containerd_namespace(facts_.containerd_namespace);
  info->set_steering(facts_.steering);
  info->set_instance_range(facts_.instance_range);
  info->set_class_range(facts_.class_range);
  info->set_classes(static_cast<uint32_t>(supervisor_.classes().size()));
  info->set_instances(static_cast<uint32_t>(supervisor_.instances().size()));
  uint32_t live = 0;
  for (const auto& [name, state] : supervisor_.classes())
    live += static_cast<uint32_t>(state->live);
  info->set_live_instances(live);
  for (std::string& warning : runtime_.Warnings()) info->add_warnings(std::move(warning));
}

grpc::ServerUnaryReactor* AgentService::ApplyClass(grpc::CallbackServerContext* context,
                                                   const v1::ApplyClassRequest* request,
                                                   v1::ApplyClassResponse* response) {
  return Handle(context,
                [=, this](rpc::CallContext call) { return DoApplyClass(request, response, call); });
}

grpc::ServerUnaryReactor* AgentService::ListClasses(grpc::CallbackServerContext* context,
                                                    const v1::ListClassesRequest*,
                                                    v1::ListClassesResponse* response) {
  return Handle(context, [=, this](rpc::CallContext) -> awaitable<Status> {
    for (const auto& [name, state] : supervisor_.classes()) {
      ctr::ToProto(*state, CountOf(supervisor_, name), response->add_classes());
    }
    co_return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AgentService::GetClass(grpc::CallbackServerContext* context,
                                                 const v1::GetClassRequest* request,
                                                 v1::Class* response) {
  return Handle(context, [=, this](rpc::CallContext) -> awaitable<Status> {
    CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> state,
                            supervisor_.FindClass(request->name()));
    ctr::ToProto(*state, CountOf(supervisor_, request->name()), response);
    co_return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AgentService::RemoveClass(grpc::CallbackServerContext* context,
                                                    const v1::RemoveClassRequest* request,
                                                    v1::RemoveClassResponse*) {
  return Handle(context, [=, this](rpc::CallContext call) {
    return supervisor_.RemoveClass(request->name(), request->force(), call.deadline,
                                   CauseOf(call, "class rm"));
  });
}

grpc::ServerUnaryReactor* AgentService::GetInstance(grpc::CallbackServerContext* context,
                                                    const v1::GetInstanceRequest* request,
                                                    v1::Instance* response) {
  return Handle(
      context, [=, this](rpc::CallContext call) { return DoGetInstance(request, response, call); });
}

grpc::ServerUnaryReactor* AgentService::StartInstance(grpc::CallbackServerContext* context,
                                                      const v1::StartInstanceRequest* request,
                                                      v1::Instance* response) {
  return Handle(context, [=, this](rpc::CallContext call) {
    return DoStartInstance(request, response, call);
  });
}

grpc::ServerUnaryReactor* AgentService::StopInstance(grpc::CallbackServerContext* context,
                                                     const v1::StopInstanceRequest* request,
                                                     v1::Instance* response) {
  return Handle(context, [=, this](rpc::CallContext call) {
    return DoStopInstance(request, response, call);
  });
}

grpc::ServerUnaryReactor* AgentService::RestartInstance(grpc::CallbackServerContext* context,
                                                        const v1::RestartInstanceRequest* request,
                                                        v1::Instance* response) {
  return Handle(context, [=, this](rpc::CallContext call) {
    return DoRestartInstance(request, response, call);
  });
}

grpc::ServerUnaryReactor* AgentService::DestroyInstance(grpc::CallbackServerContext* context,
                                                        const v1::DestroyInstanceRequest* request,
                                                        v1::DestroyInstanceResponse* response) {
  return Handle(context, [=, this](rpc::CallContext call) {
    return DoDestroyInstance(request, response, call);
  });
}

grpc::ServerUnaryReactor* AgentService::ListInstances(grpc::CallbackServerContext* context,
                                                      const v1::ListInstancesRequest* request,
                                                      v1::ListInstancesResponse* response) {
  return Handle(context, [=, this](rpc::CallContext) -> awaitable<Status> {
    co_return DoListInstances(*request, response);
  });
}

grpc::ServerUnaryReactor* AgentService::InspectInstance(grpc::CallbackServerContext* context,
                                                        const v1::InspectInstanceRequest* request,
                                                        v1::InspectInstanceResponse* response) {
  return Handle(context, [=, this](rpc::CallContext) -> awaitable<Status> {
    co_return DoInspect(*request, response);
  });
}

grpc::ServerUnaryReactor* AgentService::RenewInstance(grpc::CallbackServerContext* context,
                                                      const v1::RenewInstanceRequest* request,
                                                      v1::Instance* response) {
  return Handle(context, [=, this](rpc::CallContext call) -> awaitable<Status> {
    CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, Find(request->ref()));
    CTR_CO_RETURN_IF_ERROR(instance->Renew(CauseOf(call, "renew")));
    ctr::ToProto(*instance, response);
    co_return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AgentService::WaitInstance(grpc::CallbackServerContext* context,
                                                     const v1::WaitInstanceRequest* request,
                                                     v1::Instance* response) {
  return Handle(context, [=, this](rpc::CallContext call) {
    return DoWaitInstance(request, response, call);
  });
}

grpc::ServerUnaryReactor* AgentService::Route(grpc::CallbackServerContext* context,
                                              const v1::RouteRequest* request,
                                              v1::Instance* response) {
  return Handle(context,
                [=, this](rpc::CallContext call) { return DoRoute(request, response, call); });
}

grpc::ServerUnaryReactor* AgentService::GetInfo(grpc::CallbackServerContext* context,
                                                const v1::GetInfoRequest*, v1::Info* response) {
  return Handle(context, [=, this](rpc::CallContext) -> awaitable<Status> {
    FillInfo(response);
    co_return absl::OkStatus();
  });
}

}  // namespace ctr
