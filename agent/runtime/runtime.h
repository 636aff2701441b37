#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/asio.h"
#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/base/netns.h"
#include "agent/base/pidfd.h"
#include "agent/base/time.h"
#include "agent/model/class_config.h"
#include "agent/model/disk_use.h"
#include "agent/model/names.h"
#include "agent/runtime/exec_process.h"

namespace ctr {

// Where a container's output goes: files below `folder`, written by ctr-logger.
struct LogTarget {
  std::string folder;  // exists
  LogLimits limits;
};

// Everything that a container is made from; each start makes a new one.
struct ContainerSpec {
  std::string id;  // a fresh ULID: containerd's container, snapshot and task
  InstanceName name;
  uint64_t generation = 0;
  std::string revision;  // of the class
  std::string image;     // normalized reference
  std::optional<std::vector<std::string>>
      entrypoint;  // replaces the image's entrypoint and its command
  std::optional<std::vector<std::string>> command;  // replaces the image's command alone
  std::map<std::string, std::string> env;  // over the image's; already has CTR_CLASS and CTR_ID
  std::optional<std::string> user;         // over the image's
  std::optional<std::string> workdir;      // over the image's
  std::string hostname;
  Resources resources;
  int nofile = 1024;
  bool read_only = false;
  std::vector<Volume> volumes;
  Security security;
  bool internet = false;   // beside `lo` it gets a way out
  bool keep_disk = false;  // its root file system is the one of its name, and outlives it
  LogTarget log;
  std::string record;  // kept with the container, and with a kept disk, and given back by List:
                       // from it control rebuilds its state
};

// What a container uses, from its cgroup.
struct ResourceUsage {
  Duration cpu_time = Duration::zero();  // of all its processes since it was created
  int64_t memory_bytes = 0;              // without what the kernel can take back at once
  std::optional<int64_t> memory_limit_bytes;
  int64_t processes = 0;
  // How often the kernel held it to its limits since it was created.
  int64_t oom_kills = 0;          // of its processes
  int64_t refused_processes = 0;  // beyond the limit of them
  // Pressure stall information, averaged over 10 s; nothing where the kernel keeps none. Parts of
  // the time in which some, or all, of its tasks that could work waited for CPU or memory.
  std::optional<double> cpu_pressure_full;
  std::optional<double> memory_pressure_some;
  std::optional<double> memory_pressure_full;
};

struct ContainerExit {
  int code = 0;  // 128+n by signal n
  bool oom_killed = false;
};

enum class ContainerPhase { kCreated, kRunning, kExited };

// A container that exists in the runtime. The labels it carries tell whose it is.
struct Container {
  std::string id;
  InstanceName name;
  uint64_t generation = 0;
  std::string revision;
  // ImageSummary::digest of what its image's name meant when it was made, or its kept disk.
  std::string image_digest;
  ContainerPhase phase = ContainerPhase::kCreated;
  int pid = 0;                                    // 0 once exited
  std::shared_ptr<const NetworkNamespace> netns;  // null once exited
  std::optional<int> stop_signal;                 // the image's STOPSIGNAL
  std::string record;                             // ContainerSpec::record
};

// A running container's file system, as its processes see it.
struct ContainerFiles {
  std::shared_ptr<const Pidfd> process;  // the first one
  UniqueFd mount_namespace;
};

// A root file system that outlives its containers.
struct KeptDisk {
  InstanceName name;
  std::string record;  // of the newest container that it was given to
};

struct ImageSummary {
  std::string reference;   // full form
  std::string digest;      // of what the name points to: a manifest or an index
  int64_t size_bytes = 0;  // manifest, config and layers, as stored
  WallTime created_at;     // in this store
};

// Sees to it that so many bytes fit into the store of images beside what is there: unused ones may
// go for them. An error if they would not fit even so. Asked on the control loop.
using MakeImageRoom = std::function<awaitable<Status>(int64_t bytes)>;

struct PulledImage {
  std::string reference;
  std::string digest;  // of what the registry has under that name: a manifest or an index
};

struct PullRequest {
  std::string reference;      // normalized
  std::string platform = {};  // "linux/arm64"; "": this host's
  bool pin = false;           // it also gets its name by digest (AtDigest), which stays what it is
  // Asked before the blobs that are not here are fetched, and once more, with 0, when all is
  // unpacked and before the name is set.
  MakeImageRoom make_room = {};
  // Asked, on the control loop, right before the names are set. An error ends the pull with it;
  // what it returns is held until the pull is over for all who asked.
  std::function<StatusOr<std::shared_ptr<void>>(const PulledImage&)> before_naming = {};
};

// How far a pull is.
struct PullProgress {
  struct Layer {
    std::string digest;
    int64_t size_bytes = 0;  // as it is transferred
    int64_t done_bytes = 0;
  };
  std::vector<Layer> layers;  // none until the manifest is there
  bool unpacking = false;
};

struct PruneRequest {
  // References that stay; asked on the control loop, and again before each removal.
  std::function<std::set<std::string>()> used;
  // Only as many go, the oldest first, as it takes to come down to that; none: all that are unused.
  std::optional<int64_t> down_to_bytes = {};
  // Nothing goes if all unused ones would not be enough; `left_bytes` is then what the others take,
  // and what pulls and imports hold that are under way.
  bool only_if_enough = false;
};

struct PrunedImages {
  std::vector<std::string> references;
  int64_t freed_bytes = 0;
  int64_t left_bytes = 0;  // what images take on the disk, packed and unpacked
};

// Runs containers and keeps images. Lives on the control loop; every call may suspend for long and
// is idempotent where it removes. Errors: NOT_FOUND (image, container), FAILED_PRECONDITION (the
// container can't be started as asked; the message says why in one line, without the runtime's own
// prefixes), UNAVAILABLE (the runtime can't be reached).
class Runtime {
 public:
  virtual ~Runtime() = default;

