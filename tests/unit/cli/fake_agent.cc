#include "tests/unit/cli/fake_agent.h"

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>

namespace ctr::cli {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);

}  // namespace

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "ctr-cli-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
  path_ = name;
}

TempDir::~TempDir() { std::filesystem::remove_all(path_); }

FakeAgent::FakeAgent() : socket_(dir_.Path("agent.sock")) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (!server_) throw std::runtime_error("cannot listen on " + socket_);
}

FakeAgent::~FakeAgent() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  server_->Shutdown(std::chrono::system_clock::now());
}

void FakeAgent::FailOn(const std::string& name, grpc::StatusCode status, const std::string& code,
                       const std::string& message) {
  std::lock_guard lock(mutex_);
  failures_[name] = {status, code, message};
}

void FakeAgent::HandOverOn(const std::string& name) {
  std::lock_guard lock(mutex_);
  failures_[name] = {grpc::StatusCode::UNAVAILABLE, "handed_over", "ask again", true};
}

void FakeAgent::Add(const v1::Instance& instance) {
  std::lock_guard lock(mutex_);
  instances_[instance.id()] = instance;
}

void FakeAgent::GatherStops(int count) {
  std::lock_guard lock(mutex_);
  stops_wanted_ = count;
}

std::string FakeAgent::Last() const {
  std::lock_guard lock(mutex_);
  return last_;
}

v1::SetAutoscaleRequest FakeAgent::autoscale_set() const {
  std::lock_guard lock(mutex_);
  return autoscale_set_;
}

std::string FakeAgent::archive() const {
  std::lock_guard lock(mutex_);
  return archive_;
}

size_t FakeAgent::largest_piece() const {
  std::lock_guard lock(mutex_);
  return largest_piece_;
}

bool FakeAgent::ImportHasBegun() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return import_begun_; });
}

bool FakeAgent::ImportWasCancelled() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return import_cancelled_; });
}

void FakeAgent::Record(const google::protobuf::Message& request) {
  std::lock_guard lock(mutex_);
  last_ = request.ShortDebugString();
}

grpc::Status FakeAgent::Check(Context* context, const std::string& name) {
  std::lock_guard lock(mutex_);
  auto failure = failures_.find(name);
  if (failure == failures_.end()) return Status::OK;
  const auto [status, code, message, once] = failure->second;
  if (once) failures_.erase(failure);
  if (!code.empty()) context->AddTrailingMetadata("ctr-error", code);
  return Status(status, message);
}

grpc::Status FakeAgent::Answer(Context* context, const v1::InstanceRef& ref,
                               v1::Instance* instance) {
  if (Status status = Check(context, ref.id()); !status.ok()) return status;
  std::lock_guard lock(mutex_);
  auto known = instances_.find(ref.id());
  if (known != instances_.end()) *instance = known->second;
  instance->set_class_(ref.class_().empty() ? "web" : ref.class_());
  instance->set_id(ref.id());
  if (known == instances_.end()) {
    instance->set_state("healthy");
    instance->set_address("127.77.0.2");
    instance->set_url("http://127.77.0.2:8080");
  }
  return Status::OK;
}

grpc::Status FakeAgent::ApplyClass(Context* context, const v1::ApplyClassRequest* request,
                                   v1::ApplyClassResponse* response) {
  Record(*request);
  *response = applied;
  return Check(context, request->file_name());
}

grpc::Status FakeAgent::ListClasses(Context*, const v1::ListClassesRequest* request,
                                    v1::ListClassesResponse* response) {
  Record(*request);
  *response = classes;
  return Status::OK;
}

grpc::Status FakeAgent::GetClass(Context* context, const v1::GetClassRequest* request,
                                 v1::Class* response) {
  Record(*request);
  for (const v1::Class& class_ : classes.classes()) {
    if (class_.name() == request->name()) *response = class_;
  }
  return Check(context, request->name());
}

grpc::Status FakeAgent::RemoveClass(Context* context, const v1::RemoveClassRequest* request,
                                    v1::RemoveClassResponse*) {
  Record(*request);
  return Check(context, request->name());
}

grpc::Status FakeAgent::GetInstance(Context* context, const v1::GetInstanceRequest* request,
                                    v1::Instance* response) {
  Record(*request);
  return Answer(context, request->ref(), response);
}

