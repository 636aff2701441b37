#include "agent/store/sqlite/sqlite_store.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "agent/store/sqlite/database.h"
#include "tests/integration/store/store_fixture.h"

namespace ctr {
namespace {

void CheckSame(const Observed& a, const Observed& b) {
  CHECK(a.state == b.state);
  CHECK(a.reason == b.reason);
  CHECK(a.exit_code == b.exit_code);
  CHECK(a.message == b.message);
  CHECK(a.generation == b.generation);
  CHECK(a.container_id == b.container_id);
  CHECK(a.revision == b.revision);
  CHECK(a.since == b.since);
}

void CheckSame(const InstanceRecord& a, const InstanceRecord& b) {
  CHECK(a.name == b.name);
  CHECK(a.address == b.address);
  CHECK(a.env == b.env);
  CHECK(a.entrypoint == b.entrypoint);
  CHECK(a.desired == b.desired);
  CHECK(a.created_at == b.created_at);
  CheckSame(a.observed, b.observed);
}

Observed MakeObserved(uint64_t generation) {
  Observed observed;
  observed.state = State::kStopped;
  observed.reason = StopReason::kExited;
  observed.exit_code = 137;
  observed.message = "exited: \"no\" such\nfile";
  observed.generation = generation;
  observed.container_id = "01aryz6s41tsv4rrffq69g5fav";
  observed.revision = "0123456789ab";
  observed.since = WallTime(std::chrono::nanoseconds(-5));
  return observed;
}

}  // namespace

TEST_CASE("what was committed is loaded the same after the file was closed") {
  TemporaryFolder folder;
  InstanceRecord full = MakeInstance("alice", 0x7F4D0002);
  full.env = {{"A", "1:2=3"}, {"EMPTY", ""}, {"BYTES", std::string("\xff\0\n", 3)}};
  full.entrypoint = std::vector<std::string>{"/bin/sh", "-c", ""};
  full.desired = Desired::kStopped;
  full.observed = MakeObserved(7);
  InstanceRecord plain = MakeInstance("bob", 0xFFFFFFFF);
  plain.desired = Desired::kDestroyed;
  InstanceRecord empty_entrypoint = MakeInstance("carol", 3);
  empty_entrypoint.entrypoint = std::vector<std::string>();
  {
    auto store = OpenStore(folder.StatePath());
    CHECK(Load(*store).instances.empty());
    Status status = Commit(
        *store, {PutClass{MakeClass("web", 0x7F4C0002, "name = \"web\"\n")}, PutInstance{full},
                 PutInstance{plain}, PutInstance{empty_entrypoint}, PutCursors{{17, 0xFFFFFFFF}}});
    INFO(status.ToString());
    CHECK(status.ok());
  }
  auto store = OpenStore(folder.StatePath());
  StoredState state = Load(*store);
  REQUIRE(state.classes.size() == 1);
  CHECK(state.classes[0].config.name == "web");
  CHECK(state.classes[0].source == "name = \"web\"\n");
  CHECK(state.classes[0].address == 0x7F4C0002);
  CHECK(state.classes[0].applied_at == MakeClass("", 0, "").applied_at);
  REQUIRE(state.instances.size() == 3);
  CheckSame(state.instances[0], full);
  CheckSame(state.instances[1], plain);
  CheckSame(state.instances[2], empty_entrypoint);
  CHECK(state.cursors.instance == 17);
  CHECK(state.cursors.class_ == 0xFFFFFFFF);
}

TEST_CASE("putting an instance again keeps what was observed of it") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  InstanceRecord record = MakeInstance("alice", 2);
  record.observed = MakeObserved(1);
  CHECK(Commit(*store, {PutInstance{record}}).ok());
  CHECK(Commit(*store, {PutObserved{record.name, MakeObserved(2)}}).ok());
  record.desired = Desired::kStopped;
  CHECK(Commit(*store, {PutInstance{record}}).ok());
  StoredState state = Load(*store);
  REQUIRE(state.instances.size() == 1);
  CHECK(state.instances[0].desired == Desired::kStopped);
  CHECK(state.instances[0].observed.generation == 2);
}

