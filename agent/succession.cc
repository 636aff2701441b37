#include "agent/succession.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/api/requests.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

constexpr char kTakeoverFlag[] = "--takeover";
constexpr char kDataLock[] = "lock-data";  // in the FdStore

constexpr int kLockAttempts = 100;
constexpr std::chrono::milliseconds kLockPause(10);
constexpr Duration kPoll = std::chrono::milliseconds(5);
// A call may still be on its way here.
constexpr Duration kQuiet = std::chrono::milliseconds(20);
constexpr Duration kCallPatience = std::chrono::seconds(2);
// The next agent would undo one that is not complete.
constexpr Duration kImportPatience = std::chrono::seconds(30);

// Where this program is, or was before another took its place.
std::string OwnPath() {
  std::error_code error;
  const std::string path = std::filesystem::read_symlink("/proc/self/exe", error);
  return std::string(absl::StripSuffix(path, " (deleted)"));
}

awaitable<void> FinishImports(AgentParts parts, HandOverSteps::Gone gone) {
  const MonoTime deadline = parts.clock->Now() + kImportPatience;
  while (parts.service->imports() > 0 && !gone() && parts.clock->Now() < deadline) {
    co_await parts.clock->SleepUntil(parts.clock->Now() + kPoll);
  }
}

awaitable<void> Quiesce(AgentParts parts, HandOverSteps::Gone gone) {
  parts.server->StopAccepting();
  const MonoTime begin = parts.clock->Now();
  MonoTime quiet_since = begin;
  for (MonoTime now = begin; now - quiet_since < kQuiet && !gone(); now = parts.clock->Now()) {
    const bool busy = parts.service->calls() > 0 || parts.service->imports() > 0;
    if (busy && now - begin < kCallPatience) quiet_since = now;
    co_await parts.clock->SleepUntil(now + kPoll);
  }
}

awaitable<Status> LetGo(AgentParts parts) {
  parts.supervisor->events().TellCounted();
  co_await parts.runtime->LetGo();
  co_return co_await parts.store->LetGo();
}

awaitable<Status> TakeBack(AgentParts parts) {
  CTR_CO_RETURN_IF_ERROR(co_await parts.store->TakeBack());
  parts.runtime->TakeBack();
  parts.data_dir->NotePid();
  co_return absl::OkStatus();
}

awaitable<Status> Commit(Beginning* beginning) {
  CTR_CO_RETURN_IF_ERROR(co_await beginning->predecessor->Commit());
  beginning->fd_store.Announce();
  co_return absl::OkStatus();
}

}  // namespace

std::vector<std::string> Beginning::SuccessorCommand() const {
  std::vector<std::string> successor = command;
  successor.emplace_back(kTakeoverFlag);
  return successor;
}

StatusOr<Beginning> Begin(const CommandLine& command_line, int argc, char** argv) {
  Beginning beginning{command_line, {}, {}, {}};
  beginning.command = {OwnPath()};
  for (int i = 1; i < argc; ++i) {
    if (argv[i] != std::string_view(kTakeoverFlag)) beginning.command.emplace_back(argv[i]);
  }
  if (command_line.takeover) {
    CTR_RETURN_IF_ERROR(FindLogger().status());
    auto predecessor = Predecessor::Connect(command_line.config.run_dir, CTR_VERSION);
    if (predecessor.ok()) {
      beginning.fd_store = FdStore::FromPredecessor((*predecessor)->TakeDescriptors());
      beginning.predecessor = *std::move(predecessor);
      return beginning;
    }
    if (!absl::IsNotFound(predecessor.status())) return predecessor.status();
    spdlog::info("there is no agent to take over from: {}",
                 std::string(predecessor.status().message()));
  }
  beginning.fd_store = FdStore::FromEnvironment();
  return beginning;
}

StatusOr<DataDir> LockDataDir(Beginning& beginning) {
  const std::string& path = beginning.command_line.config.data_dir;
  StatusOr<DataDir> data_dir = DataDir::Open(path, beginning.fd_store.Take(kDataLock));
  const bool takes_over = beginning.predecessor || beginning.command_line.takeover;
  // A program that an agent was just starting when it ended holds its lock until it is that
  // program.
  for (int i = 0; i < kLockAttempts && !takes_over && !data_dir.ok(); ++i) {
    std::this_thread::sleep_for(kLockPause);
    data_dir = DataDir::Open(path);
  }
  if (data_dir.ok()) {
    beginning.fd_store.Lend(kDataLock, data_dir->lock());
  } else if (beginning.predecessor) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the running agent has another --data-dir than ", path, "; take over with the same one"));
  } else if (beginning.command_line.takeover) {
    return Annotate(data_dir.status(),
                    "the running agent does not know how to hand over, or has another --run-dir");
  }
  return data_dir;
}

StatusOr<std::string> FindLogger() {
  const char* given = std::getenv("CTR_LOGGER");
  const std::string path =
      given != nullptr ? given
                       : std::filesystem::path(OwnPath()).replace_filename("ctr-logger").string();
  if (path.starts_with('/') && ::access(path.c_str(), X_OK) == 0) return path;
  return absl::FailedPreconditionError(
      absl::StrCat("cannot run the logger of the containers, ", path,
                   "; install ctr-logger beside ctr-agent, or name it with CTR_LOGGER=/PATH"));
}

RecoverySteps RecoveryStepsOf(Beginning& beginning) {
  if (!beginning.predecessor) return {};
  return {.may_change = [&beginning] { return Commit(&beginning); },
          .loaded = [&beginning] { beginning.predecessor->CountAll(); }};
}

HandOverSteps HandOverStepsOf(const AgentParts& parts) {
  return {.finish_imports =
              [parts](HandOverSteps::Gone gone) { return FinishImports(parts, std::move(gone)); },
          .quiesce = [parts](HandOverSteps::Gone gone) { return Quiesce(parts, std::move(gone)); },
          .resume = [parts] { parts.server->ResumeAccepting(); },
          .let_go = [parts] { return LetGo(parts); },
          .take_back = [parts] { return TakeBack(parts); },
          .give_up =
              [parts] {
                parts.store->GiveUp();
                parts.supervisor->TellHandedOver(HandedOver());
                parts.service->EndCalls();
                parts.service->EndFollowing();
                parts.stop_metrics->emit(asio::cancellation_type::terminal);
              }};
}

}  // namespace ctr
