#include "agent/runtime/containerd/create.h"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/base/project_quota.h"
#include "agent/base/read_file.h"
#include "agent/base/signal_name.h"
#include "agent/base/work.h"
#include "agent/runtime/containerd/disk.h"
#include "agent/runtime/containerd/errors.h"
#include "agent/runtime/containerd/instance_files.h"
#include "agent/runtime/containerd/internet.h"
#include "agent/runtime/containerd/mount_check.h"
#include "agent/runtime/containerd/remove.h"
#include "github.com/containerd/containerd/runtime/v2/runc/options/oci.pb.h"

namespace ctr {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// How long a task may take to appear after the call that makes it was given up on our side.
constexpr milliseconds kLateTask(2000);
constexpr int kUndoAttempts = 60;

OciSpecInput SpecInput(const Core& core, const ContainerSpec& spec, const ResolvedImage& image,
                       InstanceFiles files, const std::optional<Internet>& internet) {
  OciSpecInput input;
  input.image = image.config;
  input.user = std::move(files.user);
  input.volumes = std::move(files.mount_points.volumes);
  input.image_volumes = std::move(files.mount_points.image_volumes);
  input.etc_folder = std::move(files.etc_folder);
  input.etc_paths = std::move(files.mount_points.etc);
  input.entrypoint = spec.entrypoint;
  input.command = spec.command;
  input.env = spec.env;
  input.workdir = spec.workdir;
  input.hostname = spec.hostname;
  input.cgroups_path = core.CgroupPath(spec.id);
  input.resources = spec.resources;
  input.nofile = spec.nofile;
  input.read_only = spec.read_only;
  input.security = spec.security;
  if (internet) {
    input.network_namespace = internet->NamespacePath();
    input.resolv_conf = internet->resolv_conf;
  }
  return input;
}

// What is mounted in a container whose process waits to be started, and its network. Blocks.
Status CheckAndPrepare(const OpenedProcess& opened, const ContainerMounts& mounts) {
  const std::string mountinfo =
      ReadFileText(absl::StrCat("/proc/", opened.process->pid(), "/mountinfo"));
  // One that has exited runs nothing.
  if (!opened.process->HasExited()) CTR_RETURN_IF_ERROR(CheckMountPoints(mountinfo, mounts));
  return opened.netns->PrepareLoopback();
}

containers::CreateContainerRequest RecordOf(const Core& core, const ContainerSpec& spec,
                                            const std::string& image_digest,
                                            std::optional<int> stop_signal, std::string spec_text) {
  containers::CreateContainerRequest request;
  containers::Container& record = *request.mutable_container();
  record.set_id(spec.id);
  record.set_image(spec.image);
  record.set_snapshotter(kSnapshotter);
  record.set_snapshot_key(SnapshotKeyOf(spec));
  auto& labels = *record.mutable_labels();
  labels[label::kAgent] = core.options.agent_id;
  labels[label::kClass] = spec.name.class_name;
  labels[label::kId] = spec.name.id;
  labels[label::kGeneration] = absl::StrCat(spec.generation);
  labels[label::kRevision] = spec.revision;
  labels[label::kImageDigest] = image_digest;
  PutRecord(spec.record, labels);
  if (stop_signal.has_value()) labels[label::kStopSignal] = absl::StrCat(*stop_signal);

  ::containerd::runc::v1::Options options;
  options.set_root(core.options.Paths().runc_root);
  record.mutable_runtime()->set_name("io.containerd.runc.v2");
  record.mutable_runtime()->mutable_options()->set_type_url("containerd.runc.v1.Options");
  record.mutable_runtime()->mutable_options()->set_value(options.SerializeAsString());
  record.mutable_spec()->set_type_url("types.containerd.io/opencontainers/runtime-spec/1/Spec");
  record.mutable_spec()->set_value(std::move(spec_text));
  return request;
}

// Blocks. The root file system is not in use.
StatusOr<InstanceFiles> LimitAndPrepareFiles(const Core& core, const ContainerSpec& spec,
                                             const ImageConfig& image, const Rootfs& rootfs) {
  CTR_ASSIGN_OR_RETURN(std::string folder, SnapshotFolder(rootfs.mounts));
  CTR_RETURN_IF_ERROR(LimitSnapshot(folder, core.options.agent_id, spec.resources.disk_bytes));
  return PrepareFiles(spec, image, rootfs);
}

// Percent-encoded, for the path and for a value of the query alike.
std::string UrlEncode(const std::string& text) {
  std::string url;
  for (unsigned char c : text) {
    if (absl::ascii_isalnum(c) ||
        absl::StrContains("/-_.~", std::string(1, static_cast<char>(c)))) {
      url.push_back(static_cast<char>(c));
    } else {
      absl::StrAppend(&url, "%", absl::Hex(c, absl::kZeroPad2));
    }
  }
  return url;
}

// The shim runs the logger itself, with the query's keys and values as its arguments.
std::string LoggerUrl(const Core& core, const ContainerSpec& spec) {
  return absl::StrCat("binary://", UrlEncode(core.options.logger_path),
                      "?folder=", UrlEncode(spec.log.folder),
                      "&max_size=", spec.log.limits.max_size_bytes,
                      "&files=", spec.log.limits.files, "&generation=", spec.generation);
}

// A call that ended so may still be at work in containerd.
bool MayStillHappen(const Status& status) {
  return absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status) ||
         absl::IsCancelled(status);
}

