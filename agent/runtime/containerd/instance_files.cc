#include "agent/runtime/containerd/instance_files.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/base/fd.h"
#include "agent/base/ipv4.h"
#include "agent/base/netns.h"
#include "agent/runtime/apparmor.h"
#include "agent/runtime/containerd/user.h"
#include "agent/runtime/etc_files.h"

namespace ctr {
namespace {

// The directories of the image's layers, the topmost first.
std::vector<std::string> LowerDirs(const Mounts& mounts) {
  std::string folders = OptionOf(mounts, "lowerdir");
  return folders.empty() ? std::vector<std::string>() : absl::StrSplit(folders, ':');
}

// All directories that the root file system is merged from, the topmost first.
std::vector<std::string> AllDirs(const Mounts& mounts) {
  std::vector<std::string> folders = LowerDirs(mounts);
  const std::string upper = OptionOf(mounts, "upperdir");
  // An image without layers has no overlay.
  folders.insert(folders.begin(), upper.empty() ? mounts[0].source() : upper);
  return folders;
}

// A new file: of one that an earlier start had, the instance may have changed everything.
Status WriteNew(const std::string& path, const std::string& text) {
  ::unlink(path.c_str());
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file.valid()) return ErrnoError(errno, absl::StrCat("cannot make ", path));
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return ErrnoError(errno == 0 ? EIO : errno, absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

StatusOr<std::string> WriteEtcFiles(const Mounts& mounts, const EtcFiles& files) {
  CTR_ASSIGN_OR_RETURN(std::string folder, SnapshotFolder(mounts));
  folder += "/etc";
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("cannot make ", folder));
  }
  CTR_RETURN_IF_ERROR(WriteNew(absl::StrCat(folder, "/", kHostsFile), files.hosts));
  CTR_RETURN_IF_ERROR(WriteNew(absl::StrCat(folder, "/", kHostnameFile), files.hostname));
  CTR_RETURN_IF_ERROR(WriteNew(absl::StrCat(folder, "/", kResolvConfFile), files.resolv_conf));
  return folder;
}

}  // namespace

StatusOr<InstanceFiles> PrepareFiles(const ContainerSpec& spec, const ImageConfig& image,
                                     const Rootfs& rootfs) {
  const Mounts& mounts = rootfs.mounts;
  if (spec.security.apparmor.empty()) {
    CTR_RETURN_IF_ERROR(HoldAppArmor());
  }
  InstanceFiles files;
  const std::vector<std::string> layers = AllDirs(mounts);
  CTR_RETURN_IF_ERROR(CheckAccountFiles(layers));
  CTR_ASSIGN_OR_RETURN(files.user, ResolveUser(spec.user.value_or(image.user), LowerDirs(mounts)));
  CTR_ASSIGN_OR_RETURN(files.mount_points, MakeMountPoints(mounts, layers,
                                                           {image.volumes, spec.volumes,
                                                            spec.read_only, rootfs.is_new}));
  EtcFilesInput etc;
  etc.hostname = spec.hostname;
  etc.addresses = {FormatIpv4(ntohl(NetworkNamespace::kInstanceAddress))};
  CTR_ASSIGN_OR_RETURN(files.etc_folder, WriteEtcFiles(mounts, MakeEtcFiles(etc)));
  return files;
}

}  // namespace ctr
