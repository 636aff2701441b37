#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include "agent/runtime/containerd/user.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

// Layers' folders, the topmost first in Dirs().
class Layers {
 public:
  Layers() {
    char folder[] = "/tmp/ctr-user-XXXXXX";
    REQUIRE(::mkdtemp(folder) != nullptr);
    folder_ = folder;
  }
  ~Layers() { fs::remove_all(folder_); }

  // Adds one on top.
  fs::path Add() {
    fs::path layer = folder_ / std::to_string(dirs_.size());
    fs::create_directories(layer / "etc");
    dirs_.insert(dirs_.begin(), layer.string());
    return layer;
  }

  const std::vector<std::string>& Dirs() const { return dirs_; }

  static void Write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

 private:
  fs::path folder_;
  std::vector<std::string> dirs_;
};

constexpr char kPasswd[] =
    "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\nbroken\n# comment\nx:x:y:z\n";
constexpr char kGroup[] =
    "root:x:0:root\nwheel:x:10:root,app\nweb:x:1001:\nextra:x:1002:other,app\nbad:x:q:app\n";

ProcessUser Must(const std::string& user, const Layers& layers) {
  auto found = ResolveUser(user, layers.Dirs());
  REQUIRE_MESSAGE(found.ok(), found.status().ToString());
  return *found;
}

}  // namespace

TEST_CASE("users and groups are found as Docker finds them") {
  Layers layers;
  fs::path layer = layers.Add();
  Layers::Write(layer / "etc/passwd", kPasswd);
  Layers::Write(layer / "etc/group", kGroup);
  CHECK(Must("", layers) == ProcessUser{0, 0, {0, 0, 10}});
  CHECK(Must("app", layers) == ProcessUser{1000, 1001, {1001, 10, 1002}});
  CHECK(Must("1000", layers) == ProcessUser{1000, 1001, {1001, 10, 1002}});
  CHECK(Must("4242", layers) == ProcessUser{4242, 0, {0}});
  CHECK(Must("app:extra", layers) == ProcessUser{1000, 1002, {1002}});
  CHECK(Must("app:77", layers) == ProcessUser{1000, 77, {77}});
  CHECK(Must("4242:web", layers) == ProcessUser{4242, 1001, {1001}});
  CHECK(Must("7:8", layers) == ProcessUser{7, 8, {8}});
  CHECK(Must(":web", layers) == ProcessUser{0, 1001, {1001}});
}

TEST_CASE("an unknown name is an error that names it, and what to do") {
  Layers layers;
  layers.Add();
  for (const char* user : {"nobody", "0:nogroup", "4294967295:web", "-1"}) {
    CAPTURE(user);
    auto found = ResolveUser(user, layers.Dirs());
    CHECK(found.status().code() == absl::StatusCode::kFailedPrecondition);
  }
  auto found = ResolveUser("nobody", layers.Dirs());
  CHECK(found.status().message().find("\"nobody\"") != std::string::npos);
  CHECK(Must("", layers) == ProcessUser{0, 0, {0}});
}

TEST_CASE("the topmost layer's file counts; a deleted one hides those below") {
  Layers layers;
  fs::path bottom = layers.Add();
  Layers::Write(bottom / "etc/passwd", "app:x:1:1::/:\n");
  fs::path middle = layers.Add();
  CHECK(Must("app", layers).uid == 1);
  Layers::Write(middle / "etc/passwd", "app:x:2:2::/:\n");
  layers.Add();
  CHECK(Must("app", layers).uid == 2);
  fs::path top = layers.Add();
  REQUIRE(::mknod((top / "etc/passwd").c_str(), S_IFCHR, ::makedev(0, 0)) == 0);
  CHECK(!ResolveUser("app", layers.Dirs()).ok());
}

