// The file descriptors of this process, which the host limits. Some are held back from the start:
// what control needs to wake an instance must be there when clients have taken all others. Any
// thread.
#pragma once

#include <cerrno>

#include "agent/base/asio.h"
#include "agent/base/fd.h"

namespace ctr {

// Raises the limit as far as the host allows, and holds some back. First thing in main, so that
// their numbers are low: a lower limit still lets them be used.
void ReserveDescriptors();

// Lets go of those held back; false if that was done before.
bool ReleaseDescriptors();

// Calls `open`, which gives a descriptor, or -1 with errno. If there are none left, releases those
// held back and calls it once more.
template <typename Open>
int OpenDescriptor(Open open) {
  const int fd = open();
  if (fd >= 0 || (errno != EMFILE && errno != ENFILE)) return fd;
  ReleaseDescriptors();
  return open();
}

// Another number for the same, close-on-exec; invalid, with errno, if there are none left.
UniqueFd CopyDescriptor(int fd);

// Whether the reserve is in use: no new client may take a descriptor then.
bool DescriptorsAreScarce();
// Whether a client's request may take one more: with the reserve in use, half of it is control's.
bool MayTakeDescriptor();

// Looks now and then whether descriptors run out, for what opens files without OpenDescriptor, and
// fills the reserve again when there is room. Never returns. On the control loop.
awaitable<void> WatchDescriptors();

}  // namespace ctr