  // Makes snapshot, container and task, not yet started, with `lo` prepared for
  // NetworkNamespace::kInstanceAddress. Leaves nothing behind if it fails. A caller that is
  // cancelled has to Remove it: it may still be in the making.
  virtual awaitable<StatusOr<Container>> Create(ContainerSpec spec) = 0;

  // Runs the entrypoint. A missing or non-executable entrypoint is FAILED_PRECONDITION, here or
  // from Create.
  virtual awaitable<Status> Start(std::string id) = 0;

  // Sends `signal` to the first process. NOT_FOUND once it has exited.
  virtual awaitable<Status> Signal(std::string id, int signal) = 0;

  // Returns when the started container has exited, at once if it has; waits on through a restart of
  // the runtime. NOT_FOUND if there is no such task any more.
  virtual awaitable<StatusOr<ContainerExit>> WaitExit(std::string id) = 0;

  // Starts a process beside the first one. NOT_FOUND if the container does not run;
  // FAILED_PRECONDITION with command_not_found or command_not_executable if its program can't be
  // run.
  virtual awaitable<StatusOr<std::unique_ptr<ExecProcess>>> Exec(std::string id, ExecSpec spec) = 0;

  // SIGKILLs what still runs and removes task, container and snapshot, also of a Create that goes
  // on after its caller was cancelled. OK if there is nothing.
  virtual awaitable<Status> Remove(std::string id) = 0;

  // Every container of this agent.
  virtual awaitable<StatusOr<std::vector<Container>>> List() = 0;

  // The disks that are kept, and the end of one and of the containers that still use it. OK if
  // there is none.
  virtual awaitable<StatusOr<std::vector<KeptDisk>>> ListDisks() = 0;
  virtual awaitable<Status> RemoveDisk(InstanceName name) = 0;

  // Removes what is left of our containers that are gone: file systems, cgroups, mounts. Those for
  // which `is_alive` answers true, which may be in the making, are left alone; it is asked on the
  // control loop after something was found, and before that is removed. Says what it removed, a
  // line each.
  using IsAlive = std::function<bool(const std::string& container_id)>;
  virtual awaitable<StatusOr<std::vector<std::string>>> Sweep(IsAlive is_alive) = 0;

  // Returns when the runtime was away and answers again: exits may have been missed.
  virtual awaitable<void> AwaitReconnect() = 0;

  // Quick, from the kernel. NOT_FOUND if it does not run.
  virtual StatusOr<ResourceUsage> Usage(const std::string& id) const = 0;
  // The CPU time of one, of all together for "". Likewise.
  virtual StatusOr<Duration> CpuTime(const std::string& id) const = 0;
  // Whether it gets the CPU only when no other container wants it. Likewise; NOT_FOUND also if the
  // kernel has no such thing (before Linux 5.15).
  virtual Status SetBehind(const std::string& id, bool behind) = 0;

  // Of the file system that holds containers' own files. NOT_FOUND while it is not known which.
  virtual awaitable<StatusOr<DiskSpace>> Space() = 0;
  // What containers' own files take, also those without a name, but no volumes. Takes some µs for
  // each file where the file system does not count them by itself. Those that are gone are left
  // out.
  virtual awaitable<std::map<std::string, DiskAmount>> MeasureDisks(
      std::vector<std::string> ids) = 0;

  // Quick, from the kernel. NOT_FOUND if it does not run.
  virtual StatusOr<ContainerFiles> Files(const std::string& id) const = 0;

  // OK, or NOT_FOUND with what to do (`ctr image pull`, `ctr image import`).
  virtual awaitable<Status> CheckImage(std::string reference) = 0;

  // Loads a Docker or OCI archive (tar, also gzipped) from `archive`, a regular file open for
  // reading, and unpacks it. `name`: what to call the one image in it, or without a tag those
  // that have only tags (PlanImport); "" takes the archive's own names. `make_room`, unless it is
  // null, is asked, with 0, before the names are set. Returns the references.
  virtual awaitable<StatusOr<std::vector<std::string>>> ImportImages(UniqueFd archive,
                                                                     std::string name,
                                                                     MakeImageRoom make_room) = 0;
  // Pulls from a registry, and unpacks: one pull of an image however many ask for it at a time. A
  // caller that is cancelled leaves it, and the last one ends it, without a trace. `report`, unless
  // it is null, is awaited a few times a second. NOT_FOUND (unknown_image): the registry does not
  // have it, or not for the platform. ABORTED (pull_failed): everything else that is not our own
  // trouble; the message says what to do.
  using ReportPull = std::function<awaitable<void>(PullProgress)>;
  virtual awaitable<StatusOr<PulledImage>> PullImage(PullRequest request, ReportPull report) = 0;
  virtual awaitable<StatusOr<PrunedImages>> PruneImages(PruneRequest request) = 0;
  virtual awaitable<StatusOr<std::vector<ImageSummary>>> ListImages() = 0;
  virtual awaitable<Status> RemoveImage(std::string reference) = 0;

  // What it is, to show: "containerd 1.6.20 (private, /run/ctr/containerd/containerd.sock)".
  virtual std::string Describe() const = 0;

  // What instances do without because this machine can't give it, to show; a sentence each.
  virtual std::vector<std::string> Warnings() const = 0;
};

}  // namespace ctr
