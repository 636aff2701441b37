#include "agent/control/recovery_record.h"
#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using namespace std::chrono_literals;

const RebuildRanges kRanges{{0x7F4D0000, 16}, {0x7F4C0000, 16}};

ClassRecord WebRecord() {
  ClassRecord record;
  record.source = kWebClass;
  record.config = *ParseClassFile(kWebClass, "web.toml");
  record.address = 0x7F4C0002;
  record.applied_at = WallTime(1000s);
  return record;
}

InstanceRecord AliceRecord() {
  InstanceRecord record;
  record.name = {"web", "alice"};
  record.address = 0x7F4D0002;
  record.env = {{"A", "1=\"\n"}, {"EMPTY", ""}};
  record.entrypoint = std::vector<std::string>{"/bin/server", ""};
  record.command = std::vector<std::string>{"-v"};
  record.created_at = WallTime(2000s);
  return record;
}

TEST_CASE("a record gives back the class and the instance that it was made of") {
  StatusOr<RecoveryRecord> record =
      DecodeRecoveryRecord(EncodeRecoveryRecord(WebRecord(), AliceRecord()));
  REQUIRE(record.ok());
  CHECK(record->class_record.source == kWebClass);
  CHECK(record->class_record.config == WebRecord().config);
  CHECK(record->class_record.address == 0x7F4C0002);
  CHECK(record->class_record.applied_at == WallTime(1000s));
  CHECK(record->instance.name == InstanceName{"web", "alice"});
  CHECK(record->instance.address == 0x7F4D0002);
  CHECK(record->instance.env == AliceRecord().env);
  CHECK(record->instance.entrypoint == AliceRecord().entrypoint);
  CHECK(record->instance.command == AliceRecord().command);
  CHECK(record->instance.created_at == WallTime(2000s));
}

TEST_CASE("a record that somebody else wrote is refused, not believed") {
  const std::string good = EncodeRecoveryRecord(WebRecord(), AliceRecord());
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("{\"class\":7}"),
        good.substr(0, good.size() / 2), std::string("null")}) {
    CHECK(absl::IsDataLoss(DecodeRecoveryRecord(text).status()));
  }
  InstanceRecord hostile = AliceRecord();
  hostile.name.id = "../../etc";
  CHECK(
      absl::IsDataLoss(DecodeRecoveryRecord(EncodeRecoveryRecord(WebRecord(), hostile)).status()));
}

TEST_CASE("a record with a number that does not fit is damaged, not rounded") {
  const std::string good = EncodeRecoveryRecord(WebRecord(), AliceRecord());
  for (const char* name : {"\"address\":", "\"applied_at\":", "\"created_at\":"}) {
    for (const char* number :
         {"213064061202130444290", "1.5", "-9223372036854775808", "9223372036854775807"}) {
      std::string text = good;
      const size_t begin = text.find(name) + std::strlen(name);
      text.replace(begin, text.find_first_of(",}", begin) - begin, number);
      CAPTURE(text);
      CHECK(absl::IsDataLoss(DecodeRecoveryRecord(text).status()));
    }
  }
}

TEST_CASE("rows are rebuilt where they are missing, with the class as it was applied last") {
  ClassRecord newer = WebRecord();
  newer.source += "max_instances = 7\n";
  newer.applied_at += 1h;
  InstanceRecord bob = AliceRecord();
  bob.name.id = "bob";  // with alice's address
  StoredState state;
  std::vector<std::string> problems;
  std::vector<Change> changes =
      RebuildFromRecords({EncodeRecoveryRecord(WebRecord(), AliceRecord()),
                          EncodeRecoveryRecord(newer, bob), "", "broken"},
                         kRanges, state, problems);
  REQUIRE(state.classes.size() == 1);
  CHECK(state.classes[0].config.max_instances == 7);
  REQUIRE(state.instances.size() == 2);
  CHECK(state.instances[0].address != state.instances[1].address);
  CHECK(state.cursors.instance >= state.instances[0].address);
  CHECK(state.cursors.instance >= state.instances[1].address);
  CHECK(problems.size() == 1);
  CHECK(changes.size() == 4);

  // What is there stays.
  state.instances[0].env = {{"KEPT", "1"}};
  CHECK(RebuildFromRecords({EncodeRecoveryRecord(WebRecord(), state.instances[0])}, kRanges, state,
                           problems)
            .size() == 1);
  CHECK(state.instances[0].env.contains("KEPT"));
}

