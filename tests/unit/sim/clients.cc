// The clients of a simulated world, which do what the API and the ingress do.
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"
#include "agent/config/class_file.h"
#include "tests/unit/sim/sim_world.h"

namespace ctr::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kCause[] = "a client";

// A request that was let in, or a visit, until it leaves.
class Inside {
 public:
  Inside(Judge* judge, InstanceName name, Expected::Stay stay)
      : judge_(judge), name_(std::move(name)), stay_(std::move(stay)) {
    judge_->LetIn(name_, stay_);
  }
  Inside(const Inside&) = delete;
  ~Inside() { judge_->Left(name_, stay_); }

 private:
  Judge* const judge_;
  const InstanceName name_;
  const Expected::Stay stay_;
};

const char* NameOf(Verb verb) {
  switch (verb) {
    case Verb::kGet:
      return "get";
    case Verb::kStart:
      return "start";
    case Verb::kStop:
      return "stop";
    case Verb::kRestart:
      return "restart";
    case Verb::kDestroy:
      return "destroy";
    case Verb::kRenew:
      return "renew";
    case Verb::kWait:
      return "wait";
    case Verb::kRequest:
      return "request";
    case Verb::kVisit:
      return "visit";
  }
  return "";
}

}  // namespace

Issued SimWorld::NewCall(Verb verb, InstanceName name) {
  Issued call = judge_.Issue(verb, std::move(name));
  call.deadline = clock_.Now() + seconds(60);
  return call;
}

SimWorld::ClientPtr SimWorld::Spawn(Issued call, Body body) {
  auto client = std::make_shared<Client>();
  client->call = std::move(call);
  open_.push_back(client);
  if (judge_.tracing()) {
    judge_.OnTrace(absl::StrCat(NameOf(client->call.verb), " ", client->call.name.ToString(),
                                client->call.waits ? "" : " --no-wait",
                                client->call.value ? " -e V=" + *client->call.value : ""));
  }
  auto done = [this, client](std::exception_ptr exception, Status status) {
    if (exception) status = absl::CancelledError("the client went away");
    Returned(client, status);
  };
  asio::co_spawn(life_->io, Guarded(this, client, std::move(body)),
                 asio::bind_cancellation_slot(client->gone.slot(), std::move(done)));
  return client;
}

void SimWorld::Returned(const ClientPtr& client, const Status& status) {
  if (judge_.tracing()) {
    judge_.OnTrace(absl::StrCat("  ", NameOf(client->call.verb), " ", client->call.name.ToString(),
                                " returns: ", status.ok() ? "ok" : std::string(status.message())));
  }
  open_.remove(client);
  if (!client->class_name.empty()) {
    judge_.ClassReturned(client->class_name, client->revision, client->class_call, status.ok());
    for (const Issued& call : client->others) judge_.Returned(call, status);
  } else {
    judge_.Returned(client->call, status);
  }
}

// As the API runs its handlers: a client that goes away must not cut a change in two.
awaitable<Status> SimWorld::Guarded(SimWorld* world, ClientPtr client, Body body) {
  co_await AllowCancellation(false);
  co_return co_await body(world, std::move(client));
}

// While a client is inside, it may go away.
awaitable<void> SimWorld::Stay(SimWorld* world, Duration lasts) {
  co_await AllowCancellation(true);
  co_await world->clock_.SleepUntil(world->clock_.Now() + lasts);
}

Status SimWorld::Await(Issued call, Body body) {
  auto result = std::make_shared<std::optional<Status>>();
  struct Kept {
    static awaitable<Status> Run(SimWorld* world, ClientPtr client, Body body,
                                 std::shared_ptr<std::optional<Status>> result) {
      *result = co_await body(world, std::move(client));
      co_return **result;
    }
  };
  Spawn(std::move(call), [result, body](SimWorld* world, ClientPtr client) {
    return Kept::Run(world, std::move(client), body, result);
  });
  for (int i = 0; i < 1000 && !*result && !broken(); ++i) RunFor(milliseconds(100));
  return result->value_or(absl::DeadlineExceededError("it did not return"));
}