TEST_CASE("a folder that was replaced or deleted hides the one below") {
  Layers layers;
  Layers::Write(layers.Add() / "etc/passwd", "app:x:1:1::/:\n");
  fs::path opaque = layers.Add();
  REQUIRE(::setxattr((opaque / "etc").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
  CHECK(!ResolveUser("app", layers.Dirs()).ok());
  Layers deleted;
  Layers::Write(deleted.Add() / "etc/passwd", "app:x:1:1::/:\n");
  fs::path top = deleted.Add();
  fs::remove(top / "etc");
  REQUIRE(::mknod((top / "etc").c_str(), S_IFCHR, ::makedev(0, 0)) == 0);
  CHECK(!ResolveUser("app", deleted.Dirs()).ok());
}

TEST_CASE("a link leads from one layer to a file in another, as in the container") {
  Layers layers;
  fs::path bottom = layers.Add();
  fs::create_directories(bottom / "nix/store");
  Layers::Write(bottom / "nix/store/passwd", "app:x:5:5::/:\n");
  Layers::Write(bottom / "etc/passwd", "app:x:1:1::/:\n");
  fs::path top = layers.Add();
  fs::create_symlink("../nix/store/passwd", top / "etc/passwd");
  CHECK(Must("app", layers).uid == 5);
  // A file that is deleted above is not there, either, and the one that the link hides stays so.
  fs::create_directories(layers.Add() / "nix/store");
  REQUIRE(::mknod((fs::path(layers.Dirs()[0]) / "nix/store/passwd").c_str(), S_IFCHR,
                  ::makedev(0, 0)) == 0);
  CHECK(!ResolveUser("app", layers.Dirs()).ok());
}

TEST_CASE("/etc that is a link, or a file, hides the /etc of the layers below") {
  Layers layers;
  fs::path bottom = layers.Add();
  Layers::Write(bottom / "etc/passwd", "app:x:1:1::/:\n");
  fs::create_directories(bottom / "usr/etc");
  Layers::Write(bottom / "usr/etc/passwd", "app:x:7:7::/:\n");
  fs::path top = layers.Add();
  fs::remove(top / "etc");
  fs::create_symlink("/usr/etc", top / "etc");
  CHECK(Must("app", layers).uid == 7);
  // A folder above a link begins anew: nothing below the link is merged into it.
  layers.Add();
  CHECK(!ResolveUser("app", layers.Dirs()).ok());
  Layers::Write(fs::path(layers.Dirs()[0]) / "etc/passwd", "app:x:8:8::/:\n");
  CHECK(Must("app", layers).uid == 8);
  fs::path file = layers.Add();
  fs::remove(file / "etc");
  Layers::Write(file / "etc", "");
  CHECK(!ResolveUser("app", layers.Dirs()).ok());
}

TEST_CASE("what runc reads before a start is a file, a small one, or not there") {
  Layers layers;
  layers.Add();
  CHECK(CheckAccountFiles(layers.Dirs()).ok());
  fs::path layer = layers.Add();
  Layers::Write(layer / "etc/passwd", kPasswd);
  fs::create_symlink("passwd", layer / "etc/group");
  CHECK(CheckAccountFiles(layers.Dirs()).ok());
  const auto refused = [&] {
    const Status status = CheckAccountFiles(layers.Dirs());
    return status.code() == absl::StatusCode::kFailedPrecondition &&
           status.message().find("/etc/group") != std::string::npos;
  };
  fs::path disk = layers.Add();
  fs::create_symlink("../tmp/pipe", disk / "etc/group");
  CHECK(CheckAccountFiles(layers.Dirs()).ok());  // it leads nowhere
  fs::create_directories(disk / "tmp");
  REQUIRE(::mkfifo((disk / "tmp/pipe").c_str(), 0644) == 0);
  CHECK(refused());
  // The kernel would find it, and so we may not give up.
  std::string far = "/";
  for (int i = 0; i < 300; ++i) far += "etc/../";
  fs::remove(disk / "etc/group");
  fs::create_symlink(far + "tmp/pipe", disk / "etc/group");
  CHECK(refused());
  fs::remove(disk / "etc/group");
  fs::create_directories(disk / "etc/group");
  CHECK(refused());
  fs::remove(disk / "etc/group");
  Layers::Write(disk / "etc/group", "");
  fs::resize_file(disk / "etc/group", 5 << 20);
  CHECK(refused());
}

TEST_CASE("no symlink of an image leads out of it, and no special file holds us up") {
  Layers layers;
  fs::path layer = layers.Add();
  fs::create_symlink("/etc/passwd", layer / "etc/passwd");  // a loop, inside the layer
  CHECK(!ResolveUser("daemon", layers.Dirs()).ok());
  fs::remove(layer / "etc/passwd");
  fs::create_symlink("../../../../../../../etc/passwd", layer / "etc/passwd");
  CHECK(!ResolveUser("daemon", layers.Dirs()).ok());
  fs::remove(layer / "etc/passwd");
  fs::create_directories(layer / "usr");
  Layers::Write(layer / "usr/passwd", "app:x:5:5::/:\n");
  fs::create_symlink("/usr/passwd", layer / "etc/passwd");
  CHECK(Must("app", layers).uid == 5);
  fs::remove(layer / "etc/passwd");
  REQUIRE(::mkfifo((layer / "etc/passwd").c_str(), 0644) == 0);
  CHECK(!ResolveUser("app", layers.Dirs()).ok());
}

}  // namespace ctr