TEST_CASE("of an instance with two containers the newer one's record counts") {
  World before;
  before.Apply(kWebClass);
  before.Started("web", "alice");
  FakeRuntime::Entry older = before.runtime.Only();
  before.runtime.Only().container.generation = 5;
  InstanceRecord record = AliceRecord();
  record.env = {{"OLD", "1"}};
  older.container.record = EncodeRecoveryRecord(before.store->classes.at("web"), record);
  older.container.id = "0";  // listed first
  before.runtime.containers["0"] = older;
  World after(std::make_shared<FakeStore>(), &before.runtime);
  after.Settle();
  REQUIRE(after.supervisor->instances().contains({"web", "alice"}));
  CHECK(after.supervisor->instances().at({"web", "alice"})->record().env.empty());
}

TEST_CASE("with the state lost, what runs is served on as it is, and kept disks are known again") {
  auto before_store = std::make_shared<FakeStore>();
  World before(before_store, nullptr);
  before.Apply(std::string(kWebClass) + "disk = \"keep\"\n");
  std::shared_ptr<Instance> alice = before.Started("web", "alice");
  std::shared_ptr<Instance> bob = before.Started("web", "bob");
  CHECK(before.Await(before.supervisor->Stop(bob, {}, true, before.Deadline(), "test")).ok());

  auto store = std::make_shared<FakeStore>();
  store->lost = "the state file was gone";
  World after(store, &before.runtime);
  after.Settle();
  std::shared_ptr<Instance> found = after.supervisor->instances().at({"web", "alice"});
  CHECK(found->state() == State::kHealthy);
  CHECK(found->observed().generation == 1);
  CHECK(found->record().address == alice->record().address);
  CHECK(after.runtime.creates == 0);
  CHECK(after.supervisor->instances().contains({"web", "bob"}));
  CHECK(store->lost.empty());
  CHECK(store->instances.size() == 2);
  CHECK(std::any_of(store->events.begin(), store->events.end(),
                    [](const Event& event) { return event.type == event::kStateRebuilt; }));
  CHECK(after.Await(after.Wake("bob")).ok());
}

TEST_CASE("what runs without a row, as when the end of the log was lost, is known again") {
  World before;
  before.Apply(kWebClass);
  before.Started("web", "alice");
  World after(std::make_shared<FakeStore>(), &before.runtime);
  after.Settle();
  REQUIRE(after.supervisor->instances().contains({"web", "alice"}));
  CHECK(after.supervisor->instances().at({"web", "alice"})->state() == State::kHealthy);
  CHECK(after.runtime.creates == 0);
}

TEST_CASE("a kept disk without a row, as with an older copy of the state file, is known again") {
  World before;
  before.Apply(std::string(kWebClass) + "disk = \"keep\"\n");
  std::shared_ptr<Instance> alice = before.Started("web", "alice");
  CHECK(before.Await(before.supervisor->Stop(alice, {}, true, before.Deadline(), "test")).ok());
  REQUIRE(before.runtime.containers.empty());
  World after(std::make_shared<FakeStore>(), &before.runtime);
  after.Advance(std::chrono::hours(1));
  CHECK(after.runtime.disks.contains({"web", "alice"}));
  REQUIRE(after.supervisor->instances().contains({"web", "alice"}));
  CHECK(after.Await(after.Wake("alice")).ok());
}

