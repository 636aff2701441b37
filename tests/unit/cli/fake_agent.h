#pragma once

#include <condition_variable>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "ctr/v1/agent.grpc.pb.h"

namespace ctr::cli {

// A directory that goes with the test.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  std::string Path(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// An agent that remembers what it was asked and answers from a few tables, on a Unix socket of its
// own. One class, "web", unless an instance says otherwise.
class FakeAgent final : public v1::Agent::Service {
 public:
  FakeAgent();
  ~FakeAgent() override;

  std::string host() const { return "unix://" + socket_; }
  const std::string& socket() const { return socket_; }

  // Any call for this ID (of an instance), name (of a class) or reference (of an image) fails so.
  // Without `code` there is no `ctr-error` beside it.
  void FailOn(const std::string& name, grpc::StatusCode status, const std::string& code,
              const std::string& message);
  // The next such call alone fails, as one that another agent is to be asked.
  void HandOverOn(const std::string& name);
  void Add(const v1::Instance& instance);
  // Every stop waits until so many are there at once.
  void GatherStops(int count);

  // The newest request of its kind, in protobuf's text format.
  std::string Last() const;
  v1::SetAutoscaleRequest autoscale_set() const;
  std::string archive() const;
  size_t largest_piece() const;
  // Waits until an import has begun.
  bool ImportHasBegun();
  // Waits until the client has cancelled an import; false if it does not.
  bool ImportWasCancelled();

  v1::ListClassesResponse classes;
  v1::ListImagesResponse images;
  v1::InspectInstanceResponse inspected;
  v1::Info info;
  v1::Diagnosis diagnosis;
  std::vector<v1::ListEventsResponse> events;  // of one call, in turn
  grpc::Status events_end;
  v1::ExplainInstanceResponse explained;
  std::vector<v1::ListStatsResponse> stats;  // of one call each, the last one again and again
  v1::ApplyClassResponse applied;
  v1::AutoscaleStatus autoscale_status;
  v1::SimulateAutoscaleResponse simulated;
  v1::ExplainRouteResponse explained_route;
  v1::LogRecords logs;  // of every instance; a run's output, too
  int run_exit_code = 0;
  bool refuse_import = false;
  bool expect_cancel = false;  // an import does not return before its client has cancelled it

 private:
  using Context = grpc::ServerContext;
  using Status = grpc::Status;

  Status ApplyClass(Context*, const v1::ApplyClassRequest*, v1::ApplyClassResponse*) override;
  Status ListClasses(Context*, const v1::ListClassesRequest*, v1::ListClassesResponse*) override;
  Status GetClass(Context*, const v1::GetClassRequest*, v1::Class*) override;
  Status RemoveClass(Context*, const v1::RemoveClassRequest*, v1::RemoveClassResponse*) override;
  Status GetInstance(Context*, const v1::GetInstanceRequest*, v1::Instance*) override;
  Status StartInstance(Context*, const v1::StartInstanceRequest*, v1::Instance*) override;
  Status StopInstance(Context*, const v1::StopInstanceRequest*, v1::Instance*) override;
  Status RestartInstance(Context*, const v1::RestartInstanceRequest*, v1::Instance*) override;
  Status DestroyInstance(Context*, const v1::DestroyInstanceRequest*,
                         v1::DestroyInstanceResponse*) override;
  Status ListInstances(Context*, const v1::ListInstancesRequest*,
                       v1::ListInstancesResponse*) override;
  Status InspectInstance(Context*, const v1::InspectInstanceRequest*,
                         v1::InspectInstanceResponse*) override;
  Status RenewInstance(Context*, const v1::RenewInstanceRequest*, v1::Instance*) override;
  // "frozen" is never reached: the call stays until the agent goes.
  Status WaitInstance(Context*, const v1::WaitInstanceRequest*, v1::Instance*) override;
  Status Route(Context*, const v1::RouteRequest*, v1::Instance*) override;
  Status ExplainRoute(Context*, const v1::RouteRequest*, v1::ExplainRouteResponse*) override;
  Status SetAutoscale(Context*, const v1::SetAutoscaleRequest*, v1::ApplyClassResponse*) override;
  Status GetAutoscale(Context*, const v1::GetAutoscaleRequest*, v1::AutoscaleStatus*) override;
  Status SimulateAutoscale(Context*, const v1::SimulateAutoscaleRequest*,
                           v1::SimulateAutoscaleResponse*) override;
  Status ImportImage(Context*, grpc::ServerReader<v1::ImportImageRequest>*,
                     v1::ImportImageResponse*) override;
  Status ListImages(Context*, const v1::ListImagesRequest*, v1::ListImagesResponse*) override;
  Status PullImage(Context*, const v1::PullImageRequest*,
                   grpc::ServerWriter<v1::PullImageResponse>*) override;
  Status PruneImages(Context*, const v1::PruneImagesRequest*, v1::PruneImagesResponse*) override;
  Status RemoveImage(Context*, const v1::RemoveImageRequest*, v1::RemoveImageResponse*) override;
  Status ReadLogs(Context*, const v1::ReadLogsRequest*,
                  grpc::ServerWriter<v1::LogRecords>*) override;
  Status RunInstance(
      Context*,
      grpc::ServerReaderWriter<v1::RunInstanceResponse, v1::RunInstanceRequest>*) override;
  Status GetInfo(Context*, const v1::GetInfoRequest*, v1::Info*) override;
  Status Diagnose(Context*, const v1::DiagnoseRequest*, v1::Diagnosis*) override;
  Status ListEvents(Context*, const v1::ListEventsRequest*,
                    grpc::ServerWriter<v1::ListEventsResponse>*) override;
  Status ExplainInstance(Context*, const v1::ExplainInstanceRequest*,
                         v1::ExplainInstanceResponse*) override;
  Status ListStats(Context*, const v1::ListStatsRequest*, v1::ListStatsResponse*) override;

  struct Failure {
    grpc::StatusCode status;
    std::string code;
    std::string message;
    bool once = false;
  };

  void Record(const google::protobuf::Message& request);
  Status Check(Context* context, const std::string& name);
  // The instance, or the failure that was set for it.
  Status Answer(Context* context, const v1::InstanceRef& ref, v1::Instance* instance);

  TempDir dir_;
  std::string socket_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  int stops_ = 0;
  size_t stats_calls_ = 0;
  int stops_wanted_ = 0;
  bool import_begun_ = false;
  bool import_cancelled_ = false;
  std::string last_;
  v1::SetAutoscaleRequest autoscale_set_;
  std::string archive_;
  size_t largest_piece_ = 0;
  std::map<std::string, Failure> failures_;
  std::map<std::string, v1::Instance> instances_;

  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ctr::cli