void SimWorld::ApplyClass(int index) {
  if (supervisor() == nullptr) return;
  const std::string text = ClassText(index);
  StatusOr<ClassConfig> config = ParseClassFile(text, "sim.toml");
  if (!config.ok()) {
    judge_.Fail(std::string(config.status().message()));
    return;
  }
  Issued call{.verb = Verb::kWait, .name = {config->name, ""}};
  const uint64_t number = judge_.ClassIssued(config->name, &*config);
  ClientPtr client = Spawn(std::move(call), [text](SimWorld* world, ClientPtr) {
    return [](SimWorld* self, std::string source) -> awaitable<Status> {
      co_return (co_await self->life_->supervisor->ApplyClass(source, "sim.toml", kCause)).status();
    }(world, text);
  });
  client->class_name = config->name;
  client->revision = RevisionOf(*config);
  client->class_call = number;
}

void SimWorld::RemoveClass(int index) {
  if (supervisor() == nullptr) return;
  const std::string name = absl::StrCat("c", index);
  std::vector<Issued> destroys;
  for (const InstanceName& one : names_) {
    if (one.class_name == name) destroys.push_back(NewCall(Verb::kDestroy, one));
  }
  const uint64_t number = judge_.ClassIssued(name, nullptr);
  Issued call{.verb = Verb::kDestroy, .name = {name, ""}};
  ClientPtr client = Spawn(std::move(call), [name](SimWorld* world, ClientPtr) {
    return [](SimWorld* self, std::string class_name) -> awaitable<Status> {
      co_return co_await self->life_->supervisor->RemoveClass(
          class_name, true, self->clock_.Now() + seconds(60), kCause);
    }(world, name);
  });
  client->class_name = name;
  client->class_call = number;
  client->others = std::move(destroys);
}

void SimWorld::CallAtRandom() {
  if (supervisor() == nullptr) return;
  InstanceName name = names_[dice_.Below(static_cast<int>(names_.size()))];
  constexpr std::array kVerbs = {Verb::kGet,     Verb::kGet,     Verb::kGet,     Verb::kStart,
                                 Verb::kStart,   Verb::kStop,    Verb::kStop,    Verb::kRestart,
                                 Verb::kDestroy, Verb::kRenew,   Verb::kWait,    Verb::kVisit,
                                 Verb::kRequest, Verb::kRequest, Verb::kRequest, Verb::kRequest};
  const Verb verb = kVerbs[dice_.Below(static_cast<int>(kVerbs.size()))];
  Issued call = NewCall(verb, name);
  if (dice_.Chance(0.2)) call.deadline = clock_.Now() + dice_.Within(seconds(1), seconds(10));
  call.waits = dice_.Chance(0.7);
  if (call.creates && verb != Verb::kRequest && dice_.Chance(0.25)) {
    judge_.Sets(call, absl::StrCat(++revision_));
  }
  const Duration lasts = dice_.Chance(0.7) ? dice_.Within(milliseconds(1), milliseconds(200))
                                           : dice_.Within(milliseconds(200), seconds(40));
  const State state = std::array{State::kStopped, State::kHealthy}[dice_.Below(2)];
  Spawn(std::move(call), [verb, lasts, state](SimWorld* world, ClientPtr client) {
    switch (verb) {
      case Verb::kGet:
        return Get(world, client, false);
      case Verb::kStart:
        return Get(world, client, true);
      case Verb::kStop:
        return Stop(world, client);
      case Verb::kRestart:
        return Restart(world, client);
      case Verb::kDestroy:
        return Destroy(world, client);
      case Verb::kRenew:
        return Renew(world, client);
      case Verb::kWait:
        return WaitFor(world, client, state);
      case Verb::kVisit:
        return Visiting(world, client, lasts);
      case Verb::kRequest:
        break;
    }
    return Request(world, client, lasts);
  });
}

