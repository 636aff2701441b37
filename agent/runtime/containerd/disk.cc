#include "agent/runtime/containerd/disk.h"

#include <set>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/base/work.h"
#include "agent/runtime/containerd/collect.h"
#include "agent/runtime/containerd/remove.h"

namespace ctr {
namespace {

constexpr char kDiskPrefix[] = "disk.";
// The collector would take a snapshot before a container refers to it, and a kept one after.
constexpr char kGcRoot[] = "containerd.io/gc.root";

std::string DiskKey(const InstanceName& name) {
  return absl::StrCat(kDiskPrefix, name.class_name, ".", name.id);
}

std::string LabelOf(const Labels& labels, const char* key) {
  auto found = labels.find(key);
  return found == labels.end() ? "" : found->second;
}

std::string OursFilter(const Core& core) {
  return absl::StrCat("labels.\"", label::kAgent, "\"==\"", core.options.agent_id, "\"");
}

void LabelSnapshot(const Core& core, const ContainerSpec& spec, const std::string& image_digest,
                   Labels& labels) {
  labels[kGcRoot] = "1";
  labels[label::kAgent] = core.options.agent_id;
  if (!spec.keep_disk) return;
  if (!image_digest.empty()) labels[label::kImageDigest] = image_digest;
  labels[label::kClass] = spec.name.class_name;
  labels[label::kId] = spec.name.id;
  PutRecord(spec.record, labels);
}

// Blocks.
StatusOr<std::vector<containers::Container>> ReadRecords(const Core& core) {
  containers::ListContainersRequest request;
  request.add_filters(OursFilter(core));
  auto context = core.client.NewContext();
  auto stream = core.client.containers()->ListStream(context.get(), request);
  std::vector<containers::Container> records;
  containers::ListContainerMessage part;
  while (stream->Read(&part)) records.push_back(std::move(*part.mutable_container()));
  CTR_RETURN_IF_ERROR(core.client.FromGrpc(stream->Finish()));
  return records;
}

// Our active snapshots; those of images are committed. Blocks.
StatusOr<std::vector<snapshots::Info>> ReadSnapshots(const Core& core) {
  CTR_ASSIGN_OR_RETURN(std::vector<snapshots::Info> found,
                       ListSnapshots(core.client, OursFilter(core)));
  std::erase_if(found, [](const auto& info) { return info.kind() != snapshots::ACTIVE; });
  return found;
}

// Removes the containers, but `except`, whose root file system is the snapshot `key`.
awaitable<Status> RemoveUsersOf(std::shared_ptr<Core> core, std::string key, std::string except) {
  CTR_CO_ASSIGN_OR_RETURN(std::vector<containers::Container> records, co_await ListRecords(core));
  for (const containers::Container& record : records) {
    if (record.snapshot_key() != key || record.id() == except) continue;
    CTR_CO_RETURN_IF_ERROR(co_await RemoveContainer(core, record.id()));
  }
  co_return absl::OkStatus();
}

// The kept disk that is there, but for its mounts; without a digest if it is of another image, and
// older than the label that says which.
awaitable<StatusOr<Rootfs>> LookAtDisk(std::shared_ptr<Core> core, std::string key,
                                       ResolvedImage image) {
  snapshots::StatSnapshotRequest request;
  request.set_snapshotter(kSnapshotter);
  request.set_key(key);
  StatusOr<snapshots::StatSnapshotResponse> found =
      co_await core->client.Call(&SnapshotsApi::Stat, std::move(request));
  if (!found.ok()) co_return Annotate(found.status(), "cannot look at the kept disk");
  Rootfs disk;
  disk.is_new = false;
  // An image that has another digest, but the same files, is no other one for a disk.
  disk.of_old_image = found->info().parent() != image.chain_id;
  disk.image_digest = disk.of_old_image ? LabelOf(found->info().labels(), label::kImageDigest)
                                        : std::move(image.digest);
  co_return disk;
}

// The disk is there. Its record becomes that of its newest container.
awaitable<StatusOr<Rootfs>> MountsOfDisk(std::shared_ptr<Core> core, ContainerSpec spec,
                                         ResolvedImage image) {
  CTR_CO_ASSIGN_OR_RETURN(Rootfs disk,
                          co_await LookAtDisk(core, DiskKey(spec.name), std::move(image)));
  snapshots::UpdateSnapshotRequest update;
  update.set_snapshotter(kSnapshotter);
  update.mutable_info()->set_name(DiskKey(spec.name));
  LabelSnapshot(*core, spec, disk.image_digest, *update.mutable_info()->mutable_labels());
  update.mutable_update_mask()->add_paths("labels");
  StatusOr<snapshots::UpdateSnapshotResponse> updated =
      co_await core->client.Call(&SnapshotsApi::Update, std::move(update));
  // An older record is better than no start.
  if (!updated.ok()) {
    spdlog::warn("{}: cannot write the record of its disk: {}", spec.name.ToString(),
                 std::string(updated.status().message()));
  }
  snapshots::MountsRequest request;
  request.set_snapshotter(kSnapshotter);
  request.set_key(DiskKey(spec.name));
  StatusOr<snapshots::MountsResponse> mounts =
      co_await core->client.Call(&SnapshotsApi::Mounts, std::move(request));
  if (!mounts.ok()) co_return Annotate(mounts.status(), "cannot use the kept disk");
  disk.mounts = std::move(*mounts->mutable_mounts());
  co_return disk;
}

}  // namespace

StatusOr<std::vector<snapshots::Info>> ListSnapshots(const ContainerdClient& client,
                                                     const std::string& filter) {
  snapshots::ListSnapshotsRequest request;
  request.set_snapshotter(kSnapshotter);
  if (!filter.empty()) request.add_filters(filter);
  auto context = client.NewContext();
  auto stream = client.snapshots()->List(context.get(), request);
  std::vector<snapshots::Info> found;
  snapshots::ListSnapshotsResponse part;
  while (stream->Read(&part)) {
    for (snapshots::Info& info : *part.mutable_info()) found.push_back(std::move(info));
  }
  CTR_RETURN_IF_ERROR(client.FromGrpc(stream->Finish()));
  return found;
}

std::string SnapshotKeyOf(const ContainerSpec& spec) {
  return spec.keep_disk ? DiskKey(spec.name) : spec.id;
}

std::string OptionOf(const Mounts& mounts, absl::string_view name) {
  for (const auto& mount : mounts) {
    for (const std::string& option : mount.options()) {
      absl::string_view value = option;
      if (absl::ConsumePrefix(&value, absl::StrCat(name, "="))) return std::string(value);
    }
  }
  return "";
}

StatusOr<std::string> SnapshotFolder(const Mounts& mounts) {
  std::string upper = OptionOf(mounts, "upperdir");
  // An image without layers has no overlay.
  if (upper.empty() && !mounts.empty()) upper = mounts[0].source();
  const size_t slash = upper.rfind('/');
  if (slash == std::string::npos || slash == 0) {
    return absl::InternalError(
        absl::StrCat("containerd gave a root file system of an unknown form, \"", upper, "\""));
  }
  return upper.substr(0, slash);
}

void PutRecord(const std::string& record, Labels& labels) {
  constexpr size_t kPiece = 4000;
  size_t at = 0;
  for (int i = 0; at < record.size(); ++i) {
    size_t end = std::min(at + kPiece, record.size());
    // Each label is text by itself: not in the middle of a character of UTF-8.
    while (end < record.size() && end > at + 1 && (record[end] & 0xC0) == 0x80) --end;
    labels[absl::StrCat(label::kRecord, i)] = record.substr(at, end - at);
    at = end;
  }
}

std::string GetRecord(const Labels& labels) {
  std::string record;
  for (int i = 0;; ++i) {
    auto piece = labels.find(absl::StrCat(label::kRecord, i));
    if (piece == labels.end()) return record;
    record += piece->second;
  }
}

awaitable<StatusOr<Rootfs>> PrepareRootfs(std::shared_ptr<Core> core, ContainerSpec spec,
                                          ResolvedImage image) {
  if (spec.keep_disk) {
    CTR_CO_RETURN_IF_ERROR(Annotate(co_await RemoveUsersOf(core, DiskKey(spec.name), spec.id),
                                    "cannot free the kept disk"));
  }
  snapshots::PrepareSnapshotRequest request;
  request.set_snapshotter(kSnapshotter);
  request.set_key(SnapshotKeyOf(spec));
  request.set_parent(image.chain_id);
  LabelSnapshot(*core, spec, image.digest, *request.mutable_labels());
  StatusOr<snapshots::PrepareSnapshotResponse> response =
      co_await core->client.Call(&SnapshotsApi::Prepare, std::move(request));
  if (spec.keep_disk && absl::IsAlreadyExists(response.status())) {
    co_return co_await MountsOfDisk(std::move(core), std::move(spec), std::move(image));
  }
  if (!response.ok()) co_return Annotate(response.status(), "cannot prepare the root file system");
  co_return Rootfs{.mounts = std::move(*response->mutable_mounts()),
                   .image_digest = std::move(image.digest)};
}

awaitable<StatusOr<std::vector<KeptDisk>>> ListKeptDisks(std::shared_ptr<Core> core) {
  StatusOr<std::vector<snapshots::Info>> found =
      co_await OnWork(core->work, [core] { return ReadSnapshots(*core); });
  if (!found.ok()) co_return found.status();
  std::vector<KeptDisk> disks;
  for (const snapshots::Info& info : *found) {
    const InstanceName name{LabelOf(info.labels(), label::kClass),
                            LabelOf(info.labels(), label::kId)};
    if (info.name() == DiskKey(name)) disks.push_back({name, GetRecord(info.labels())});
  }
  co_return disks;
}

awaitable<Status> RemoveKeptDisk(std::shared_ptr<Core> core, InstanceName name) {
  KeyedLocks::Lock lock = co_await core->disks.Acquire(DiskKey(name));
  CTR_CO_RETURN_IF_ERROR(co_await RemoveUsersOf(core, DiskKey(name), ""));
  co_return co_await RemoveSnapshot(std::move(core), DiskKey(name));
}

awaitable<Status> RemoveSnapshot(std::shared_ptr<Core> core, std::string key) {
  snapshots::RemoveSnapshotRequest request;
  request.set_snapshotter(kSnapshotter);
  request.set_key(key);
  Status removed = (co_await core->client.Call(&SnapshotsApi::Remove, std::move(request))).status();
  CollectLater(core);
  if (absl::IsNotFound(removed)) co_return absl::OkStatus();
  co_return Annotate(removed, absl::StrCat("cannot remove the file system of ", key));
}

awaitable<StatusOr<std::vector<std::string>>> UnusedSnapshots(std::shared_ptr<Core> core) {
  // The snapshots first: a container is made after its snapshot.
  StatusOr<std::vector<snapshots::Info>> found =
      co_await OnWork(core->work, [core] { return ReadSnapshots(*core); });
  if (!found.ok()) co_return found.status();
  CTR_CO_ASSIGN_OR_RETURN(std::vector<containers::Container> records, co_await ListRecords(core));
  std::set<std::string> used;
  for (const containers::Container& record : records) used.insert(record.snapshot_key());
  std::vector<std::string> unused;
  for (const snapshots::Info& info : *found) {
    if (!used.contains(info.name()) && !absl::StartsWith(info.name(), kDiskPrefix)) {
      unused.push_back(info.name());
    }
  }
  co_return unused;
}

awaitable<StatusOr<std::vector<containers::Container>>> ListRecords(std::shared_ptr<Core> core) {
  StatusOr<std::vector<containers::Container>> records =
      co_await OnWork(core->work, [core] { return ReadRecords(*core); });
  if (!records.ok()) co_return Annotate(records.status(), "cannot list the containers");
  co_return records;
}

}  // namespace ctr
