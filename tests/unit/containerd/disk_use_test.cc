#include "agent/runtime/containerd/disk_use.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/base/disk_room.h"
#include "agent/base/read_file.h"
#include "tests/fakes/temp_folder.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kSize = 4 * kMiB;

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

TEST_CASE("names of one file are no files") {
  TempFolder folder;
  folder.Write("file", "x");
  for (int i = 0; i < 99; ++i) {
    fs::create_hard_link(folder.path() / "file", folder.path() / std::to_string(i));
  }
  CHECK(CountFiles(folder.path()).files == 1);
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

// A process that makes a file of 4 MiB on an overlay file system, removes its name, and does with
// it as it is told.
class Holder {
 public:
  explicit Holder(void (*hold)(int file, int ready)) {
    for (const char* name : {"lower", "upper", "work", "merged"}) {
      fs::create_directory(folder_.path() / name);
    }
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      const int file = OpenUnlinked();
      if (file >= 0) hold(file, ready[1]);
      ::_exit(1);
    }
    ::close(ready[1]);
    char byte;
    holds_ = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
  }
  Holder(const Holder&) = delete;
  ~Holder() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  bool holds() const { return holds_; }
  int pid() const { return pid_; }

 private:
  int OpenUnlinked() const {
    const std::string here = folder_.path();
    const std::string options =
        "lowerdir=" + here + "/lower,upperdir=" + here + "/upper,workdir=" + here + "/work";
    const std::string place = here + "/merged";
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("overlay", place.c_str(), "overlay", 0, options.c_str()) != 0) {
      return -1;
    }
    const std::string path = place + "/file";
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const std::string text = Text(kSize);
    const bool is_written = ::write(file, text.data(), text.size()) == kSize;
    return ::fsync(file) == 0 && ::unlink(path.c_str()) == 0 && is_written ? file : -1;
  }

  TempFolder folder_;
  pid_t pid_ = -1;
  bool holds_ = false;
};

void Tell(int ready) {
  if (::write(ready, "x", 1) != 1) ::_exit(1);
}

TEST_CASE("a file without a name counts while its process holds it open, or mapped alone") {
  const auto opened = [](int, int ready) {
    Tell(ready);
    ::pause();
  };
  const auto mapped = [](int file, int ready) {
    if (::mmap(nullptr, kSize, PROT_READ, MAP_SHARED, file, 0) == MAP_FAILED) return;
    ::close(file);
    Tell(ready);
    ::pause();
  };
  for (const auto hold : {+opened, +mapped}) {
    const Holder holder(hold);
    if (!holder.holds()) {
      MESSAGE("needs root");
      return;
    }
    const DiskAmount amount = CountUnlinked({holder.pid(), holder.pid()});
    CHECK(IsAbout(amount.bytes, kSize));
    CHECK(amount.files == 1);
    CHECK(amount.whole);
  }
}

TEST_CASE("a file without a name counts if its process's first thread has ended") {
  const Holder holder([](int, int ready) {
    std::thread([ready] {
      // Zombie: the first thread, which nobody waits for.
      const std::string stat = absl::StrCat("/proc/", ::getpid(), "/stat");
      while (!absl::StrContains(ReadFileText(stat), ") Z ")) std::this_thread::yield();
      Tell(ready);
      ::pause();
    }).detach();
    ::syscall(SYS_exit, 0);
  });
  if (!holder.holds()) {
    MESSAGE("needs root");
    return;
  }
  CHECK(IsAbout(CountUnlinked({holder.pid()}).bytes, kSize));
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
