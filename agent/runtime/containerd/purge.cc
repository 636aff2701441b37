#include "agent/runtime/containerd/purge.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/base/read_file.h"
#include "agent/network/egress.h"
#include "agent/runtime/containerd/collect.h"
#include "agent/runtime/containerd/containerd_process.h"
#include "agent/runtime/containerd/core.h"
#include "agent/runtime/containerd/disk.h"
#include "agent/runtime/containerd/observe.h"
#include "agent/runtime/containerd/remains.h"
#include "agent/runtime/containerd/remove.h"
#include "agent/runtime/containerd/sweep.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A shim's own socket lies outside of our folders; its bundle names it.
void RemoveShimSockets(const ContainerdPaths& paths) {
  std::error_code error;
  for (fs::recursive_directory_iterator it(paths.state + "/io.containerd.runtime.v2.task", error),
       end;
       !error && it != end; it.increment(error)) {
    if (it.depth() == 2) it.disable_recursion_pending();
    if (it.depth() != 2 || it->path().filename() != "address") continue;
    std::string address = ReadFileText(it->path());
    absl::string_view path = address;
    if (absl::ConsumePrefix(&path, "unix://")) ::unlink(std::string(path).c_str());
  }
}

awaitable<Status> RemoveContainers(std::shared_ptr<Core> core) {
  StatusOr<std::vector<Container>> found = co_await ListContainers(core);
  if (!found.ok()) co_return found.status();
  Status first;
  for (const Container& container : *found)
    first.Update(co_await RemoveContainer(core, container.id));
  StatusOr<std::vector<KeptDisk>> disks = co_await ListKeptDisks(core);
  if (disks.ok()) {
    for (const KeptDisk& disk : *disks) first.Update(co_await RemoveKeptDisk(core, disk.name));
  }
  first.Update(disks.status());
  first.Update(co_await SweepSnapshots(core));
  co_return first;
}

// Images, leases and what hangs on them, then the namespace itself.
awaitable<Status> RemoveNamespace(std::shared_ptr<Core> core) {
  StatusOr<images::ListImagesResponse> images = co_await core->client.Call(&ImagesApi::List, {});
  if (!images.ok()) co_return images.status();
  for (const auto& image : images->images()) {
    images::DeleteImageRequest remove;
    remove.set_name(image.name());
    Status removed = (co_await core->client.Call(&ImagesApi::Delete, std::move(remove))).status();
    if (!removed.ok() && !absl::IsNotFound(removed)) co_return removed;
  }
  StatusOr<leases::ListResponse> leases = co_await core->client.Call(&LeasesApi::List, {});
  if (!leases.ok()) co_return leases.status();
  for (const auto& lease : leases->leases()) {
    leases::DeleteRequest remove;
    remove.set_id(lease.id());
    Status removed = (co_await core->client.Call(&LeasesApi::Delete, std::move(remove))).status();
    if (!removed.ok() && !absl::IsNotFound(removed)) co_return removed;
  }
  CTR_CO_RETURN_IF_ERROR(co_await Collect(core));
  namespaces::DeleteNamespaceRequest remove;
  remove.set_name(core->client.containerd_namespace());
  Status removed = (co_await core->client.Call(&NamespacesApi::Delete, std::move(remove))).status();
  if (absl::IsNotFound(removed)) co_return absl::OkStatus();
  co_return Annotate(removed, absl::StrCat("cannot remove containerd's namespace ",
                                           core->client.containerd_namespace()));
}

// Past containerd: what is left when it could not be asked, too.
awaitable<Status> RemovePrivate(ContainerdProcess& process, Clock* clock) {
  const ContainerdPaths& paths = process.paths();
  Status first = co_await process.Stop();
  MonoTime deadline = clock->Now() + seconds(5);
  std::vector<Shim> shims = ShimsOf(paths.socket);
  for (const Shim& shim : shims) {
    shim.process.Signal(SIGKILL).IgnoreError();
    while (!shim.process.HasExited() && clock->Now() < deadline) {
      co_await clock->SleepUntil(clock->Now() + milliseconds(5));
    }
  }
  RemoveShimSockets(paths);
  first.Update(RemoveFolder(paths.run));
  first.Update(RemoveFolder(paths.data));
  co_return first;
}

}  // namespace

awaitable<Status> PurgeContainerd(ContainerdOptions options, Clock* clock,
                                  asio::any_io_executor control, asio::any_io_executor work) {
  CTR_CO_ASSIGN_OR_RETURN(Cgroups cgroups, Cgroups::Detect());
  const bool is_private = !options.external_socket.has_value();
  const std::string cgroup = absl::StrCat("/ctr/", options.agent_id);
  ContainerdProcess process(clock, options.Paths());
  Status asked;
  // Without a folder nothing was ever made.
  if (!is_private || fs::exists(process.paths().data)) {
    if (is_private) asked = co_await process.EnsureRunning();
    if (asked.ok()) {
      auto core = std::make_shared<Core>(options, clock, control, work, work, cgroups);
      asked = co_await RemoveContainers(core);
      if (!is_private && asked.ok()) asked = co_await RemoveNamespace(core);
    }
  }
  Status first = cgroups.Remove(cgroup);
  first.Update(Egress(options.ForEgress()).Purge());
  cgroups.RemoveIfEmpty("/ctr");
  if (is_private) {
    // Whatever a containerd of our own could not do goes with its folders.
    first.Update(co_await RemovePrivate(process, clock));
  } else {
    first.Update(asked);
    first.Update(RemoveFolder(process.paths().run));
  }
  co_return first;
}

}  // namespace ctr
