#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "tests/unit/tar/folder.h"

namespace ctr::tar {
namespace {

struct stat StatusOf(const std::string& path) {
  struct stat status = {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status;
}

void SetTime(const std::string& path, timespec time) {
  const timespec times[2] = {time, time};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

void Copies(const std::string& archive, const std::string& path) {
  StatusOr<Totals> totals = UnpackText(archive, {.path = path});
  INFO(totals.status().ToString());
  REQUIRE(totals.ok());
}

Status Refused(const std::string& archive, const std::string& path) {
  return UnpackText(archive, {.path = path}).status();
}

}  // namespace

TEST_CASE("a tree comes out as it went in: contents, modes, times, links, empty directories") {
  Folder from;
  Folder to;
  const std::string tree = from / "tree";
  const std::string deep = tree + "/" + std::string(120, 'd') + "/" + std::string(200, 'e');
  std::filesystem::create_directories(deep);
  std::filesystem::create_directory(tree + "/empty");
  const std::string content(1000001, 'x');
  Write(deep + "/big", content);
  Write(tree + "/nothing", "");
  std::filesystem::create_symlink("/etc/" + std::string(150, 'l'), tree + "/link");
  std::filesystem::create_hard_link(deep + "/big", tree + "/same");
  ::chmod((deep + "/big").c_str(), 04751);
  ::chmod((tree + "/empty").c_str(), 0555);
  SetTime(deep + "/big", {.tv_sec = 1000000000, .tv_nsec = 123456789});
  SetTime(tree + "/link", {.tv_sec = 5, .tv_nsec = 0});
  SetTime(tree + "/nothing", {.tv_sec = -5, .tv_nsec = 0});
  SetTime(tree + "/empty", {.tv_sec = 77, .tv_nsec = 7});
  SetTime(tree, {.tv_sec = 99, .tv_nsec = 0});

  Copies(Packed(tree), to.path());
  CHECK(to.List() == from.List());
  const std::string copy = to / ("tree" + deep.substr(tree.size()));
  CHECK(Read(copy + "/big") == content);
  CHECK(StatusOf(copy + "/big").st_mode == (S_IFREG | 0751));  // setuid is taken away
  CHECK(StatusOf(copy + "/big").st_mtim.tv_sec == 1000000000);
  CHECK(StatusOf(copy + "/big").st_mtim.tv_nsec == 123456789);
  CHECK(StatusOf(copy + "/big").st_ino == StatusOf(to / "tree/same").st_ino);
  CHECK(std::filesystem::read_symlink(to / "tree/link").string().size() == 155);
  CHECK(StatusOf(to / "tree/link").st_mtim.tv_sec == 5);
  CHECK(StatusOf(to / "tree/nothing").st_mtim.tv_sec == -5);
  CHECK(StatusOf(to / "tree/empty").st_mode == (S_IFDIR | 0555));
  CHECK(StatusOf(to / "tree/empty").st_mtim.tv_nsec == 7);
  CHECK(StatusOf(to / "tree").st_mtim.tv_sec == 99);
}

TEST_CASE("with preserve, setuid stays") {
  Folder folder;
  Write(folder / "a", "x");
  ::chmod((folder / "a").c_str(), 06755);
  REQUIRE(UnpackText(Packed(folder / "a"), {.path = folder / "b", .preserve = true}).ok());
  CHECK(StatusOf(folder / "b").st_mode == (S_IFREG | 06755));
}

TEST_CASE("a file goes into a directory, onto a file, or to a new name, as docker cp does it") {
  Folder folder;
  Write(folder / "a", "new");
  const std::string archive = Packed(folder / "a");
  std::filesystem::create_directory(folder / "dir");
  Copies(archive, folder / "dir");
  Copies(archive, folder / "b");
  Write(folder / "c", "old, and longer");
  Copies(archive, folder / "c");
  CHECK(Read(folder / "dir/a") == "new");
  CHECK(Read(folder / "b") == "new");
  CHECK(Read(folder / "c") == "new");
  CHECK(folder.List() == "a\nb\nc\ndir\ndir/a\n");

  CHECK(absl::IsNotFound(Refused(archive, folder / "none/")));
  CHECK(absl::IsNotFound(Refused(archive, folder / "none/x")));
  CHECK_FALSE(Refused(archive, folder / "a/").ok());
  std::filesystem::create_directories(folder / "d2/a");
  CHECK_FALSE(Refused(archive, folder / "d2").ok());  // a directory has its place
}

TEST_CASE("a directory goes into a directory or to a new name; its contents with /.") {
  Folder folder;
  std::filesystem::create_directories(folder / "src/sub");
  Write(folder / "src/sub/f", "x");
  std::filesystem::create_directory(folder / "into");
  std::filesystem::create_directory(folder / "bare");
  Copies(Packed(folder / "src"), folder / "into");
  Copies(Packed(folder / "src/."), folder / "bare");
  Copies(Packed(folder / "src/"), folder / "new/");
  Copies(Packed(folder / "src/."), folder / "new2");
  for (const char* copy : {"into/src/sub/f", "bare/sub/f", "new/sub/f", "new2/sub/f"}) {
    CHECK(Read(folder / copy) == "x");
  }
  Write(folder / "file", "");
  CHECK_FALSE(Refused(Packed(folder / "src"), folder / "file").ok());
  // Once more, over itself.
  Copies(Packed(folder / "src"), folder / "into");
  CHECK(Read(folder / "into/src/sub/f") == "x");
}

TEST_CASE(
    "a symlink is copied as one, unless it is to be followed; a target that is one is followed") {
  Folder folder;
  Write(folder / "file", "content");
  std::filesystem::create_symlink("file", folder / "link");
  Copies(Packed(folder / "link"), folder / "copy");
  CHECK(std::filesystem::read_symlink(folder / "copy") == "file");
  Copies(Packed(folder / "link", true), folder / "followed");
  CHECK(std::filesystem::is_regular_file(std::filesystem::symlink_status(folder / "followed")));

  Write(folder / "new", "newer");
  Copies(Packed(folder / "new"), folder / "link");
  CHECK(Read(folder / "file") == "newer");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  std::filesystem::create_directory(folder / "dir");
  std::filesystem::create_symlink("dir", folder / "dirlink");
  Copies(Packed(folder / "new"), folder / "dirlink");
  CHECK(Read(folder / "dir/new") == "newer");
}

TEST_CASE("FIFOs and the like are left out of a directory, and said") {
  Folder folder;
  std::filesystem::create_directory(folder / "src");
  REQUIRE(::mkfifo((folder / "src/fifo").c_str(), 0600) == 0);
  Write(folder / "src/file", "x");
  Text sink;
  StatusOr<Totals> totals = Pack({folder / "src"}, Own(), &sink);
  REQUIRE(totals.ok());
  CHECK(totals->left_out == 1);
  CHECK(totals->first_left_out == "src/fifo");
  CHECK(totals->entries == 2);
  CHECK_FALSE(Pack({folder / "src/fifo"}, Own(), &sink).ok());
  // Nor is one written to, or replaced.
  CHECK_FALSE(Refused(Packed(folder / "src/file"), folder / "src/fifo").ok());
}

TEST_CASE("what is not there is said by name") {
  Text sink;
  Status status = Pack({"/nonexistent/path"}, Own(), &sink).status();
  CHECK(absl::IsNotFound(status));
  CHECK(std::string(status.message()).find("/nonexistent/path") != std::string::npos);
}

}  // namespace ctr::tar
