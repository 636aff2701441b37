#pragma once

#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>

#include "agent/api/copy_session.h"
#include "agent/base/semaphore.h"
#include "agent/control/log_watcher.h"
#include "agent/control/supervisor.h"
#include "agent/rpc/serve.h"
#include "ctr/v1/agent.grpc.pb.h"

namespace ctr {

// What GetInfo answers that is known at the start.
struct AgentFacts {
  std::string version;
  std::string agent_id;
  WallTime started_at;
  std::string data_dir;
  std::string run_dir;
  std::string http_address;
  std::string containerd_socket;
  std::string containerd_namespace;
  std::string steering;
  std::string instance_range;
  std::string class_range;
  // What is in the way of instances with internet = true.
  std::function<Status()> internet;
};

// ctr.v1.Agent: proto <-> model, nothing else. Its handlers run on the control loop; those that
// carry an exec's or a copy's bytes, on the work pool.
class AgentService final : public v1::Agent::CallbackService {
 public:
  AgentService(asio::any_io_executor control, asio::any_io_executor work, Clock& clock,
               Supervisor& supervisor, Runtime& runtime, AgentFacts facts);

  // For another agent that takes over: simple calls in progress, and imports, which it would undo.
  int calls() const { return calls_; }
  int imports() const { return imports_; }
  // It has taken over: simple calls that wait, or come yet, fail with handed_over, which has the
  // caller ask that one.
  void EndCalls();
  // The agent stops: who follows events or output is told, and waits no longer.
  void EndFollowing();

  grpc::ServerUnaryReactor* ApplyClass(grpc::CallbackServerContext* context,
                                       const v1::ApplyClassRequest* request,
                                       v1::ApplyClassResponse* response) override;
  grpc::ServerUnaryReactor* ListClasses(grpc::CallbackServerContext* context,
                                        const v1::ListClassesRequest* request,
                                        v1::ListClassesResponse* response) override;
  grpc::ServerUnaryReactor* GetClass(grpc::CallbackServerContext* context,
                                     const v1::GetClassRequest* request,
                                     v1::Class* response) override;
  grpc::ServerUnaryReactor* RemoveClass(grpc::CallbackServerContext* context,
                                        const v1::RemoveClassRequest* request,
                                        v1::RemoveClassResponse* response) override;
  grpc::ServerUnaryReactor* GetInstance(grpc::CallbackServerContext* context,
                                        const v1::GetInstanceRequest* request,
                                        v1::Instance* response) override;
  grpc::ServerUnaryReactor* StartInstance(grpc::CallbackServerContext* context,
                                          const v1::StartInstanceRequest* request,
                                          v1::Instance* response) override;
  grpc::ServerUnaryReactor* StopInstance(grpc::CallbackServerContext* context,
                                         const v1::StopInstanceRequest* request,
                                         v1::Instance* response) override;
  grpc::ServerUnaryReactor* RestartInstance(grpc::CallbackServerContext* context,
                                            const v1::RestartInstanceRequest* request,
                                            v1::Instance* response) override;
  grpc::ServerUnaryReactor* DestroyInstance(grpc::CallbackServerContext* context,
                                            const v1::DestroyInstanceRequest* request,
                                            v1::DestroyInstanceResponse* response) override;
  grpc::ServerUnaryReactor* ListInstances(grpc::CallbackServerContext* context,
                                          const v1::ListInstancesRequest* request,
                                          v1::ListInstancesResponse* response) override;
  grpc::ServerUnaryReactor* InspectInstance(grpc::CallbackServerContext* context,
                                            const v1::InspectInstanceRequest* request,
                                            v1::InspectInstanceResponse* response) override;
  grpc::ServerUnaryReactor* RenewInstance(grpc::CallbackServerContext* context,
                                          const v1::RenewInstanceRequest* request,
                                          v1::Instance* response) override;
  grpc::ServerUnaryReactor* WaitInstance(grpc::CallbackServerContext* context,
                                         const v1::WaitInstanceRequest* request,
                                         v1::Instance* response) override;
  grpc::ServerUnaryReactor* Route(grpc::CallbackServerContext* context,
                                  const v1::RouteRequest* request, v1::Instance* response) override;
  grpc::ServerUnaryReactor* ExplainRoute(grpc::CallbackServerContext* context,
                                         const v1::RouteRequest* request,
                                         v1::ExplainRouteResponse* response) override;
  grpc::ServerUnaryReactor* SetAutoscale(grpc::CallbackServerContext* context,
                                         const v1::SetAutoscaleRequest* request,
                                         v1::ApplyClassResponse* response) override;
  grpc::ServerUnaryReactor* SimulateAutoscale(grpc::CallbackServerContext* context,
                                              const v1::SimulateAutoscaleRequest* request,
                                              v1::SimulateAutoscaleResponse* response) override;
  grpc::ServerUnaryReactor* GetAutoscale(grpc::CallbackServerContext* context,
                                         const v1::GetAutoscaleRequest* request,
                                         v1::AutoscaleStatus* response) override;
  grpc::ServerReadReactor<v1::ImportImageRequest>* ImportImage(
      grpc::CallbackServerContext* context, v1::ImportImageResponse* response) override;
  grpc::ServerWriteReactor<v1::PullImageResponse>* PullImage(
      grpc::CallbackServerContext* context, const v1::PullImageRequest* request) override;
  grpc::ServerUnaryReactor* PruneImages(grpc::CallbackServerContext* context,
                                        const v1::PruneImagesRequest* request,
                                        v1::PruneImagesResponse* response) override;
  grpc::ServerUnaryReactor* ListImages(grpc::CallbackServerContext* context,
                                       const v1::ListImagesRequest* request,
                                       v1::ListImagesResponse* response) override;
  grpc::ServerUnaryReactor* RemoveImage(grpc::CallbackServerContext* context,
                                        const v1::RemoveImageRequest* request,
                                        v1::RemoveImageResponse* response) override;
  grpc::ServerUnaryReactor* Diagnose(grpc::CallbackServerContext* context,
                                     const v1::DiagnoseRequest* request,
                                     v1::Diagnosis* response) override;
  grpc::ServerUnaryReactor* GetInfo(grpc::CallbackServerContext* context,
                                    const v1::GetInfoRequest* request, v1::Info* response) override;
  grpc::ServerWriteReactor<v1::ListEventsResponse>* ListEvents(
      grpc::CallbackServerContext* context, const v1::ListEventsRequest* request) override;
  grpc::ServerUnaryReactor* ExplainInstance(grpc::CallbackServerContext* context,
                                            const v1::ExplainInstanceRequest* request,
                                            v1::ExplainInstanceResponse* response) override;
  grpc::ServerUnaryReactor* ListStats(grpc::CallbackServerContext* context,
                                      const v1::ListStatsRequest* request,
                                      v1::ListStatsResponse* response) override;
  grpc::ServerWriteReactor<v1::LogRecords>* ReadLogs(grpc::CallbackServerContext* context,
                                                     const v1::ReadLogsRequest* request) override;
  grpc::ServerBidiReactor<v1::RunInstanceRequest, v1::RunInstanceResponse>* RunInstance(
      grpc::CallbackServerContext* context) override;
  grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecResponse>* Exec(
      grpc::CallbackServerContext* context) override;
  grpc::ServerReadReactor<v1::CopyInRequest>* CopyIn(grpc::CallbackServerContext* context,
                                                     v1::CopyTotals* response) override;
  grpc::ServerWriteReactor<v1::CopyOutResponse>* CopyOut(
      grpc::CallbackServerContext* context, const v1::CopyOutRequest* request) override;

