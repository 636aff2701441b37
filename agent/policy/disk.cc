#include "agent/policy/disk.h"

#include <algorithm>

namespace ctr::policy {

int64_t ReserveBytes(int64_t total_bytes) {
  constexpr int64_t kReserve = int64_t{64} << 20;
  return std::min(kReserve, total_bytes / 10);
}

DiskPlan DecideDisk(const DiskView& view) {
  const int64_t reserve = ReserveBytes(view.total_bytes);
  const int64_t enough = reserve + reserve / 4;
  // Without a reserve at the start, what there is may be what an earlier agent gave up.
  const int64_t least = view.first && !view.reserved ? enough : reserve / 8;
  const bool full = view.refused || view.free_bytes < least;
  const bool room = !full && view.free_bytes >= enough;
  DiskPlan plan;
  plan.full = full || (view.full && !room);
  if (full && view.reserved) plan.step = DiskPlan::Step::kRelease;
  if (room && !view.reserved) plan.step = DiskPlan::Step::kReserve;
  // One that is full no longer has its reserve again, or can't have one.
  const bool lacks_reserve = !view.reserved || plan.step == DiskPlan::Step::kRelease;
  if (plan.full && lacks_reserve) plan.given_up_bytes = reserve;
  return plan;
}

}  // namespace ctr::policy
