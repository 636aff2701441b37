#include "agent/tar/inside.h"

#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "agent/tar/bytes.h"
#include "agent/tar/outcome.h"
#include "agent/tar/pack.h"
#include "agent/tar/unpack.h"

namespace ctr::tar {
namespace {

constexpr int kMountNamespace = 3;
constexpr int kFirstProcess = 4;

// What it takes to read and write files as root, and nothing more: no devices, mounts or processes.
constexpr uint32_t kKept = 1U << CAP_CHOWN | 1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH |
                           1U << CAP_FOWNER | 1U << CAP_FSETID;

Status DropCapabilities() {
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    const bool kept = capability < 32 && (kKept >> capability & 1) != 0;
    if (!kept && ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
      return ErrnoError(errno, "cannot drop a capability");
    }
  }
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  data[0].effective = data[0].permitted = kKept;
  if (::syscall(SYS_capset, &header, data) != 0)
    return ErrnoError(errno, "cannot drop capabilities");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return ErrnoError(errno, "no_new_privs");
  return absl::OkStatus();
}

Status Enter() {
  // Root and working directory become the container's.
  if (::setns(kMountNamespace, CLONE_NEWNS) != 0) {
    return ErrnoError(errno, "cannot enter the instance's file system");
  }
  ::close(kMountNamespace);
  pollfd exited = {.fd = kFirstProcess, .events = POLLIN, .revents = 0};
  if (::poll(&exited, 1, 0) != 0) return absl::AbortedError("the instance stopped meanwhile");
  return DropCapabilities();
}

StatusOr<Totals> Copy(int argc, char** argv) {
  if (argc < 5) return absl::InternalError("too few arguments");
  const std::string_view verb = argv[2];
  CTR_ASSIGN_OR_RETURN(OwnDescriptors own, OwnDescriptors::Open());
  CTR_RETURN_IF_ERROR(Enter());
  if (verb == "pack") {
    FdSink sink(STDOUT_FILENO, kFirstProcess);
    return Pack({.path = argv[3], .follow_link = argv[4] == std::string_view("follow")}, own,
                &sink);
  }
  if (verb != "unpack" || argc < 6) return absl::InternalError("unknown arguments");
  FdSource source(STDIN_FILENO, kFirstProcess);
  return Unpack({.path = argv[3],
                 .extract = argv[4] == std::string_view("extract"),
                 .preserve = argv[5] == std::string_view("preserve"),
                 .top = ""},
                own, &source);
}

}  // namespace

int RunInside(int argc, char** argv) {
  ::prctl(PR_SET_NAME, "ctr-copy");
  // Both ends say so by errors.
  ::signal(SIGPIPE, SIG_IGN);
  ::umask(0);
  const StatusOr<Totals> outcome = Copy(argc, argv);
  const Status told = FdSink(STDERR_FILENO).Write(OutcomeText(outcome));
  return outcome.ok() && told.ok() ? 0 : 1;
}

}  // namespace ctr::tar
