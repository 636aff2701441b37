#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include <doctest/doctest.h>

#include "agent/store/sqlite/database.h"
#include "tests/integration/store/store_fixture.h"

namespace ctr {
namespace {

// A tiny file system, in a mount namespace that ends with the process.
class SmallDisk {
 public:
  SmallDisk() {
    static const bool is_private = [] {
      return ::unshare(CLONE_NEWNS) == 0 &&
             ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    }();
    REQUIRE_MESSAGE(is_private, "this test mounts a tmpfs: run it as root");
    REQUIRE(::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=1m") == 0);
  }
  ~SmallDisk() { ::umount2(folder_.path().c_str(), MNT_DETACH); }

  std::string StatePath() const { return folder_.StatePath(); }

  void Fill() {
    std::ofstream filler(FillerPath(), std::ios::binary);
    const std::string block(4096, 'x');
    while (filler.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  void MakeRoom() { std::filesystem::remove(FillerPath()); }
  void MakeReadOnly() {
    REQUIRE(::mount("none", folder_.path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0);
  }

 private:
  std::string FillerPath() const { return folder_.path() / "filler"; }

  TemporaryFolder folder_;
};

std::string Refusal(const std::string& path) {
  StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(path);
  REQUIRE_FALSE(store.ok());
  std::string message(store.status().message());
  CHECK(message.find(path) != std::string::npos);
  CHECK(message.find('\n') == std::string::npos);
  return message;
}

PutClass BigClass(const std::string& name, uint32_t address) {
  return PutClass{MakeClass(name, address, std::string(100'000, 'x'))};
}

}  // namespace

TEST_CASE("a full disk refuses the commit, and the store works again once there is room") {
  SmallDisk disk;
  auto store = OpenStore(disk.StatePath());
  CHECK(Commit(*store, {PutInstance{MakeInstance("before", 1)}}).ok());
  disk.Fill();
  Status status = Commit(*store, {PutInstance{MakeInstance("lost", 2)}, BigClass("big", 3)});
  CHECK(absl::IsResourceExhausted(status));
  CHECK(status.message().find("disk full: ") == 0);
  CHECK(status.message().find(disk.StatePath()) != absl::string_view::npos);
  store->WriteBehind({BigClass("behind", 4)});
  CHECK(Load(*store).classes.empty());

  disk.MakeRoom();
  CHECK(Commit(*store, {PutInstance{MakeInstance("after", 2)}}).ok());
  StoredState state = Load(*store);
  REQUIRE(state.instances.size() == 2);
  CHECK(state.instances[0].name.id == "after");
  CHECK(state.instances[1].name.id == "before");
  // What was written behind was tried again.
  REQUIRE(state.classes.size() == 1);
  CHECK(state.classes[0].config.name == "behind");
}

TEST_CASE("a full disk refuses a new state file") {
  SmallDisk disk;
  disk.Fill();
  CHECK(Refusal(disk.StatePath()).find("disk full") != std::string::npos);
}

TEST_CASE("a state file that can't be written is refused") {
  SmallDisk disk;
  OpenStore(disk.StatePath()).reset();
  disk.MakeReadOnly();
  CHECK(Refusal(disk.StatePath()).find("Read-only file system") != std::string::npos);
  CHECK(Refusal("/nonexistent/state.db").find("No such file") != std::string::npos);
  CHECK(Refusal("/dev/null/state.db").find("Not a directory") != std::string::npos);
  CHECK(Refusal("/proc").find("directory") != std::string::npos);
}

TEST_CASE("a row that this version can't read is refused at load") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  CHECK(Commit(*store, {PutInstance{MakeInstance("alice", 2)}}).ok());
  StatusOr<sqlite::Database> other = sqlite::Database::Open(folder.StatePath());
  REQUIRE(other.ok());
  // As if this had been written: the checksums are right.
  const std::string seal =
      "UPDATE instances SET sum = row_sum(class, id, address, env, entrypoint, desired, "
      "created_at, "
      "command), observed_sum = row_sum(class, id, state, reason, exit_code, message, generation, "
      "container_id, revision, since, failures, next_start);";
  for (const char* damage : {"state = 'flying'", "env = '5:abc'", "env = '1:a'", "entrypoint = 'x'",
                             "desired = ''", "env = '99999999999999999999:a'"}) {
    INFO(damage);
    REQUIRE(other->Execute("UPDATE instances SET " + std::string(damage) + ";" + seal).ok());
    StatusOr<StoredState> state = Await(store->Load());
    CHECK(absl::IsDataLoss(state.status()));
    CHECK(state.status().message().find("web/alice") != absl::string_view::npos);
    REQUIRE(other
                ->Execute("UPDATE instances SET state = 'stopped', env = '', entrypoint = NULL, "
                          "desired = 'running';" +
                          seal)
                .ok());
  }
  CHECK(Await(store->Load()).ok());
}

TEST_CASE("a state file of a newer version is refused and left as it is") {
  TemporaryFolder folder;
  OpenStore(folder.StatePath()).reset();
  {
    StatusOr<sqlite::Database> newer = sqlite::Database::Open(folder.StatePath());
    REQUIRE(newer.ok());
    REQUIRE(newer->Execute("PRAGMA user_version = 99; UPDATE about SET version = 99").ok());
  }
  const std::string message = Refusal(folder.StatePath());
  CHECK(message.find("newer") != std::string::npos);
  CHECK(message.find("99") != std::string::npos);
  StatusOr<sqlite::Database> after = sqlite::Database::Open(folder.StatePath());
  REQUIRE(after.ok());
  CHECK(*after->QueryText("PRAGMA user_version") == "99");
}

TEST_CASE("a state file of version 0 is brought up to date") {
  TemporaryFolder folder;
  {
    // What a crash between creating the file and its first migration leaves.
    StatusOr<sqlite::Database> empty = sqlite::Database::Open(folder.StatePath());
    REQUIRE(empty.ok());
    CHECK(*empty->QueryText("PRAGMA user_version") == "0");
  }
  auto store = OpenStore(folder.StatePath());
  CHECK(Commit(*store, {PutInstance{MakeInstance("alice", 2)}}).ok());
  StatusOr<sqlite::Database> after = sqlite::Database::Open(folder.StatePath());
  REQUIRE(after.ok());
  CHECK(*after->QueryText("PRAGMA user_version") == "3");
  CHECK(*after->QueryText("PRAGMA journal_mode") == "wal");
}

}  // namespace ctr
