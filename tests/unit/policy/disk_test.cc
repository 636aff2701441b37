#include "agent/policy/disk.h"

#include <doctest/doctest.h>

namespace ctr::policy::disk_test {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

DiskView View(int64_t free_mib, bool reserved, bool full) {
  return {.total_bytes = 10'000 * kMiB,
          .free_bytes = free_mib * kMiB,
          .reserved = reserved,
          .full = full};
}

TEST_CASE("64 MiB are held back, of a small disk a tenth") {
  CHECK(ReserveBytes(10'000 * kMiB) == 64 * kMiB);
  CHECK(ReserveBytes(100 * kMiB) == 10 * kMiB);
}

TEST_CASE("with room the reserve is made, and held as long as 8 MiB are free beside it") {
  CHECK(DecideDisk(View(1000, false, false)).step == DiskPlan::Step::kReserve);
  CHECK(DecideDisk(View(8, true, false)).step == DiskPlan::Step::kNone);
  CHECK_FALSE(DecideDisk(View(8, true, false)).full);
}

TEST_CASE(
    "a disk with less than that, or that refused a write, is full, and its reserve given up") {
  DiskPlan plan = DecideDisk(View(7, true, false));
  CHECK(plan.full);
  CHECK(plan.step == DiskPlan::Step::kRelease);
  DiskView refused = View(1000, true, false);
  refused.refused = true;
  plan = DecideDisk(refused);
  CHECK(plan.full);
  CHECK(plan.step == DiskPlan::Step::kRelease);
}

TEST_CASE("what the reserve gave free does not end the shortage; room for it and more does") {
  CHECK(DecideDisk(View(70, false, true)).full);
  CHECK(DecideDisk(View(79, false, true)).step == DiskPlan::Step::kNone);
  const DiskPlan plan = DecideDisk(View(80, false, true));
  CHECK_FALSE(plan.full);
  CHECK(plan.step == DiskPlan::Step::kReserve);
}

TEST_CASE("the reserve counts as given up from when the disk is full until it is made again") {
  CHECK(DecideDisk(View(8, true, false)).given_up_bytes == 0);
  CHECK(DecideDisk(View(7, true, false)).given_up_bytes == 64 * kMiB);
  CHECK(DecideDisk(View(71, false, true)).given_up_bytes == 64 * kMiB);
  CHECK(DecideDisk(View(80, false, true)).given_up_bytes == 0);
  // Where none could be made.
  CHECK(DecideDisk(View(50, false, false)).given_up_bytes == 0);
}

TEST_CASE("a disk without room for the reserve at the start is full, as an earlier agent left it") {
  DiskView view = View(63, false, false);
  CHECK_FALSE(DecideDisk(view).full);
  view.first = true;
  CHECK(DecideDisk(view).full);
  // 64 MiB of it were the reserve, given up a moment ago.
  view.free_bytes = 72 * kMiB;
  CHECK(DecideDisk(view).full);
  view.reserved = true;
  CHECK_FALSE(DecideDisk(view).full);
}

}  // namespace
}  // namespace ctr::policy::disk_test