TEST_CASE("a job that ended well is not run again by an agent that finds its container gone") {
  auto store = std::make_shared<FakeStore>();
  World before(store, nullptr);
  before.Apply(std::string("name = \"job\"\nimage = \"demo:latest\"\n"));
  before.Started("job", "j");
  store->loses_behind = true;
  before.runtime.Exit(before.runtime.Only().container.id, {.code = 0});
  before.Settle();
  REQUIRE(before.runtime.containers.empty());
  store->loses_behind = false;
  World after(store, &before.runtime);
  after.Advance(std::chrono::minutes(2));
  CHECK(after.runtime.creates == 0);
  const Observed& seen = after.supervisor->instances().at({"job", "j"})->observed();
  CHECK(seen.reason == StopReason::kExited);
  CHECK(seen.exit_code == 0);
}

TEST_CASE("one that ended as it was put to sleep is not taken for a failure by a later agent") {
  auto store = std::make_shared<FakeStore>();
  World before(store, nullptr);
  before.Apply(kWebClass);
  std::shared_ptr<Instance> alice = before.Started("web", "alice");
  store->loses_behind = true;
  before.runtime.hold_remove = true;
  before.Advance(std::chrono::seconds(11));
  REQUIRE(before.runtime.Only().exit->code == 143);
  store->loses_behind = false;
  World after(store, &before.runtime);
  after.Advance(std::chrono::minutes(2));
  CHECK(after.runtime.creates == 0);
  CHECK(after.supervisor->instances().at({"web", "alice"})->observed().failures == 0);
}

TEST_CASE("a start that was answered before it was made is made by a later agent") {
  auto store = std::make_shared<FakeStore>();
  World before(store, nullptr);
  before.Apply(kWebClass);
  std::shared_ptr<Instance> alice = before.Create("web", "alice");
  store->loses_behind = true;
  CHECK(before.Await(before.supervisor->Start(alice, false, before.Deadline(), "test")).ok());
  store->loses_behind = false;
  World after(store, nullptr);
  after.Advance(std::chrono::seconds(1));
  CHECK(after.supervisor->instances().at({"web", "alice"})->state() == State::kHealthy);
}

TEST_CASE("one that was just woken after a stop is not stopped by a later agent") {
  auto store = std::make_shared<FakeStore>();
  World before(store, nullptr);
  before.Apply(kWebClass);
  std::shared_ptr<Instance> alice = before.Started("web", "alice");
  CHECK(before.Await(before.supervisor->Stop(alice, {}, true, before.Deadline(), "test")).ok());
  before.runtime.listen_at_start = false;
  auto wake = before.Spawn(before.Wake("alice"));
  before.Settle();
  REQUIRE(alice->state() == State::kRunning);
  World after(store, &before.runtime);
  after.runtime.containers.begin()->second.listening.insert(8080);
  after.Advance(std::chrono::seconds(1));
  const Instance& found = **after.supervisor->Find({"web", "alice"});
  CHECK(found.state() == State::kHealthy);
  CHECK(found.observed().generation == 2);
  CHECK(found.record().desired == Desired::kRunning);
}

TEST_CASE("a start that was refused for want of a place is not made by a later agent") {
  auto store = std::make_shared<FakeStore>();
  World before(store, nullptr);
  before.Apply(std::string(kWebClass) + "max_instances = 1\n[route]\ninstances = 1\n");
  std::shared_ptr<Instance> alice = before.Started("web", "alice");
  std::shared_ptr<Instance> bob = before.Create("web", "bob");
  CHECK(ErrorCodeOf(before.Await(before.supervisor->Start(bob, false, before.Deadline(), ""))) ==
        code::kMaxInstances);
  CHECK(before.Await(before.supervisor->Stop(alice, {}, true, before.Deadline(), "test")).ok());
  World after(store, nullptr);
  after.Advance(std::chrono::minutes(1));
  CHECK(after.runtime.creates == 0);
}

