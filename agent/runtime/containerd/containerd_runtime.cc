#include "agent/runtime/containerd/containerd_runtime.h"

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "agent/base/project_quota.h"
#include "agent/base/work.h"
#include "agent/runtime/apparmor.h"
#include "agent/runtime/containerd/collect.h"
#include "agent/runtime/containerd/containerd_process.h"
#include "agent/runtime/containerd/core.h"
#include "agent/runtime/containerd/create.h"
#include "agent/runtime/containerd/disk.h"
#include "agent/runtime/containerd/disk_use.h"
#include "agent/runtime/containerd/errors.h"
#include "agent/runtime/containerd/exec.h"
#include "agent/runtime/containerd/internet.h"
#include "agent/runtime/containerd/observe.h"
#include "agent/runtime/containerd/remove.h"
#include "agent/runtime/containerd/shielded.h"
#include "agent/runtime/containerd/sweep.h"

namespace ctr {
namespace {

// Debian's "1.6.20~ds1" is containerd 1.6.20.
std::string ShortVersion(const std::string& version) {
  return version.substr(0, version.find('~'));
}

awaitable<Status> StartContainer(std::shared_ptr<Core> core, std::string id) {
  co_await core->changes.Pass();
  containers::GetContainerRequest get;
  get.set_id(id);
  tasks::StartRequest request;
  request.set_container_id(id);
  StatusOr<tasks::StartResponse> started = co_await core->client.Call(
      &TasksApi::Start, std::move(request), {.timeout = std::chrono::seconds(60)});
  if (started.ok()) co_return absl::OkStatus();
  StatusOr<containers::GetContainerResponse> record =
      co_await core->client.Call(&ContainersApi::Get, std::move(get));
  co_return StartError(started.status(),
                       {.image = record.ok() ? record->container().image() : "", .old_disk = ""});
}

awaitable<StatusOr<Container>> CreateInTurn(std::shared_ptr<Core> core, ContainerSpec spec) {
  co_await core->changes.Pass();
  co_return co_await CreateContainer(core, std::move(spec));
}

awaitable<Status> SignalContainer(std::shared_ptr<Core> core, std::string id, int signal) {
  co_await core->changes.Pass();
  // Past containerd: it may be away just now, and is three times as slow.
  if (auto found = core->processes.find(id); found != core->processes.end()) {
    co_return found->second->Signal(signal);
  }
  tasks::KillRequest request;
  request.set_container_id(id);
  request.set_signal(static_cast<uint32_t>(signal));
  co_return (co_await core->client.Call(&TasksApi::Kill, std::move(request))).status();
}

// Each keeps the core, and with it the image store, until it is over.
awaitable<Status> CheckImageOf(std::shared_ptr<Core> core, std::string reference) {
  co_return (co_await core->image_store.ResolveUnpacked(std::move(reference))).status();
}

awaitable<StatusOr<std::vector<std::string>>> ImportImagesOf(std::shared_ptr<Core> core,
                                                             UniqueFd archive, std::string name,
                                                             MakeImageRoom make_room) {
  co_return co_await core->image_store.Import(std::move(archive), std::move(name),
                                              std::move(make_room));
}

awaitable<StatusOr<PulledImage>> PullImageOf(std::shared_ptr<Core> core, PullRequest request,
                                             Runtime::ReportPull report) {
  co_await core->changes.Pass();
  co_return co_await core->image_pulls.Pull(core, std::move(request), std::move(report));
}

awaitable<StatusOr<PrunedImages>> PruneImagesOf(std::shared_ptr<Core> core, PruneRequest request) {
  co_await core->changes.Pass();
  co_return co_await core->image_store.Prune(std::move(request));
}

awaitable<StatusOr<std::vector<ImageSummary>>> ListImagesOf(std::shared_ptr<Core> core) {
  co_return co_await core->image_store.List();
}

awaitable<Status> RemoveImageOf(std::shared_ptr<Core> core, std::string reference) {
  co_return co_await core->image_store.Remove(std::move(reference));
}

awaitable<void> AwaitReconnectOf(std::shared_ptr<Core> core) {
  co_await core->reconnected->WaitUntil(MonoTime::max());
}

// A creation of it that goes on though its caller was cancelled ends first, whatever it comes to.
awaitable<Status> RemoveInTurn(std::shared_ptr<Core> core, std::string id) {
  KeyedLocks::Lock lock = co_await core->containers.Acquire(id);
  co_await core->changes.Pass();
  co_return co_await RemoveContainer(core, std::move(id));
}

awaitable<Status> RemoveDiskInTurn(std::shared_ptr<Core> core, InstanceName name) {
  co_await core->changes.Pass();
  co_return co_await RemoveKeptDisk(core, std::move(name));
}

// For a look after which something is changed.
awaitable<StatusOr<std::vector<Container>>> ListInTurn(std::shared_ptr<Core> core) {
  co_await core->changes.Pass();
  co_return co_await ListContainers(core);
}

awaitable<StatusOr<std::vector<std::string>>> SweepInTurn(std::shared_ptr<Core> core,
                                                          Runtime::IsAlive is_alive) {
  co_await core->changes.Pass();
  co_return co_await SweepRemains(core, std::move(is_alive));
}

}  // namespace

awaitable<StatusOr<std::unique_ptr<ContainerdRuntime>>> ContainerdRuntime::Open(
    ContainerdOptions options, Clock* clock, asio::any_io_executor control,
    asio::any_io_executor work, asio::any_io_executor transfers) {
  if (!transfers) transfers = work;
  CTR_CO_ASSIGN_OR_RETURN(Cgroups cgroups, Cgroups::Detect());
  CTR_CO_RETURN_IF_ERROR(CheckSocketPath(options.Socket()));
  std::shared_ptr<ContainerdProcess> process;
  if (!options.external_socket.has_value()) {
    process = std::make_shared<ContainerdProcess>(clock, options.Paths());
    CTR_CO_RETURN_IF_ERROR(co_await process->EnsureRunning());
  }
  OciHost host = DetectOciHost();
  AppArmor apparmor = co_await OnWork(work, [] { return LoadAppArmor(); });
  host.has_apparmor = apparmor.enabled;
  host.apparmor = apparmor.profile;
  if (!apparmor.warning.empty()) host.warnings.push_back(apparmor.warning);
  if (!options.external_socket && !CheckProjectQuotas(options.Paths().root).ok()) {
    host.warnings.push_back(absl::StrCat(
        "resources.disk does not hold: the file system of ", options.Paths().root,
        " has no project quotas; below [disk] min_free the instance that fills it is stopped"));
  }
  for (const std::string& warning : host.warnings) spdlog::warn("{}", warning);
  auto core = std::make_shared<Core>(std::move(options), clock, control, std::move(work),
                                     std::move(transfers), std::move(cgroups), std::move(host));
  StatusOr<version::VersionResponse> version =
      co_await core->client.Call(&VersionApi::Version, {}, {.timeout = std::chrono::seconds(5)});
  if (!version.ok()) {
    co_return Annotate(version.status(), "start containerd, or name its socket with --containerd");
  }
  CTR_CO_RETURN_IF_ERROR(
      Annotate(co_await SweepSnapshots(core), "cannot look for left-over snapshots"));
  CTR_CO_RETURN_IF_ERROR(Annotate(co_await core->image_store.DropUnfinished(),
                                  "cannot let go of an unfinished import"));
  CTR_CO_RETURN_IF_ERROR(co_await EndLeftExecs(core));

  std::unique_ptr<ContainerdRuntime> runtime(
      new ContainerdRuntime(core, std::move(process), ShortVersion(version->version())));
  runtime->Watch();
  CollectLater(core);
  co_return runtime;
}

ContainerdRuntime::ContainerdRuntime(std::shared_ptr<Core> core,
                                     std::shared_ptr<ContainerdProcess> process,
                                     std::string version)
    : core_(std::move(core)),
      process_(std::move(process)),
      version_(std::move(version)),
      threads_(core_->cgroups, core_->CgroupPath(Core::kAgentCgroup)) {}

ContainerdRuntime::~ContainerdRuntime() {
  StopWatching();
  core_->client.Close();
  core_->closed->Ring();
}

void ContainerdRuntime::Watch() {
  if (process_ == nullptr) return;
  stop_watching_ = std::make_shared<asio::cancellation_signal>();
  asio::co_spawn(core_->control,
                 ContainerdProcess::KeepRunning(process_,
                                                [core = core_] {
                                                  core->reconnected->Ring();
                                                  CollectLater(core);
                                                }),
                 asio::bind_cancellation_slot(stop_watching_->slot(),
                                              [signal = stop_watching_](std::exception_ptr) {}));
}

void ContainerdRuntime::StopWatching() {
  if (stop_watching_) stop_watching_->emit(asio::cancellation_type::terminal);
}

void ContainerdRuntime::OpenInternet(std::function<void(Event)> tell) {
  SpawnOrDie(core_->control, KeepInternet(core_, std::move(tell)), "the way out of instances");
}

Status ContainerdRuntime::InternetStatus() const { return core_->egress_status; }

awaitable<void> ContainerdRuntime::LetGo() {
  core_->changes.Close();
  StopWatching();
  co_await core_->egress_rests.Pass();
}

void ContainerdRuntime::TakeBack() {
  core_->changes.Open();
  Watch();
}

awaitable<StatusOr<Container>> ContainerdRuntime::Create(ContainerSpec spec) {
  return Shielded<StatusOr<Container>>(CreateInTurn(core_, std::move(spec)),
                                       [](StatusOr<Container>) {});
}

awaitable<Status> ContainerdRuntime::Start(std::string id) {
  return Shielded<Status>(StartContainer(core_, std::move(id)), [](Status) {});
}

awaitable<Status> ContainerdRuntime::Signal(std::string id, int signal) {
  return SignalContainer(core_, std::move(id), signal);
}

awaitable<StatusOr<ContainerExit>> ContainerdRuntime::WaitExit(std::string id) {
  return WaitForExit(core_, std::move(id));
}

awaitable<StatusOr<std::unique_ptr<ExecProcess>>> ContainerdRuntime::Exec(std::string id,
                                                                          ExecSpec spec) {
  using Made = StatusOr<std::unique_ptr<ExecProcess>>;
  // What a cancelled caller did not get ends as it is destroyed.
  return Shielded<Made>(StartExec(core_, std::move(id), std::move(spec)), [](Made) {});
}

awaitable<Status> ContainerdRuntime::Remove(std::string id) {
  behind_.erase(id);
  threads_.Join(!behind_.empty());
  return Shielded<Status>(RemoveInTurn(core_, std::move(id)), [](Status) {});
}

awaitable<StatusOr<std::vector<Container>>> ContainerdRuntime::List() { return ListInTurn(core_); }

awaitable<StatusOr<std::vector<KeptDisk>>> ContainerdRuntime::ListDisks() {
  return ListKeptDisks(core_);
}

awaitable<Status> ContainerdRuntime::RemoveDisk(InstanceName name) {
  return Shielded<Status>(RemoveDiskInTurn(core_, std::move(name)), [](Status) {});
}

awaitable<StatusOr<std::vector<std::string>>> ContainerdRuntime::Sweep(IsAlive is_alive) {
  return SweepInTurn(core_, std::move(is_alive));
}

awaitable<void> ContainerdRuntime::AwaitReconnect() { return AwaitReconnectOf(core_); }

StatusOr<ResourceUsage> ContainerdRuntime::Usage(const std::string& id) const {
  return core_->cgroups.Usage(core_->CgroupPath(id));
}

StatusOr<Duration> ContainerdRuntime::CpuTime(const std::string& id) const {
  return core_->cgroups.CpuTime(core_->CgroupPath(id));
}

Status ContainerdRuntime::SetBehind(const std::string& id, bool behind) {
  const Status set = core_->cgroups.SetIdle(core_->CgroupPath(id), behind);
  if (set.ok() && behind) {
    behind_.insert(id);
  } else if (set.ok() || absl::IsNotFound(set)) {
    behind_.erase(id);
  }
  threads_.Join(!behind_.empty());
  return set;
}

void ContainerdRuntime::EnlistThread() { threads_.Enlist(); }

awaitable<StatusOr<DiskSpace>> ContainerdRuntime::Space() { return SpaceOfDisk(core_); }

awaitable<std::map<std::string, DiskAmount>> ContainerdRuntime::MeasureDisks(
    std::vector<std::string> ids) {
  return MeasureContainers(core_, std::move(ids));
}

StatusOr<ContainerFiles> ContainerdRuntime::Files(const std::string& id) const {
  auto found = core_->processes.find(id);
  if (found == core_->processes.end()) {
    return absl::NotFoundError(absl::StrCat("container ", id, " does not run"));
  }
  return OpenFiles(*core_, id, found->second);
}

awaitable<Status> ContainerdRuntime::CheckImage(std::string reference) {
  return CheckImageOf(core_, std::move(reference));
}

awaitable<StatusOr<std::vector<std::string>>> ContainerdRuntime::ImportImages(
    UniqueFd archive, std::string name, MakeImageRoom make_room) {
  return ImportImagesOf(core_, std::move(archive), std::move(name), std::move(make_room));
}

awaitable<StatusOr<PulledImage>> ContainerdRuntime::PullImage(PullRequest request,
                                                              ReportPull report) {
  return PullImageOf(core_, std::move(request), std::move(report));
}

awaitable<StatusOr<PrunedImages>> ContainerdRuntime::PruneImages(PruneRequest request) {
  using Pruned = StatusOr<PrunedImages>;
  return Shielded<Pruned>(PruneImagesOf(core_, std::move(request)), [](Pruned) {});
}

awaitable<StatusOr<std::vector<ImageSummary>>> ContainerdRuntime::ListImages() {
  return ListImagesOf(core_);
}

awaitable<Status> ContainerdRuntime::RemoveImage(std::string reference) {
  return RemoveImageOf(core_, std::move(reference));
}

std::string ContainerdRuntime::Describe() const {
  return absl::StrCat("containerd ", version_, " (",
                      core_->options.external_socket.has_value() ? "external" : "private", ", ",
                      core_->options.Socket(), ")");
}

std::vector<std::string> ContainerdRuntime::Warnings() const { return core_->host.warnings; }

}  // namespace ctr