// Without its container's record a task can't be removed: before the record goes, a late task gets
// time to appear.
awaitable<void> AwaitLateTask(std::shared_ptr<Core> core, std::string id) {
  MonoTime deadline = core->clock->Now() + kLateTask;
  while (core->clock->Now() < deadline) {
    tasks::GetRequest request;
    request.set_container_id(id);
    StatusOr<tasks::GetResponse> task =
        co_await core->client.Call(&TasksApi::Get, std::move(request), {.wait_for_ready = true});
    if (task.ok() || core->client.closed()) co_return;
    co_await core->clock->SleepUntil(core->clock->Now() + milliseconds(100));
  }
}

awaitable<StatusOr<int>> CreateTask(std::shared_ptr<Core> core, std::string id, std::string output,
                                    ProgramSource source, Mounts mounts) {
  tasks::CreateTaskRequest request;
  request.set_container_id(id);
  *request.mutable_rootfs() = std::move(mounts);
  request.set_stdout(std::move(output));
  request.set_stderr(request.stdout());
  StatusOr<tasks::CreateTaskResponse> task =
      co_await core->client.Call(&TasksApi::Create, std::move(request), {.timeout = seconds(60)});
  if (task.ok()) co_return static_cast<int>(task->pid());
  if (MayStillHappen(task.status())) co_await AwaitLateTask(core, id);
  co_return StartError(task.status(), source);
}

// The interface is made while containerd and runc make the task, which takes longer.
awaitable<StatusOr<int>> CreateWithInternet(std::shared_ptr<Core> core, std::string id,
                                            Internet internet, awaitable<StatusOr<int>> task) {
  using asio::experimental::awaitable_operators::operator&&;
  auto [pid, given] = co_await (std::move(task) && GiveInternet(core, id, internet.netns));
  CTR_CO_RETURN_IF_ERROR(given);
  co_return pid;
}

// The image may be removed, or its name moved, after it was looked up: then once more, with what
// has the name now.
awaitable<StatusOr<Rootfs>> PrepareFromImage(std::shared_ptr<Core> core, ContainerSpec spec,
                                             ResolvedImage& image) {
  StatusOr<Rootfs> rootfs = co_await PrepareRootfs(core, spec, image);
  if (!absl::IsNotFound(rootfs.status())) co_return rootfs;
  CTR_CO_ASSIGN_OR_RETURN(image, co_await core->image_store.ResolveUnpacked(spec.image));
  co_return co_await PrepareRootfs(core, spec, image);
}

