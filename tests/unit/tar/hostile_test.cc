// Archives that somebody made to write elsewhere, and damaged ones.
#include <random>
#include <set>

#include "agent/tar/outcome.h"
#include "agent/tar/writer.h"
#include "tests/unit/tar/folder.h"

namespace ctr::tar {
namespace {

Entry File(const std::string& path) {
  Entry entry;
  entry.path = path;
  entry.mode = 0644;
  entry.size_bytes = 4;
  return entry;
}

Entry Other(EntryType type, const std::string& path, const std::string& link = "") {
  Entry entry;
  entry.type = type;
  entry.path = path;
  entry.mode = 0755;
  entry.link = link;
  return entry;
}

std::string Archive(const std::vector<Entry>& entries) {
  Text sink;
  Writer writer(&sink);
  for (const Entry& entry : entries) {
    REQUIRE(writer.Begin(entry).ok());
    if (entry.size_bytes > 0) REQUIRE(writer.Add("evil").ok());
  }
  REQUIRE(writer.Finish().ok());
  return sink.text;
}

// What a folder with an `inside` and an `outside/secret` has after the archive was put into inside.
struct After {
  Status status;
  std::string inside;
  std::string outside;
};

After Put(const std::vector<Entry>& entries, bool extract) {
  Folder folder;
  std::filesystem::create_directory(folder / "inside");
  std::filesystem::create_directory(folder / "outside");
  Write(folder / "outside/secret", "good");
  std::vector<Entry> all = entries;
  for (Entry& entry : all) {
    if (entry.link == "OUTSIDE") entry.link = folder / "outside";
    if (entry.path == "ABSOLUTE") entry.path = folder / "outside/secret";
  }
  After after;
  after.status = UnpackText(Archive(all), {.path = folder / "inside", .extract = extract}).status();
  CHECK(Read(folder / "outside/secret") == "good");
  const std::string list = folder.List();
  after.outside = list.substr(list.find("outside"));
  after.inside = list.substr(0, list.find("outside"));
  return after;
}

}  // namespace

TEST_CASE("an archive that leads out is refused, and says how much of it was written before") {
  const std::string refused = "the archive names \"../evil\", which leads out of it; ";
  CHECK(Put({File("../evil")}, true).status.message() == refused + "nothing is written");
  CHECK(Put({File("one"), File("../evil")}, true).status.message() ==
        refused + "1 entry was written before");
  CHECK(Put({File("one"), File("two"), File("../evil")}, true).status.message() ==
        refused + "2 entries were written before");
}

TEST_CASE("directories above an entry that is not written are not left behind") {
  Folder folder;
  const std::string whole = Archive({File("a/one"), File("a/b/c/two")});
  const std::string cut = whole.substr(0, whole.find("a/b/c/two") + 512);
  Status status = UnpackText(cut, {.path = folder.path(), .extract = true}).status();
  CHECK(status.message().find("; 1 entry was written before") != std::string::npos);
  CHECK(folder.List() == "a\na/one\n");
  After after = Put({Other(EntryType::kHardLink, "x/y/name", "z/no-such")}, true);
  CHECK_FALSE(after.status.ok());
  CHECK(after.inside == "inside\n");
}

TEST_CASE("names that lead out of the archive are refused") {
  for (bool extract : {true, false}) {
    for (const char* path : {"../outside/secret", "top/../../outside/secret", "ABSOLUTE", "..",
                             "top/..", "./../outside/new"}) {
      CAPTURE(path);
      After after = Put({Other(EntryType::kDirectory, "top"), File(path)}, extract);
      CHECK(absl::IsInvalidArgument(after.status));
      CHECK(after.outside == "outside\noutside/secret\n");
    }
  }
}

TEST_CASE("a symlink of the archive is not written through") {
  for (const char* link : {"OUTSIDE", "../../outside", "../outside"}) {
    CAPTURE(link);
    for (const Entry& then :
         {File("top/link/secret"), File("top/link/new"), Other(EntryType::kDirectory, "top/link/d"),
          Other(EntryType::kSymlink, "top/link/s", "x"),
          Other(EntryType::kDirectory, "top/link")}) {
      After after = Put(
          {Other(EntryType::kDirectory, "top"), Other(EntryType::kSymlink, "top/link", link), then},
          false);
      CHECK_FALSE(after.status.ok());
      CHECK(after.outside == "outside\noutside/secret\n");
    }
  }
  // As the first entry, too, which decides where all goes.
  After after = Put({Other(EntryType::kSymlink, "top", "../outside"), File("top/secret")}, false);
  CHECK_FALSE(after.status.ok());
  CHECK(after.outside == "outside\noutside/secret\n");
}

TEST_CASE("a symlink that was there before is not written through either, even to a place inside") {
  for (const Entry& then : {File("top/link/new"), Other(EntryType::kDirectory, "top/link")}) {
    Folder folder;
    std::filesystem::create_directories(folder / "top");
    std::filesystem::create_directories(folder / "mine");
    std::filesystem::create_symlink("../mine", folder / "top/link");
    const std::string archive = Archive({Other(EntryType::kDirectory, "top"), then});
    CHECK_FALSE(UnpackText(archive, {.path = folder.path()}).ok());
    CHECK(folder.List() == "mine\ntop\ntop/link\n");
  }
}

TEST_CASE("a file takes the place of a symlink, not of what it points to") {
  After after =
      Put({Other(EntryType::kDirectory, "top"),
           Other(EntryType::kSymlink, "top/link", "../../outside/secret"), File("top/link")},
          false);
  CHECK(after.status.ok());
  CHECK(after.inside == "inside\ninside/top\ninside/top/link\n");
}

TEST_CASE("a hard link leads to files of the archive alone") {
  const Entry top = Other(EntryType::kDirectory, "top");
  CHECK(
      Put({top, File("top/a"), Other(EntryType::kHardLink, "top/b", "top/a")}, false).status.ok());
  for (const char* link : {"../outside/secret", "top/../../outside/secret", "/etc/passwd"}) {
    CHECK(absl::IsInvalidArgument(
        Put({top, Other(EntryType::kHardLink, "top/b", link)}, false).status));
  }
  // Nor through a link.
  CHECK_FALSE(Put({top, Other(EntryType::kSymlink, "top/l", "../../outside"),
                   Other(EntryType::kHardLink, "top/b", "top/l/secret")},
                  false)
                  .status.ok());
  // Nor to one that was there before.
  Folder folder;
  Write(folder / "mine", "good");
  const std::string archive = Archive({Other(EntryType::kHardLink, "b", "mine")});
  CHECK(absl::IsInvalidArgument(
      UnpackText(archive, {.path = folder.path(), .extract = true}).status()));
  CHECK(folder.List() == "mine\n");
}

TEST_CASE("a copy has one first entry, the one that was asked for, and all else below it") {
  CHECK_FALSE(Put({File("a"), File("b")}, false).status.ok());
  CHECK_FALSE(Put({File("a/b")}, false).status.ok());
  CHECK_FALSE(Put({}, false).status.ok());
  Folder folder;
  CHECK_FALSE(UnpackText(Archive({File(".bashrc")}), {.path = folder.path(), .top = "data"}).ok());
  CHECK(folder.List() == "");
  CHECK(UnpackText(Archive({File("data")}), {.path = folder.path(), .top = "data"}).ok());
}

TEST_CASE("an archive from elsewhere is unpacked below a directory, parents that it lacks made") {
  After after = Put({File("a/b/c"), File("./d"), Other(EntryType::kDirectory, "./")}, true);
  CHECK(after.status.ok());
  CHECK(after.inside == "inside\ninside/a\ninside/a/b\ninside/a/b/c\ninside/d\n");
}

TEST_CASE("an archive that is cut off anywhere fails, and leaves no half of a file") {
  const std::string archive =
      Archive({Other(EntryType::kDirectory, "top"), File("top/a"), File("top/b")});
  for (size_t size = 0; size < archive.size() - 1024; size += 128) {
    CAPTURE(size);
    Folder folder;
    CHECK_FALSE(UnpackText(archive.substr(0, size), {.path = folder.path()}).ok());
    for (const char* name : {"top/a", "top/b"}) {
      if (std::filesystem::exists(folder / name)) CHECK(Read(folder / name) == "evil");
    }
    CHECK(folder.List().find(".ctr-cp") == std::string::npos);
  }
}

TEST_CASE("an archive of noise, or with bits turned over, fails or is unpacked inside") {
  std::mt19937 random(4711);  // NOLINT: the same every time
  const std::string archive = Archive(
      {Other(EntryType::kDirectory, "top"), File("top/" + std::string(150, 'n')),
       Other(EntryType::kSymlink, "top/l", "../x"), Other(EntryType::kHardLink, "top/h", "top/l")});
  for (int round = 0; round < 300; ++round) {
    std::string damaged = archive;
    for (int i = 0; i < 3; ++i) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    if (round % 10 == 0) {
      for (char& c : damaged) c = static_cast<char>(random());
    }
    Folder folder;
    std::filesystem::create_directory(folder / "inside");
    (void)UnpackText(damaged, {.path = folder / "inside", .extract = true});
    const std::string list = folder.List();
    for (size_t at = 0; at < list.size(); at = list.find('\n', at) + 1) {
      CHECK(list.compare(at, 6, "inside") == 0);
    }
  }
}

TEST_CASE("an outcome is read as it was written") {
  StatusOr<Totals> totals = ParseOutcome(
      OutcomeText(Totals{.entries = 3, .bytes = 1 << 20, .left_out = 1, .first_left_out = "a b"}));
  REQUIRE(totals.ok());
  CHECK(totals->bytes == 1 << 20);
  CHECK(totals->first_left_out == "a b");
  Status failed = ParseOutcome(OutcomeText(absl::NotFoundError("cannot read /x"))).status();
  CHECK(failed == absl::NotFoundError("cannot read /x"));
  CHECK(absl::IsInternal(ParseOutcome("").status()));
  CHECK(absl::IsInternal(ParseOutcome("Segmentation fault").status()));
}

}  // namespace ctr::tar