grpc::Status FakeAgent::StartInstance(Context* context, const v1::StartInstanceRequest* request,
                                      v1::Instance* response) {
  Record(*request);
  return Answer(context, request->ref(), response);
}

grpc::Status FakeAgent::StopInstance(Context* context, const v1::StopInstanceRequest* request,
                                     v1::Instance* response) {
  Record(*request);
  {
    std::unique_lock lock(mutex_);
    ++stops_;
    changed_.notify_all();
    if (!changed_.wait_for(lock, kPatience, [&] { return stops_ >= stops_wanted_; })) {
      return Status(grpc::StatusCode::INTERNAL, "the other stops did not come meanwhile");
    }
  }
  return Answer(context, request->ref(), response);
}

grpc::Status FakeAgent::RestartInstance(Context* context, const v1::RestartInstanceRequest* request,
                                        v1::Instance* response) {
  Record(*request);
  return Answer(context, request->ref(), response);
}

grpc::Status FakeAgent::DestroyInstance(Context* context, const v1::DestroyInstanceRequest* request,
                                        v1::DestroyInstanceResponse* response) {
  Record(*request);
  response->set_class_(request->ref().class_().empty() ? "web" : request->ref().class_());
  return Check(context, request->ref().id());
}

grpc::Status FakeAgent::ListInstances(Context*, const v1::ListInstancesRequest* request,
                                      v1::ListInstancesResponse* response) {
  Record(*request);
  std::lock_guard lock(mutex_);
  for (const auto& [id, instance] : instances_) *response->add_instances() = instance;
  return Status::OK;
}

grpc::Status FakeAgent::InspectInstance(Context* context, const v1::InspectInstanceRequest* request,
                                        v1::InspectInstanceResponse* response) {
  Record(*request);
  *response = inspected;
  return Answer(context, request->ref(), response->mutable_instance());
}

grpc::Status FakeAgent::RenewInstance(Context* context, const v1::RenewInstanceRequest* request,
                                      v1::Instance* response) {
  Record(*request);
  return Answer(context, request->ref(), response);
}

grpc::Status FakeAgent::WaitInstance(Context* context, const v1::WaitInstanceRequest* request,
                                     v1::Instance* response) {
  Record(*request);
  if (request->state() == "frozen") {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return ended_; });
  }
  return Answer(context, request->ref(), response);
}

grpc::Status FakeAgent::ExplainRoute(Context* context, const v1::RouteRequest* request,
                                     v1::ExplainRouteResponse* response) {
  Record(*request);
  *response = explained_route;
  return Check(context, request->class_());
}

grpc::Status FakeAgent::SetAutoscale(Context* context, const v1::SetAutoscaleRequest* request,
                                     v1::ApplyClassResponse* response) {
  Record(*request);
  {
    std::lock_guard lock(mutex_);
    autoscale_set_ = *request;
  }
  *response = applied;
  return Check(context, request->class_());
}

grpc::Status FakeAgent::GetAutoscale(Context* context, const v1::GetAutoscaleRequest* request,
                                     v1::AutoscaleStatus* response) {
  Record(*request);
  *response = autoscale_status;
  return Check(context, request->class_());
}

grpc::Status FakeAgent::SimulateAutoscale(Context* context,
                                          const v1::SimulateAutoscaleRequest* request,
                                          v1::SimulateAutoscaleResponse* response) {
  Record(*request);
  *response = simulated;
  return Check(context, request->class_());
}

grpc::Status FakeAgent::Route(Context* context, const v1::RouteRequest* request,
                              v1::Instance* response) {
  Record(*request);
  v1::InstanceRef ref;
  ref.set_class_(request->class_());
  ref.set_id("instance-1");
  return Answer(context, ref, response);
}