// Everything between the image and the task; what fails here is undone by the caller, together with
// `new_disk`, the kept disk that was made for it, or "".
awaitable<StatusOr<Container>> Make(std::shared_ptr<Core> core, ContainerSpec spec,
                                    ResolvedImage image, std::string& new_disk) {
  std::optional<Internet> internet;
  if (spec.internet) {
    CTR_CO_ASSIGN_OR_RETURN(internet, co_await PrepareInternet(core));
  }
  CTR_CO_ASSIGN_OR_RETURN(Rootfs rootfs, co_await PrepareFromImage(core, spec, image));
  if (spec.keep_disk && rootfs.is_new) new_disk = SnapshotKeyOf(spec);
  const std::string image_digest = rootfs.image_digest.empty() ? image.digest : rootfs.image_digest;
  ProgramSource source{.image = spec.image,
                       .old_disk = rootfs.of_old_image ? spec.name.ToString() : ""};
  CTR_CO_ASSIGN_OR_RETURN(InstanceFiles files,
                          co_await OnWork(core->work, [core, spec, config = image.config, rootfs] {
                            return LimitAndPrepareFiles(*core, spec, config, rootfs);
                          }));
  const OciSpecInput input = SpecInput(*core, spec, image, std::move(files), internet);
  CTR_CO_ASSIGN_OR_RETURN(std::string text, BuildOciSpec(input, core->host));
  std::optional<int> stop_signal = ParseSignal(image.config.stop_signal);
  StatusOr<containers::CreateContainerResponse> record = co_await core->client.Call(
      &ContainersApi::Create, RecordOf(*core, spec, image_digest, stop_signal, std::move(text)));
  if (!record.ok()) co_return Annotate(record.status(), "cannot create the container");
  awaitable<StatusOr<int>> task = CreateTask(core, spec.id, LoggerUrl(*core, spec),
                                             std::move(source), std::move(rootfs.mounts));
  StatusOr<int> pid = internet
                          ? co_await CreateWithInternet(core, spec.id, *internet, std::move(task))
                          : co_await std::move(task);
  if (!pid.ok()) co_return pid.status();
  StatusOr<OpenedProcess> opened = OpenProcess(*core, spec.id, *pid);
  if (absl::IsNotFound(opened.status())) {
    co_return Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed,
                    "its process was gone before the program could be started: look whether the "
                    "class's resources (pids, memory) are enough, and whether the host has memory");
  }
  if (!opened.ok()) co_return opened.status();
  CTR_CO_RETURN_IF_ERROR(
      co_await OnWork(core->work, [opened = *opened, mounts = MountsOf(input, core->host)] {
        return CheckAndPrepare(opened, mounts);
      }));
  core->processes[spec.id] = opened->process;

  Container container;
  container.id = std::move(spec.id);
  container.name = std::move(spec.name);
  container.generation = spec.generation;
  container.revision = std::move(spec.revision);
  container.image_digest = image_digest;
  container.phase = ContainerPhase::kCreated;
  container.pid = *pid;
  container.netns = std::move(opened->netns);
  container.stop_signal = stop_signal;
  container.record = std::move(spec.record);
  co_return container;
}

awaitable<StatusOr<Container>> MakeWithoutThrowing(std::shared_ptr<Core> core, ContainerSpec spec,
                                                   ResolvedImage image, std::string& new_disk) {
  try {
    co_return co_await Make(std::move(core), std::move(spec), std::move(image), new_disk);
  } catch (const std::exception& exception) {
    co_return absl::InternalError(absl::StrCat("cannot create the container: ", exception.what()));
  }
}

awaitable<Status> Undo(std::shared_ptr<Core> core, std::string id, std::string new_disk) {
  CTR_CO_RETURN_IF_ERROR(co_await RemoveContainer(core, id));
  if (new_disk.empty()) co_return absl::OkStatus();
  co_return co_await RemoveSnapshot(core, new_disk);
}

// Nobody else gets the disk before it is gone.
awaitable<void> UndoLater(std::shared_ptr<Core> core, std::string id, std::string new_disk,
                          KeyedLocks::Lock disk_lock) {
  for (int attempt = 0; attempt < kUndoAttempts; ++attempt) {
    co_await core->clock->SleepUntil(core->clock->Now() + seconds(1));
    Status undone = co_await Undo(core, id, new_disk);
    if (undone.ok() || core->client.closed()) co_return;
    spdlog::warn("cannot yet remove the container {}: {}", id, std::string(undone.message()));
  }
}

}  // namespace

awaitable<StatusOr<Container>> CreateContainer(std::shared_ptr<Core> core, ContainerSpec spec) {
  const std::string id = spec.id;
  KeyedLocks::Lock container_lock = co_await core->containers.Acquire(id);
  CTR_CO_ASSIGN_OR_RETURN(ResolvedImage image, co_await core->image_store.Resolve(spec.image));
  KeyedLocks::Lock disk_lock = co_await core->disks.Acquire(SnapshotKeyOf(spec));
  std::string new_disk;
  StatusOr<Container> made =
      co_await MakeWithoutThrowing(core, std::move(spec), std::move(image), new_disk);
  if (made.ok()) co_return made;
  Status undone = co_await Undo(core, id, new_disk);
  if (!undone.ok()) {
    asio::co_spawn(core->control, UndoLater(core, id, new_disk, std::move(disk_lock)),
                   asio::detached);
  }
  co_return made;
}

}  // namespace ctr