  // Any thread: calls whose end somebody works at, exec, copies and runs: a planned stop waits for
  // them as for requests.
  int sessions() const { return sessions_; }

 private:
  // One of sessions(), calls() or imports(), while it lives.
  class Session {
   public:
    explicit Session(AgentService* service) : Session(service->sessions_) {}
    explicit Session(std::atomic<int>& count) : count_(count) { ++count_; }
    Session(const Session&) = delete;
    ~Session() { --count_; }

   private:
    std::atomic<int>& count_;
  };

  // Runs `handler` on control, with cancellation off but for its waits.
  grpc::ServerUnaryReactor* Handle(grpc::CallbackServerContext* context, rpc::UnaryHandler handler);
  awaitable<Status> RunCall(rpc::UnaryHandler handler, rpc::CallContext call);

  awaitable<Status> DoApplyClass(const v1::ApplyClassRequest* request,
                                 v1::ApplyClassResponse* response, rpc::CallContext call);
  awaitable<Status> DoGetInstance(const v1::GetInstanceRequest* request, v1::Instance* response,
                                  rpc::CallContext call);
  awaitable<Status> DoStartInstance(const v1::StartInstanceRequest* request, v1::Instance* response,
                                    rpc::CallContext call);
  awaitable<Status> DoStopInstance(const v1::StopInstanceRequest* request, v1::Instance* response,
                                   rpc::CallContext call);
  awaitable<Status> DoRestartInstance(const v1::RestartInstanceRequest* request,
                                      v1::Instance* response, rpc::CallContext call);
  awaitable<Status> DoDestroyInstance(const v1::DestroyInstanceRequest* request,
                                      v1::DestroyInstanceResponse* response, rpc::CallContext call);
  awaitable<Status> DoWaitInstance(const v1::WaitInstanceRequest* request, v1::Instance* response,
                                   rpc::CallContext call);
  Status FillApplied(const AppliedClass& applied, v1::ApplyClassResponse* response);
  awaitable<Status> DoExplainRoute(const v1::RouteRequest* request,
                                   v1::ExplainRouteResponse* response);
  awaitable<Status> DoSetAutoscale(const v1::SetAutoscaleRequest* request,
                                   v1::ApplyClassResponse* response, rpc::CallContext call);
  awaitable<Status> DoSimulateAutoscale(const v1::SimulateAutoscaleRequest* request,
                                        v1::SimulateAutoscaleResponse* response);
  awaitable<Status> DoGetAutoscale(const v1::GetAutoscaleRequest* request,
                                   v1::AutoscaleStatus* response);
  awaitable<Status> DoRoute(const v1::RouteRequest* request, v1::Instance* response,
                            rpc::CallContext call);
  awaitable<Status> DoImportImage(rpc::StreamReader<v1::ImportImageRequest>& reader,
                                  v1::ImportImageResponse* response);
  awaitable<Status> DoPullImage(const v1::PullImageRequest* request,
                                rpc::StreamWriter<v1::PullImageResponse>& writer);
  awaitable<Status> DoPruneImages(v1::PruneImagesResponse* response);
  awaitable<Status> DoListImages(v1::ListImagesResponse* response);
  awaitable<Status> DoRemoveImage(const v1::RemoveImageRequest* request);
  awaitable<Status> DoExec(rpc::CallContext call, rpc::StreamReader<v1::ExecRequest>& reader,
                           rpc::StreamWriter<v1::ExecResponse>& writer);
  awaitable<Status> DoCopyIn(rpc::CallContext call, rpc::StreamReader<v1::CopyInRequest>& reader,
                             v1::CopyTotals* response);
  awaitable<Status> DoCopyOut(rpc::CallContext call, const v1::CopyOutRequest* request,
                              rpc::StreamWriter<v1::CopyOutResponse>& writer);
  // Wakes the instance, and starts a copy in it; from a strand of the work pool, on which it lives.
  awaitable<StatusOr<std::unique_ptr<CopySession>>> StartCopy(rpc::CallContext call,
                                                              v1::InstanceRef ref, CopySpec spec);
  Status DoListInstances(const v1::ListInstancesRequest& request,
                         v1::ListInstancesResponse* response) const;
  Status DoInspect(const v1::InspectInstanceRequest& request,
                   v1::InspectInstanceResponse* response) const;
  void FillInfo(v1::Info* info) const;
  awaitable<Status> DoListEvents(const v1::ListEventsRequest* request,
                                 rpc::StreamWriter<v1::ListEventsResponse>& writer);
  awaitable<Status> DoExplain(const v1::ExplainInstanceRequest* request,
                              v1::ExplainInstanceResponse* response);
  awaitable<Status> DoListStats(const v1::ListStatsRequest* request,
                                v1::ListStatsResponse* response);
  // The instances that the request is about.
  StatusOr<std::vector<Supervisor::InstancePtr>> Selected(
      const v1::ListStatsRequest& request) const;
  void FillStats(const Instance& instance, v1::InstanceStats* stats) const;
  awaitable<Status> DoReadLogs(const v1::ReadLogsRequest* request,
                               rpc::StreamWriter<v1::LogRecords>& writer);
  awaitable<Status> DoRunInstance(rpc::CallContext call,
                                  rpc::StreamReader<v1::RunInstanceRequest>& reader,
                                  rpc::StreamWriter<v1::RunInstanceResponse>& writer);
  // Returns once everything that the start wrote is in its files, or after a while that a logger in
  // trouble does not deserve to exceed.
  awaitable<void> AwaitLogWritten(std::string folder, uint64_t generation);

  StatusOr<InstanceName> NameOf(const v1::InstanceRef& ref) const;
  StatusOr<Supervisor::InstancePtr> Find(const v1::InstanceRef& ref) const;

  const asio::any_io_executor control_;
  const asio::any_io_executor work_;
  Clock& clock_;
  Supervisor& supervisor_;
  Runtime& runtime_;
  const AgentFacts facts_;
  std::atomic<int> sessions_{0};
  std::atomic<int> calls_{0};
  std::atomic<int> imports_{0};

  // On the control loop.
  LogWatcher log_watcher_;
  Semaphore simulating_;         // one at a time: it keeps a thread of the work pool busy
  std::set<InstanceName> runs_;  // jobs that a RunInstance is at
  std::set<Alarm*> log_followers_;
  std::list<std::function<void()>> cancels_;  // of simple calls in progress
  bool stopping_ = false;
  bool handed_over_ = false;
};

}  // namespace ctr
