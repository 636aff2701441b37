#include "agent/runtime/containerd/disk_use.h"

#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "agent/base/disk_room.h"
#include "tests/fakes/temp_folder.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = int64_t{1} << 20;

std::string Text(int64_t bytes) { return std::string(static_cast<size_t>(bytes), 'x'); }

bool IsAbout(int64_t bytes, int64_t wanted) {
  CAPTURE(bytes);
  return bytes >= wanted && bytes < wanted + wanted / 10;
}

TEST_CASE("files count by the blocks that they take, in all folders") {
  TempFolder folder;
  folder.Write("a", Text(2 * kMiB));
  folder.Write("b/c/d", Text(3 * kMiB));
  fs::resize_file(folder.path() / "a", 1000 * kMiB);  // a hole
  const DiskAmount amount = CountFiles(folder.path());
  CHECK(IsAbout(amount.bytes, 5 * kMiB));
  CHECK(amount.files == 4);
  CHECK(amount.whole);
}

TEST_CASE("links lead nowhere, and several names of a file are one file") {
  TempFolder folder;
  folder.Write("inside/a", Text(4 * kMiB));
  fs::create_hard_link(folder.path() / "inside/a", folder.path() / "inside/b");
  fs::create_directory_symlink("..", folder.path() / "inside/up");
  fs::create_symlink("/usr", folder.path() / "inside/usr");
  CHECK(IsAbout(CountFiles(folder.path() / "inside").bytes, 4 * kMiB));
}

TEST_CASE("what lies too deep is not counted, and said to be there") {
  TempFolder folder;
  fs::path deep = folder.path();
  for (int i = 0; i < 250; ++i) deep /= "d";
  fs::create_directories(deep);
  const DiskAmount amount = CountFiles(folder.path());
  CHECK_FALSE(amount.whole);
  CHECK(amount.files == 200);
}

TEST_CASE("a folder that is gone takes nothing") {
  CHECK(CountFiles("/nonexistent/folder").files == 0);
  CHECK_FALSE(SpaceAt("/nonexistent/folder").ok());
}

TEST_CASE("a file system says what it has and what is free") {
  const StatusOr<DiskSpace> space = SpaceAt("/");
  REQUIRE(space.ok());
  CHECK(space->total_bytes > 0);
  CHECK(space->free_bytes <= space->total_bytes);
}

}  // namespace
}  // namespace ctr