awaitable<Status> SimWorld::Get(SimWorld* world, ClientPtr client, bool always) {
  Supervisor& supervisor = *world->life_->supervisor;
  const Issued call = client->call;
  InstanceSettings settings;
  if (call.value) settings.env["V"] = *call.value;
  CTR_CO_ASSIGN_OR_RETURN(
      Supervisor::InstancePtr instance,
      co_await supervisor.GetOrCreate(call.name, std::move(settings), call.deadline, kCause));
  world->judge_.Created(call, *instance);
  if (!always && !instance->CheckMayStart().ok()) co_return absl::OkStatus();
  co_return co_await supervisor.Start(instance, call.waits, call.deadline, kCause);
}

awaitable<Status> SimWorld::Stop(SimWorld* world, ClientPtr client) {
  Supervisor& supervisor = *world->life_->supervisor;
  const Issued call = client->call;
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, supervisor.Find(call.name));
  co_return co_await supervisor.Stop(instance, StopRequest(), call.waits, call.deadline, kCause);
}

awaitable<Status> SimWorld::Restart(SimWorld* world, ClientPtr client) {
  Supervisor& supervisor = *world->life_->supervisor;
  const Issued call = client->call;
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, supervisor.Find(call.name));
  co_return co_await supervisor.Restart(instance, call.waits, call.deadline, kCause);
}

awaitable<Status> SimWorld::Destroy(SimWorld* world, ClientPtr client) {
  Supervisor& supervisor = *world->life_->supervisor;
  const Issued call = client->call;
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, supervisor.Find(call.name));
  co_return co_await supervisor.Destroy(instance, call.deadline, kCause);
}

awaitable<Status> SimWorld::Renew(SimWorld* world, ClientPtr client) {
  const Issued call = client->call;
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance,
                          world->life_->supervisor->Find(call.name));
  CTR_CO_RETURN_IF_ERROR(instance->Renew(kCause));
  world->judge_.Active(call.name, true);
  co_return absl::OkStatus();
}

awaitable<Status> SimWorld::WaitFor(SimWorld* world, ClientPtr client, State state) {
  const Issued call = client->call;
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance,
                          world->life_->supervisor->Find(call.name));
  co_return co_await instance->AwaitState(
      [state](const Instance& it) { return it.state() == state && !it.forgotten(); },
      call.deadline);
}

// As the ingress does: through the gate if it is open, else by waking.
awaitable<Status> SimWorld::Request(SimWorld* world, ClientPtr client, Duration lasts) {
  Supervisor& supervisor = *world->life_->supervisor;
  const Issued call = client->call;
  Passage passage;
  auto table = world->life_->publisher.Get();
  auto route = table->classes.find(call.name.class_name);
  if (route != table->classes.end()) {
    auto slot = route->second->slots.find(call.name.id);
    if (slot != route->second->slots.end() && slot->second->Enter() == Slot::Entry::kEntered) {
      passage =
          Passage(slot->second, slot->second->endpoint(), [] { return current_clock_->Now(); });
    }
  }
  if (!passage.slot()) {
    CTR_CO_ASSIGN_OR_RETURN(
        passage,
        co_await supervisor.EnsureAwake(call.name, WakeOrigin::kRequest, call.deadline, kCause, 0));
  }
  {
    Inside inside(&world->judge_, call.name, {passage.slot(), passage.endpoint()->generation});
    if (StatusOr<Supervisor::InstancePtr> found = supervisor.Find(call.name); found.ok()) {
      world->judge_.Created(call, **found);
    }
    world->judge_.Answered(client->call);
    co_await Stay(world, lasts);
    passage.Leave();
  }
  co_return absl::OkStatus();
}

awaitable<Status> SimWorld::Visiting(SimWorld* world, ClientPtr client, Duration lasts) {
  Supervisor& supervisor = *world->life_->supervisor;
  const Issued call = client->call;
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, supervisor.Find(call.name));
  CTR_CO_ASSIGN_OR_RETURN(Visit visit, co_await supervisor.Enter(instance, call.deadline, kCause));
  world->judge_.Answered(client->call);
  Inside inside(&world->judge_, call.name, {instance->slot(), 0});
  co_await Stay(world, lasts);
  co_return absl::OkStatus();
}

}  // namespace ctr::sim
