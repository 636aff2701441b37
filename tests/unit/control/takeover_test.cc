// A supervisor whose agent hands over, and the relay through which it is asked.
#include "agent/control/waker_relay.h"
#include "tests/unit/control/world.h"

namespace ctr {
namespace {

using std::chrono::seconds;

// What it asked the agent that takes over, which lets everything in.
struct Other {
  WakerRelay::Ask Ask() {
    return [this](InstanceName name, WakeOrigin, MonoTime, std::string cause,
                  size_t) -> awaitable<StatusOr<Passage>> {
      asked.push_back(name.ToString() + ": " + cause);
      co_return Passage();
    };
  }

  std::vector<std::string> asked;
};

awaitable<StatusOr<Passage>> Wake(WakerRelay& relay, std::string id, MonoTime deadline) {
  return relay.EnsureAwake({"web", std::move(id)}, WakeOrigin::kRequest, deadline, "GET /", 0);
}

TEST_CASE("while another agent takes over no instance goes to sleep, and nobody is let in") {
  World world;
  world.Apply(kWebClass);
  auto instance = world.Started("web", "a");
  world.supervisor->Hold();
  CHECK(instance->slot()->Enter() == Slot::Entry::kClosed);
  world.Advance(seconds(60));
  CHECK(instance->state() == State::kHealthy);

  world.supervisor->Release();
  world.Settle();
  CHECK(instance->state() != State::kHealthy);  // it is long past its sleep_after
}

TEST_CASE("an agent that goes on lets requests in again, with those in flight still counted") {
  World world;
  world.Apply(kWebClass);
  auto instance = world.Started("web", "a");
  REQUIRE(instance->slot()->Enter() == Slot::Entry::kEntered);
  world.supervisor->Hold();
  world.supervisor->Release();
  CHECK(instance->slot()->Enter() == Slot::Entry::kEntered);
  CHECK(instance->slot()->in_flight() == 2);
}

TEST_CASE("a start in progress is seen as one") {
  World world;
  world.Apply(kWebClass);
  auto instance = world.Create("web", "a");
  CHECK_FALSE(world.supervisor->HasAny(State::kStarting));
  world.runtime.hold_create = true;
  auto wake = world.Spawn(world.Wake("a"));
  world.Settle();
  CHECK(world.supervisor->HasAny(State::kStarting));
  world.runtime.Release();
}

TEST_CASE("what is in flight in the agent before keeps an instance awake from its first moment") {
  World before;
  before.Apply(kWebClass);
  before.Started("web", "a");
  World world(before.store, &before.runtime);
  auto instance = world.supervisor->instances().at({"web", "a"});
  instance->slot()->EnterClosed();
  world.Advance(seconds(60));
  CHECK(instance->state() == State::kHealthy);
  instance->slot()->Leave(world.clock.Now());
  world.Advance(seconds(11));
  world.Advance(seconds(11));
  CHECK(instance->state() != State::kHealthy);
}

TEST_CASE("a relay that is held asks nobody until it is released") {
  World world;
  world.Apply(kWebClass);
  world.Started("web", "a");
  WakerRelay relay(world.io.get_executor(), world.clock, *world.supervisor);
  relay.Hold();
  auto wake = world.Spawn(Wake(relay, "a", world.Deadline()));
  world.Settle();
  CHECK_FALSE(wake->has_value());
  relay.Release();
  world.Settle();
  REQUIRE(wake->has_value());
  CHECK((*wake)->ok());
}

TEST_CASE("a request that is held for too long fails as a start that takes too long") {
  World world;
  WakerRelay relay(world.io.get_executor(), world.clock, *world.supervisor);
  relay.Hold();
  auto wake = world.Spawn(Wake(relay, "a", world.clock.Now() + seconds(5)));
  world.Advance(seconds(6));
  REQUIRE(wake->has_value());
  CHECK(ErrorCodeOf((*wake)->status()) == code::kStartTimeout);
}

TEST_CASE("what is held, and what was asked and not answered, goes to the agent that took over") {
  World world;
  world.Apply(kWebClass);
  world.Create("web", "slow");
  world.runtime.hold_create = true;
  WakerRelay relay(world.io.get_executor(), world.clock, *world.supervisor);
  auto unanswered = world.Spawn(Wake(relay, "slow", world.Deadline()));
  world.Settle();
  relay.Hold();
  auto held = world.Spawn(Wake(relay, "b", world.Deadline()));
  world.Settle();
  CHECK_FALSE(unanswered->has_value());
  Other other;
  relay.PassOn(other.Ask());
  auto later = world.Spawn(Wake(relay, "c", world.Deadline()));
  world.Settle();
  CHECK(unanswered->has_value());
  CHECK(held->has_value());
  CHECK(later->has_value());
  CHECK(other.asked.size() == 3);
  world.runtime.Release();
}

// A request whose client may go away.
struct Client {
  void Ask(World& world, awaitable<StatusOr<Passage>> wake) {
    asio::co_spawn(
        world.io, std::move(wake),
        asio::bind_cancellation_slot(
            gone.slot(), [this](std::exception_ptr, StatusOr<Passage>) { ended = true; }));
  }

  asio::cancellation_signal gone;
  bool ended = false;
};

TEST_CASE("a client that goes away no longer waits for an instance of its class") {
  World world;
  world.Apply(std::string(kWebClass) + "[route]\npolicy = \"nearest\"\ninstances = 1\n");
  WakerRelay relay(world.io.get_executor(), world.clock, *world.supervisor);
  world.runtime.hold_create = true;
  Client client;
  client.Ask(world, Wake(relay, "", world.Deadline()));
  world.Settle();
  CHECK(world.supervisor->FindPool("web")->queued() == 1);
  client.gone.emit(asio::cancellation_type::terminal);
  world.Settle();
  CHECK(client.ended);
  CHECK(world.supervisor->FindPool("web")->queued() == 0);
  world.runtime.Release();
}

TEST_CASE("nobody is asked for a client that goes away while a relay is held") {
  World world;
  world.Apply(kWebClass);
  auto instance = world.Create("web", "a");
  WakerRelay relay(world.io.get_executor(), world.clock, *world.supervisor);
  relay.Hold();
  Client client;
  client.Ask(world, Wake(relay, "a", world.Deadline()));
  world.Settle();
  client.gone.emit(asio::cancellation_type::terminal);
  world.Settle();
  CHECK(client.ended);
  relay.Release();
  world.Settle();
  CHECK(instance->state() == State::kStopped);
}

TEST_CASE("a client that goes away while its instance is made leaves it to the others") {
  World world;
  world.Apply(std::string(kWebClass) + "create = \"request\"\n");
  WakerRelay relay(world.io.get_executor(), world.clock, *world.supervisor);
  // It is made with the work pool's help.
  std::promise<void> help;
  asio::post(world.work, [&] { help.get_future().wait(); });
  Client client;
  client.Ask(world, Wake(relay, "a", world.Deadline()));
  world.io.restart();
  world.io.poll();
  REQUIRE(world.supervisor->instances().contains({"web", "a"}));
  client.gone.emit(asio::cancellation_type::terminal);
  world.io.restart();
  world.io.poll();
  help.set_value();
  CHECK(world.Await(Wake(relay, "a", world.Deadline())).ok());
}

}  // namespace
}  // namespace ctr
