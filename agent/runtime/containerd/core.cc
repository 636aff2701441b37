#include "agent/runtime/containerd/core.h"

#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "agent/base/descriptors.h"
#include "agent/base/living_thread.h"

namespace ctr {
namespace {

// Where somebody else's containerd unpacks is not for us to know.
std::string ImageFolder(const ContainerdOptions& options) {
  return options.external_socket ? "" : options.Paths().root;
}

}  // namespace

Core::Core(ContainerdOptions options, Clock* clock, asio::any_io_executor control,
           asio::any_io_executor work, asio::any_io_executor transfers, Cgroups cgroups,
           OciHost host)
    : options(std::move(options)),
      clock(clock),
      control(std::move(control)),
      work(work),
      cgroups(std::move(cgroups)),
      host(std::move(host)),
      client(this->options.Socket(), ContainerdNamespace(this->options.agent_id)),
      egress(this->options.ForEgress()),
      image_store(&client, std::move(work), ImageFolder(this->options)),
      image_pulls(image_store.bulk(), clock, this->control, std::move(transfers),
                  this->options.images, ImageFolder(this->options)),
      reconnected(clock->MakeAlarm(this->control)),
      containers(this->control, *clock),
      disks(this->control, *clock),
      changes(this->control, *clock),
      egress_known(this->control, *clock),
      egress_rests(this->control, *clock),
      closed(clock->MakeAlarm(this->control)) {
  egress_known.Close();
}

std::string Core::CgroupPath(const std::string& id) const {
  return absl::StrCat("/ctr/", options.agent_id, "/", id);
}

std::string ContainerdNamespace(const std::string& agent_id) { return "ctr-" + agent_id; }

StatusOr<OpenedProcess> OpenProcess(const Core& core, const std::string& id, int pid) {
  CTR_ASSIGN_OR_RETURN(Pidfd process, Pidfd::Open(pid));
  if (!ProcessIsInCgroup(pid, core.CgroupPath(id))) {
    return absl::NotFoundError(absl::StrCat("process ", pid, " is no longer the container's"));
  }
  StatusOr<NetworkNamespace> netns = NetworkNamespace::OfProcess(pid);
  if (process.HasExited()) return absl::NotFoundError(absl::StrCat("process ", pid, " has exited"));
  if (!netns.ok()) return netns.status();
  return OpenedProcess{std::make_shared<const Pidfd>(std::move(process)),
                       std::make_shared<const NetworkNamespace>(*std::move(netns))};
}

StatusOr<ContainerFiles> OpenFiles(const Core& core, const std::string& id,
                                   std::shared_ptr<const Pidfd> process) {
  const std::string path = absl::StrCat("/proc/", LivingThread(process->pid()), "/ns/mnt");
  UniqueFd mounts(OpenDescriptor([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  const int error = errno;
  const bool is_ours = ProcessIsInCgroup(process->pid(), core.CgroupPath(id));
  // If it lives now, its pid was its own all the while.
  if (process->HasExited())
    return absl::NotFoundError(absl::StrCat("container ", id, " has exited"));
  if (!mounts.valid()) return ErrnoError(error, absl::StrCat("cannot open ", path));
  if (!is_ours) {
    return absl::InternalError(
        absl::StrCat("process ", process->pid(), " is not in the cgroup of container ", id));
  }
  return ContainerFiles{std::move(process), std::move(mounts)};
}

}  // namespace ctr
