#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/runtime/containerd/core.h"
#include "agent/runtime/runtime.h"

// Root file systems: one of a container, which goes with it, or one of an instance, which outlives
// its containers until it is destroyed. Each is an active snapshot of ours.
namespace ctr {

using Mounts = google::protobuf::RepeatedPtrField<::containerd::types::Mount>;
using Labels = google::protobuf::Map<std::string, std::string>;

// Those of images and those of containers on top of them, as far as `filter`, in containerd's
// words, lets through; "": all. Blocks.
StatusOr<std::vector<snapshots::Info>> ListSnapshots(const ContainerdClient& client,
                                                     const std::string& filter = "");

// The snapshot of a container that is made from `spec`: named by its ID, or for a kept disk by the
// instance ("disk.web.alice": neither part has a dot).
std::string SnapshotKeyOf(const ContainerSpec& spec);

// ContainerSpec::record as labels, each within containerd's 4,096 bytes for key and value, and
// back.
void PutRecord(const std::string& record, Labels& labels);
std::string GetRecord(const Labels& labels);

struct Rootfs {
  Mounts mounts;
  bool is_new = true;         // not a kept disk that was there
  std::string image_digest;   // of the image that its files are from; "" if that is not known
  bool of_old_image = false;  // a kept disk of another one than the container is made from
};

// The value of an overlay's option, "" if it has none.
std::string OptionOf(const Mounts& mounts, absl::string_view name);

// Where the snapshotter keeps all that is this root file system's own.
StatusOr<std::string> SnapshotFolder(const Mounts& mounts);

// Makes the root file system from the image, or gives the kept one that is there, whatever image
// that was made from. What an earlier container of the same disk left goes first: two mounts of one
// disk would spoil it. Under the snapshot's lock.
awaitable<StatusOr<Rootfs>> PrepareRootfs(std::shared_ptr<Core> core, ContainerSpec spec,
                                          ResolvedImage image);

// Runtime::ListDisks and Runtime::RemoveDisk.
awaitable<StatusOr<std::vector<KeptDisk>>> ListKeptDisks(std::shared_ptr<Core> core);
awaitable<Status> RemoveKeptDisk(std::shared_ptr<Core> core, InstanceName name);

// OK if there is no such snapshot.
awaitable<Status> RemoveSnapshot(std::shared_ptr<Core> core, std::string key);

// The keys of our snapshots that no container uses; kept disks left out. One may be of a container
// in the making.
awaitable<StatusOr<std::vector<std::string>>> UnusedSnapshots(std::shared_ptr<Core> core);

// Every container of ours as containerd has it. By a stream: a message of all of them would be too
// long from some hundred on.
awaitable<StatusOr<std::vector<containers::Container>>> ListRecords(std::shared_ptr<Core> core);

}  // namespace ctr
