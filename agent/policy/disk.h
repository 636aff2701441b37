#pragma once

#include <cstdint>

namespace ctr::policy {

// The file system of the data directory.
struct DiskView {
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;  // for us
  bool reserved = false;   // the reserve is held
  bool full = false;       // as it was decided last
  bool refused = false;    // a write failed for want of room since then
  bool first = false;  // nothing was decided yet: an earlier agent may have given the reserve up
};

struct DiskPlan {
  bool full = false;  // changes are refused: what room there is belongs to wakes
  enum class Step { kNone, kRelease, kReserve } step = Step::kNone;
  int64_t given_up_bytes = 0;  // of the reserve: free then, and to be held back again
};

// How much is held back: 64 MiB, which many starts need less than, or a tenth of a small disk.
int64_t ReserveBytes(int64_t total_bytes);

// The disk is full when a write was refused or less than an eighth of the reserve is free (at
// first, if it is not held, less than it takes to make it), and no longer when the reserve fits in
// again with a quarter of it to spare: in between nothing changes, so that it does not go to and
// fro.
DiskPlan DecideDisk(const DiskView& view);

}  // namespace ctr::policy