TEST_CASE("what was deleted is gone, and observing it changes nothing") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  InstanceRecord record = MakeInstance("alice", 2);
  CHECK(Commit(*store, {PutClass{MakeClass("web", 1, "x")}, PutInstance{record}}).ok());
  CHECK(Commit(*store, {DeleteInstance{record.name}, DeleteClass{"web"}}).ok());
  CHECK(Commit(*store, {PutObserved{record.name, MakeObserved(1)}}).ok());
  CHECK(Commit(*store, {DeleteInstance{record.name}}).ok());
  StoredState state = Load(*store);
  CHECK(state.instances.empty());
  CHECK(state.classes.empty());
}

TEST_CASE("a commit is all or nothing") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  CHECK(Commit(*store, {PutInstance{MakeInstance("alice", 2)}}).ok());
  // Two instances can't have one address: it would give one's traffic to the other.
  Status status =
      Commit(*store, {PutInstance{MakeInstance("bob", 3)}, DeleteInstance{{"web", "alice"}},
                      PutInstance{MakeInstance("carol", 3)}});
  CHECK(absl::IsAlreadyExists(status));
  CHECK(status.message().find(folder.StatePath()) != absl::string_view::npos);
  StoredState state = Load(*store);
  REQUIRE(state.instances.size() == 1);
  CHECK(state.instances[0].name.id == "alice");
}

TEST_CASE("a hundred concurrent commits all succeed, but for the one that can't") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  CHECK(Commit(*store, {PutInstance{MakeInstance("first", 1)}}).ok());
  asio::io_context io{1};
  int succeeded = 0;
  int failed = 0;
  for (int i = 0; i < 100; ++i) {
    const uint32_t address = i == 50 ? 1 : 1000 + static_cast<uint32_t>(i);
    asio::co_spawn(io,
                   store->Commit({PutInstance{MakeInstance("id-" + std::to_string(i), address)}}),
                   [&](std::exception_ptr exception, Status status) {
                     CHECK_FALSE(exception);
                     ++(status.ok() ? succeeded : failed);
                   });
  }
  io.run();
  CHECK(succeeded == 99);
  CHECK(failed == 1);
  CHECK(Load(*store).instances.size() == 100);
}

TEST_CASE("what was written behind is loaded next, and on disk after the end") {
  TemporaryFolder folder;
  {
    auto store = OpenStore(folder.StatePath());
    store->WriteBehind({PutInstance{MakeInstance("alice", 2)}});
    store->WriteBehind({PutObserved{{"web", "alice"}, MakeObserved(4)}});
    REQUIRE(Load(*store).instances.size() == 1);
    store->WriteBehind({PutObserved{{"web", "alice"}, MakeObserved(5)}});
    store->WriteBehind({PutObserved{{"web", "alice"}, MakeObserved(6)}});
  }
  auto store = OpenStore(folder.StatePath());
  StoredState state = Load(*store);
  REQUIRE(state.instances.size() == 1);
  CheckSame(state.instances[0].observed, MakeObserved(6));
}

TEST_CASE("what is written behind and what is committed are made in the order of the calls") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  asio::io_context io{1};
  const auto commit = [&](Change change) {
    asio::co_spawn(io, store->Commit({std::move(change)}),
                   [](std::exception_ptr, Status status) { CHECK(status.ok()); });
    io.poll();
  };
  // Each undoes, or needs, the one before.
  for (int i = 0; i < 200; ++i) {
    store->WriteBehind({PutInstance{MakeInstance("alice", 2)}});
    commit(DeleteInstance{{"web", "alice"}});
    commit(PutInstance{MakeInstance("alice", 3)});
    store->WriteBehind({PutObserved{{"web", "alice"}, MakeObserved(7)}});
    store->WriteBehind({DeleteInstance{{"web", "alice"}}});
    commit(PutInstance{MakeInstance("alice", 4)});
    store->WriteBehind({PutObserved{{"web", "alice"}, MakeObserved(i)}});
  }
  io.run();
  StoredState state = Load(*store);
  REQUIRE(state.instances.size() == 1);
  CHECK(state.instances[0].address == 4);
  CheckSame(state.instances[0].observed, MakeObserved(199));
}

