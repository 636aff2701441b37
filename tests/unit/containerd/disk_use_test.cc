#include "agent/runtime/containerd/disk_use.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>

namespace ctr {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = int64_t{1} << 20;

// A folder that goes with the test.
class Folder {
 public:
  Folder() {
    std::string path = fs::temp_directory_path() / "ctr-disk-use-XXXXXX";
    REQUIRE(::mkdtemp(path.data()) != nullptr);
    root = path;
  }
  ~Folder() { fs::remove_all(root); }

  void Write(const fs::path& name, int64_t bytes) {
    fs::create_directories((root / name).parent_path());
    std::ofstream(root / name) << std::string(static_cast<size_t>(bytes), 'x');
  }

  fs::path root;
};

bool IsAbout(int64_t bytes, int64_t wanted) {
  CAPTURE(bytes);
  return bytes >= wanted && bytes < wanted + wanted / 10;
}

TEST_CASE("files count by the blocks that they take, in all folders") {
  Folder folder;
  folder.Write("a", 2 * kMiB);
  folder.Write("b/c/d", 3 * kMiB);
  fs::resize_file(folder.root / "a", 1000 * kMiB);  // a hole
  const DiskAmount amount = CountFiles(folder.root);
  CHECK(IsAbout(amount.bytes, 5 * kMiB));
  CHECK(amount.files == 4);
  CHECK(amount.whole);
}

TEST_CASE("links lead nowhere, and several names of a file are one file") {
  Folder folder;
  folder.Write("inside/a", 4 * kMiB);
  fs::create_hard_link(folder.root / "inside/a", folder.root / "inside/b");
  fs::create_directory_symlink("..", folder.root / "inside/up");
  fs::create_symlink("/usr", folder.root / "inside/usr");
  CHECK(IsAbout(CountFiles(folder.root / "inside").bytes, 4 * kMiB));
}

TEST_CASE("what lies too deep is not counted, and said to be there") {
  Folder folder;
  fs::path deep = folder.root;
  for (int i = 0; i < 250; ++i) deep /= "d";
  fs::create_directories(deep);
  const DiskAmount amount = CountFiles(folder.root);
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