grpc::Status FakeAgent::ImportImage(Context* context,
                                    grpc::ServerReader<v1::ImportImageRequest>* reader,
                                    v1::ImportImageResponse* response) {
  v1::ImportImageRequest request;
  bool header = reader->Read(&request);
  if (header) Record(request);
  response->add_references(request.name().empty() ? "docker.io/library/demo:latest"
                                                  : request.name());
  if (refuse_import) {
    context->AddTrailingMetadata("ctr-error", "bad_archive");
    return Status(grpc::StatusCode::INVALID_ARGUMENT, "this is no archive");
  }
  {
    std::lock_guard lock(mutex_);
    import_begun_ = true;
    changed_.notify_all();
  }
  while (reader->Read(&request)) {
    std::lock_guard lock(mutex_);
    archive_ += request.data();
    largest_piece_ = std::max(largest_piece_, request.data().size());
  }
  // A cancelled stream ends as a whole one does, and only a little later is said to be cancelled.
  auto deadline = std::chrono::steady_clock::now() + (expect_cancel ? kPatience : kPatience * 0);
  while (!context->IsCancelled() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  std::lock_guard lock(mutex_);
  import_cancelled_ = context->IsCancelled();
  changed_.notify_all();
  return Status::OK;
}

grpc::Status FakeAgent::ListImages(Context*, const v1::ListImagesRequest* request,
                                   v1::ListImagesResponse* response) {
  Record(*request);
  *response = images;
  return Status::OK;
}

grpc::Status FakeAgent::PullImage(Context* context, const v1::PullImageRequest* request,
                                  grpc::ServerWriter<v1::PullImageResponse>* writer) {
  Record(*request);
  v1::PullImageResponse response;
  v1::PulledLayer& layer = *response.add_layers();
  layer.set_digest("sha256:0123456789abcdef");
  layer.set_size_bytes(2048);
  writer->Write(response);
  layer.set_done_bytes(2048);
  response.set_unpacking(true);
  writer->Write(response);
  grpc::Status checked = Check(context, request->reference());
  if (!checked.ok()) return checked;
  response.Clear();
  response.set_reference("docker.io/library/" + request->reference());
  response.set_digest("sha256:1");
  writer->Write(response);
  return Status::OK;
}

grpc::Status FakeAgent::PruneImages(Context*, const v1::PruneImagesRequest* request,
                                    v1::PruneImagesResponse* response) {
  Record(*request);
  response->add_references("old:1");
  response->set_freed_bytes(3 << 20);
  return Status::OK;
}

grpc::Status FakeAgent::RemoveImage(Context* context, const v1::RemoveImageRequest* request,
                                    v1::RemoveImageResponse*) {
  Record(*request);
  return Check(context, request->reference());
}

grpc::Status FakeAgent::GetInfo(Context*, const v1::GetInfoRequest* request, v1::Info* response) {
  Record(*request);
  *response = info;
  return Status::OK;
}

grpc::Status FakeAgent::Diagnose(Context*, const v1::DiagnoseRequest* request,
                                 v1::Diagnosis* response) {
  Record(*request);
  *response = diagnosis;
  return Status::OK;
}

grpc::Status FakeAgent::ListEvents(Context*, const v1::ListEventsRequest* request,
                                   grpc::ServerWriter<v1::ListEventsResponse>* writer) {
  Record(*request);
  for (const v1::ListEventsResponse& response : events) writer->Write(response);
  return events_end;
}

grpc::Status FakeAgent::ExplainInstance(Context* context, const v1::ExplainInstanceRequest* request,
                                        v1::ExplainInstanceResponse* response) {
  Record(*request);
  *response = explained;
  return Answer(context, request->ref(), response->mutable_instance());
}

grpc::Status FakeAgent::ListStats(Context*, const v1::ListStatsRequest* request,
                                  v1::ListStatsResponse* response) {
  Record(*request);
  std::lock_guard lock(mutex_);
  if (!stats.empty()) *response = stats[std::min(stats_calls_++, stats.size() - 1)];
  return Status::OK;
}

grpc::Status FakeAgent::ReadLogs(Context* context, const v1::ReadLogsRequest* request,
                                 grpc::ServerWriter<v1::LogRecords>* writer) {
  Record(*request);
  Status status = Check(context, request->ref().id());
  if (status.ok()) writer->Write(logs);
  return status;
}

grpc::Status FakeAgent::RunInstance(
    Context* context,
    grpc::ServerReaderWriter<v1::RunInstanceResponse, v1::RunInstanceRequest>* stream) {
  v1::RunInstanceRequest request;
  stream->Read(&request);
  Record(request);
  Status status = Check(context, request.ref().id());
  if (!status.ok()) return status;
  v1::RunInstanceResponse response;
  response.mutable_started()->set_id(request.ref().id());
  stream->Write(response);
  response.Clear();
  *response.mutable_records() = logs.records();
  stream->Write(response);
  response.Clear();
  response.set_exit_code(run_exit_code);
  stream->Write(response);
  return status;
}

}  // namespace ctr::cli