TEST_CASE("what was written behind reaches the disk without a commit, each time") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  // Read by another connection, as after a kill; the test's timeout bounds the wait.
  StatusOr<sqlite::Database> other = sqlite::Database::Open(folder.StatePath());
  REQUIRE(other.ok());
  for (const char* id : {"alice", "bob", "carol"}) {
    store->WriteBehind({PutInstance{MakeInstance(id, static_cast<uint32_t>(id[0]))}});
    const std::string query = std::string("SELECT count(*) FROM instances WHERE id = '") + id + "'";
    while (*other->QueryText(query) != "1") ::usleep(1000);
  }
}

TEST_CASE("what was committed survives a kill -9") {
  TemporaryFolder folder;
  int committed[2];
  REQUIRE(::pipe(committed) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    auto store = SqliteStore::Open(folder.StatePath());
    if (!store.ok()) ::_exit(1);
    asio::io_context io{1};
    asio::co_spawn(io, (*store)->Commit({PutInstance{MakeInstance("alice", 2)}}),
                   [&](std::exception_ptr, Status status) {
                     if (!status.ok() || ::write(committed[1], "x", 1) != 1) ::_exit(1);
                   });
    io.run();
    for (;;) ::pause();
  }
  ::close(committed[1]);
  char byte = 0;
  const bool answered = ::read(committed[0], &byte, 1) == 1;
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  ::close(committed[0]);
  REQUIRE(answered);
  auto store = OpenStore(folder.StatePath());
  CHECK(Load(*store).instances.size() == 1);
}

TEST_CASE("the state file is for its owner alone") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  CHECK(Commit(*store, {PutCursors{{1, 1}}}).ok());
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    struct stat status;
    REQUIRE(::stat(entry.path().c_str(), &status) == 0);
    INFO(entry.path().string());
    CHECK((status.st_mode & 0777) == 0600);
  }
}

TEST_CASE("a store that let go has all on disk, and another process may go on with it") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  store->WriteBehind({PutClass{MakeClass("web", 1, "name = \"web\"")}});
  REQUIRE(Await(store->LetGo()).ok());
  auto other = OpenStore(folder.StatePath());
  CHECK(Load(*other).classes.size() == 1);
  CHECK(absl::IsUnavailable(Await(store->Load()).status()));
}

TEST_CASE("what is to be written to a store that let go is written when it takes back") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  REQUIRE(Await(store->LetGo()).ok());
  store->WriteBehind({PutClass{MakeClass("web", 1, "name = \"web\"")}});
  asio::io_context io{1};
  std::optional<Status> committed;
  asio::co_spawn(io, store->Commit({PutInstance{MakeInstance("a", 2)}}),
                 [&](std::exception_ptr, Status status) { committed = status; });
  io.run_for(std::chrono::milliseconds(50));
  CHECK_FALSE(committed.has_value());
  REQUIRE(Await(store->TakeBack()).ok());
  io.run();
  REQUIRE(committed.has_value());
  CHECK(committed->ok());
  const StoredState state = Load(*store);
  CHECK(state.classes.size() == 1);
  CHECK(state.instances.size() == 1);
}

TEST_CASE("a store that was given up writes nothing any more, and says so") {
  TemporaryFolder folder;
  auto store = OpenStore(folder.StatePath());
  REQUIRE(Await(store->LetGo()).ok());
  store->GiveUp();
  CHECK(ErrorCodeOf(Commit(*store, {PutInstance{MakeInstance("a", 2)}})) == code::kHandedOver);
  store->WriteBehind({PutClass{MakeClass("web", 1, "name = \"web\"")}});
  store.reset();
  CHECK(Load(*OpenStore(folder.StatePath())).classes.empty());
}

}  // namespace ctr
