#include "agent/policy/disk_floor.h"

#include <doctest/doctest.h>

namespace ctr::policy::disk_floor_test {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;
constexpr MonoTime kStart = MonoTime(std::chrono::hours(1));
constexpr DiskSpace kFloor = {.free_bytes = kGiB, .free_files = 10'000};

DiskSpace Space(int64_t free_mib, int64_t free_files = 900'000) {
  return {.total_bytes = 100 * kGiB,
          .free_bytes = free_mib * kMiB,
          .total_files = 1'000'000,
          .free_files = free_files};
}

DiskSample Sample(int64_t free_mib, std::map<std::string, DiskAmount> containers) {
  return {kStart, Space(free_mib), std::move(containers)};
}

DiskFloorPlan Decide(int64_t free_mib, std::optional<int64_t> base_mib = {},
                     Duration since_base = Duration::zero()) {
  std::optional<DiskSample> base;
  if (base_mib) base = Sample(*base_mib, {});
  return DecideDiskFloor(Space(free_mib), kFloor, base, kStart + since_base);
}

TEST_CASE("the floor is a gibibyte, of a small disk a twentieth, or what is said") {
  CHECK(FloorOf(Space(0), {}).free_bytes == kGiB);
  CHECK(FloorOf({.total_bytes = kGiB}, {}).free_bytes == kGiB / 20);
  CHECK(FloorOf(Space(0), 5 * kGiB).free_bytes == 5 * kGiB);
  CHECK(FloorOf(Space(0), {}).free_files == 10'000);
}

TEST_CASE("a floor of nothing is never reached") {
  const DiskSpace none = FloorOf(Space(0), 0);
  CHECK_FALSE(DecideDiskFloor(Space(-30), none, Sample(0, {}), kStart).low);
  CHECK_FALSE(PickDiskGrower(Sample(0, {}), Sample(-30, {{"a", {.bytes = 30 * kMiB}}}), none));
  const DiskFloorPlan plan = DecideDiskFloor(Space(0, 0), none, std::nullopt, kStart);
  CHECK_FALSE(plan.low);
  CHECK_FALSE(plan.near);
  CHECK_FALSE(plan.measure);
}

TEST_CASE(
    "far above the floor what each takes is measured once, and when as much as the floor went") {
  CHECK_FALSE(Decide(50'000).near);
  CHECK(Decide(50'000).measure);
  CHECK_FALSE(Decide(49'000, 50'000).measure);
  CHECK_FALSE(Decide(49'000, 50'000, std::chrono::hours(1)).measure);
  CHECK(Decide(48'900, 50'000).measure);
}

TEST_CASE("a disk that was filled between two looks has somebody to blame") {
  const DiskFloorPlan plan = Decide(0, 50'000);
  CHECK(plan.measure);
  CHECK(plan.choose);
}

TEST_CASE("near it another is made when much of what was left has gone") {
  CHECK_FALSE(Decide(3800, 4000).measure);
  CHECK(Decide(3700, 4000).measure);
  CHECK_FALSE(Decide(3700, 4000).choose);
}

TEST_CASE("a measurement is made anew after a minute if anything has gone since") {
  CHECK_FALSE(Decide(3990, 4000, std::chrono::seconds(59)).measure);
  CHECK(Decide(3990, 4000, std::chrono::seconds(61)).measure);
  CHECK_FALSE(Decide(4000, 4000, std::chrono::hours(1)).measure);
}

TEST_CASE("a measurement is made anew when somebody made room") {
  CHECK_FALSE(Decide(2000, 1900).measure);
  CHECK(Decide(2000, 1700).measure);
  CHECK_FALSE(Decide(50'000, 49'500).measure);
  CHECK(Decide(50'000, 48'000).measure);
  CHECK_FALSE(Decide(1000, 700).choose);
}

TEST_CASE("below it one has to go as soon as enough has gone to tell who it was") {
  CHECK(Decide(1000, 1100).low);
  CHECK(Decide(1000, 1100).choose);
  CHECK(Decide(1020, 1030).low);
  CHECK_FALSE(Decide(1020, 1030).choose);
}

TEST_CASE("a disk that stands below its floor costs nobody anything") {
  CHECK(Decide(500).low);
  CHECK(Decide(500).measure);
  CHECK_FALSE(Decide(500).choose);
  CHECK_FALSE(Decide(500, 500, std::chrono::hours(1)).measure);
}

TEST_CASE("a measurement during which much went is not the whole truth") {
  CHECK(FellMeanwhile(Space(3000), Space(2900), kFloor));
  CHECK(FellMeanwhile(Space(3000), Space(3000, 890'000), kFloor));
  CHECK_FALSE(FellMeanwhile(Space(3000), Space(2990), kFloor));
  CHECK_FALSE(FellMeanwhile(Space(3000), Space(5000), kFloor));
}

TEST_CASE("files that run out are as bad as bytes") {
  const DiskSample base{kStart, Space(50'000, 10'500), {}};
  const DiskFloorPlan plan = DecideDiskFloor(Space(50'000, 9'000), kFloor, base, kStart);
  CHECK(plan.low);
  CHECK(plan.choose);
}

TEST_CASE("a file system that does not count its files has no floor of them") {
  DiskSpace space = Space(50'000);
  space.total_files = space.free_files = 0;
  CHECK_FALSE(DecideDiskFloor(space, FloorOf(space, {}), std::nullopt, kStart).near);
}

TEST_CASE("the one that grew most is to go, not the largest") {
  const DiskSample before = Sample(1200, {{"large", {.bytes = 9000 * kMiB}}, {"a", {}}, {"b", {}}});
  const DiskSample after = Sample(900, {{"large", {.bytes = 9010 * kMiB}},
                                        {"a", {.bytes = 200 * kMiB}},
                                        {"b", {.bytes = 90 * kMiB}}});
  const std::optional<DiskGrower> grower = PickDiskGrower(before, after, kFloor);
  REQUIRE(grower);
  CHECK(grower->container == "a");
  CHECK(grower->bytes == 200 * kMiB);
}

TEST_CASE("one that was started since has grown by all it has") {
  const std::optional<DiskGrower> grower = PickDiskGrower(
      Sample(1200, {{"a", {.bytes = 50 * kMiB}}}),
      Sample(900, {{"a", {.bytes = 60 * kMiB}}, {"new", {.bytes = 290 * kMiB}}}), kFloor);
  REQUIRE(grower);
  CHECK(grower->container == "new");
}

TEST_CASE("of many that fill it together the first to go is the one that did most") {
  std::map<std::string, DiskAmount> containers;
  for (int i = 0; i < 50; ++i) containers[std::to_string(i)] = {.bytes = (10 + i % 7) * kMiB};
  const std::optional<DiskGrower> grower =
      PickDiskGrower(Sample(1600, {}), Sample(900, containers), kFloor);
  REQUIRE(grower);
  CHECK(grower->bytes == 16 * kMiB);
}

TEST_CASE("nobody goes for what others than instances wrote") {
  const DiskSample before = Sample(1500, {{"a", {.bytes = 5 * kMiB}}});
  const DiskSample after = Sample(900, {{"a", {.bytes = 25 * kMiB}}});
  CHECK_FALSE(PickDiskGrower(before, after, kFloor));
}

TEST_CASE("the files of a start alone make nobody guilty") {
  CHECK_FALSE(PickDiskGrower(Sample(1000, {}), Sample(1000, {{"a", {.bytes = 40'000, .files = 9}}}),
                             kFloor));
  DiskSample before = Sample(50'000, {});
  DiskSample after = Sample(50'000, {{"a", {.files = 9}}});
  before.space.free_files = 5009;
  after.space.free_files = 5000;
  CHECK_FALSE(PickDiskGrower(before, after, kFloor));
}

TEST_CASE("on a small disk somebody goes before the little that is kept free has gone") {
  const DiskSpace floor = {.free_bytes = 2 * kMiB, .free_files = 200};
  SUBCASE("of files") {
    DiskSample before = Sample(500, {{"a", {.files = 19'000}}});
    DiskSample after = Sample(500, {{"a", {.files = 19'700}}});
    before.space.free_files = 700;
    after.space.free_files = 0;
    CHECK(DecideDiskFloor(after.space, floor, before, kStart).choose);
    CHECK(PickDiskGrower(before, after, floor));
  }
  SUBCASE("of bytes") {
    const DiskSample before = Sample(2, {});
    DiskSample after = Sample(2, {{"a", {.bytes = kMiB / 2}}});
    after.space.free_bytes -= kMiB / 2;
    CHECK(DecideDiskFloor(after.space, floor, before, kStart).choose);
    CHECK(PickDiskGrower(before, after, floor));
  }
}

TEST_CASE("where files and bytes are short both tell who it was") {
  const auto at = [](int64_t mib, int64_t files) {
    DiskSample sample = Sample(mib, {});
    sample.space.free_files = files;
    return sample;
  };
  const DiskSample before = at(900, 5000);
  DiskSample after = at(800, 5000);
  after.containers = {{"bytes", {.bytes = 100 * kMiB}}};
  CHECK(DecideDiskFloor(after.space, kFloor, before, kStart).choose);
  REQUIRE(PickDiskGrower(before, after, kFloor));
  CHECK_FALSE(PickDiskGrower(before, after, kFloor)->by_files);
  after = at(900, 3000);
  after.containers = {{"files", {.files = 2000}}};
  CHECK(DecideDiskFloor(after.space, kFloor, before, kStart).choose);
  REQUIRE(PickDiskGrower(before, after, kFloor));
  CHECK(PickDiskGrower(before, after, kFloor)->by_files);
}

TEST_CASE("where very few files are left a start alone makes nobody guilty") {
  const DiskSpace floor = {.free_bytes = kGiB, .free_files = 40};
  DiskSample before = Sample(50'000, {{"a", {}}});
  DiskSample after = Sample(50'000, {{"a", {}}, {"new", {.files = 11}}});
  before.space.free_files = 30;
  after.space.free_files = 19;
  CHECK_FALSE(PickDiskGrower(before, after, floor));
  after.containers["a"].files = 11;
  REQUIRE(PickDiskGrower(before, after, floor));
  CHECK(PickDiskGrower(before, after, floor)->container == "a");
}

TEST_CASE("of very many that each take little one goes as well") {
  std::map<std::string, DiskAmount> containers;
  for (int i = 0; i < 100; ++i) containers[std::to_string(i)] = {.bytes = kMiB / 2};
  CHECK(PickDiskGrower(Sample(1000, {}), Sample(950, containers), kFloor));
}

TEST_CASE("files that went are no reason to look who took bytes") {
  const DiskSample base{kStart, Space(900, 900'000), {}};
  const DiskFloorPlan plan = DecideDiskFloor(Space(900, 890'000), kFloor, base, kStart);
  CHECK(plan.low);
  CHECK_FALSE(plan.choose);
}

TEST_CASE("one that can't be counted goes if nobody else explains what went") {
  const DiskSample before = Sample(1500, {{"a", {.bytes = 5 * kMiB}}, {"deep", {.whole = false}}});
  const DiskSample after = Sample(900, {{"a", {.bytes = 25 * kMiB}}, {"deep", {.whole = false}}});
  const std::optional<DiskGrower> grower = PickDiskGrower(before, after, kFloor);
  REQUIRE(grower);
  CHECK(grower->container == "deep");
  CHECK_FALSE(grower->is_counted);
}

TEST_CASE("one that can't be counted goes if what is missing is more than anybody else took") {
  const DiskSample before = Sample(1500, {{"a", {}}, {"deep", {.whole = false}}});
  const auto picked = [&](int64_t mib_of_a) {
    return PickDiskGrower(
        before, Sample(500, {{"a", {.bytes = mib_of_a * kMiB}}, {"deep", {.whole = false}}}),
        kFloor);
  };
  REQUIRE(picked(300));
  CHECK(picked(300)->container == "deep");
  REQUIRE(picked(700));
  CHECK(picked(700)->container == "a");
  CHECK(picked(700)->is_counted);
}

TEST_CASE("where files run out the one that made most of them goes") {
  DiskSample before = Sample(50'000, {{"bytes", {}}, {"files", {}}});
  DiskSample after = Sample(49'000, {{"bytes", {.bytes = 1000 * kMiB, .files = 2}},
                                     {"files", {.bytes = kMiB, .files = 20'000}}});
  before.space.free_files = 25'000;
  after.space.free_files = 5'000;
  const std::optional<DiskGrower> grower = PickDiskGrower(before, after, kFloor);
  REQUIRE(grower);
  CHECK(grower->container == "files");
}

}  // namespace
}  // namespace ctr::policy::disk_floor_test