TEST_CASE("a container whose task is gone with its exit is lost with the host, not exited") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.runtime.Lose(world.runtime.Only().container.id);
  world.Settle();
  CHECK(alice->observed().reason == StopReason::kHostLost);
  CHECK_FALSE(alice->observed().exit_code.has_value());
  CHECK(std::none_of(world.store->events.begin(), world.store->events.end(),
                     [](const Event& event) { return event.type == event::kExited; }));
  world.Advance(std::chrono::seconds(1));
  CHECK(alice->state() == State::kHealthy);
}

TEST_CASE("after the runtime was away, containers that nobody knows are removed") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  FakeRuntime::Entry stray;
  stray.container.id = "stray";
  stray.container.name = {"web", "alice"};
  world.runtime.containers["stray"] = stray;
  const int sweeps = world.runtime.sweeps;
  world.runtime.Reconnect();
  world.Settle();
  CHECK_FALSE(world.runtime.containers.contains("stray"));
  CHECK(world.runtime.containers.size() == 1);
  CHECK(world.runtime.sweeps == sweeps + 1);
  CHECK(alice->state() == State::kHealthy);
}

TEST_CASE("a container in the making is not taken for a stray") {
  World world;
  world.Apply(kWebClass);
  world.Create("web", "alice");
  world.runtime.hold_create = true;
  auto request = world.Spawn(world.Wake("alice"));
  world.Settle();
  world.runtime.Reconnect();
  world.runtime.Release();
  world.Settle();
  REQUIRE(request->has_value());
  CHECK((*request)->ok());
}

TEST_CASE("a full disk refuses what is new, and lets stops, wakes and destroys use the reserve") {
  World world;
  world.Apply(kWebClass);
  std::shared_ptr<Instance> alice = world.Started("web", "alice");
  world.disk_free = 0;
  world.Advance(5s);
  CHECK_FALSE(world.disk_reserved);
  StatusOr<std::shared_ptr<Instance>> refused =
      world.Await(world.supervisor->GetOrCreate({"web", "bob"}, {}, world.Deadline(), "test"));
  CHECK(ErrorCodeOf(refused.status()) == code::kDiskFull);
  CHECK(absl::IsResourceExhausted(refused.status()));
  CHECK(ErrorCodeOf(world
                        .Await(world.supervisor->ApplyClass(
                            std::string(kWebClass) + "max_instances = 3\n", "f", "test"))
                        .status()) == code::kDiskFull);
  CHECK(world.Await(world.supervisor->Stop(alice, {}, true, world.Deadline(), "test")).ok());
  CHECK(world.Await(world.Wake("alice")).ok());
  // At once, without a wait for the next look.
  world.disk_free = int64_t{1} << 40;
  world.Create("web", "bob");
  CHECK(world.disk_reserved);
}

TEST_CASE("a write that the full disk refuses gives the reserve up at once") {
  World world;
  world.Apply(kWebClass);
  CHECK(world.disk_reserved);
  world.store->error = absl::ResourceExhaustedError("disk full: cannot write");
  StatusOr<std::shared_ptr<Instance>> refused =
      world.Await(world.supervisor->GetOrCreate({"web", "bob"}, {}, world.Deadline(), "test"));
  CHECK(ErrorCodeOf(refused.status()) == code::kDiskFull);
  CHECK_FALSE(world.disk_reserved);
}

TEST_CASE("a start that finds no room tries again on what the reserve gave free") {
  World world;
  world.Apply(kWebClass);
  world.Create("web", "alice");
  world.runtime.create_error = absl::FailedPreconditionError("mkdir: no space left on device");
  world.on_disk_release = [&] { world.runtime.create_error = absl::OkStatus(); };
  CHECK(world.Await(world.Wake("alice")).ok());
  CHECK_FALSE(world.disk_reserved);
}

}  // namespace
}  // namespace ctr
