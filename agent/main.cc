// ctr-agent: the one place where its objects are wired, in the order in which they start.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/api/agent_service.h"
#include "agent/api/api_server.h"
#include "agent/api/metrics_server.h"
#include "agent/base/descriptors.h"
#include "agent/base/oom_score.h"
#include "agent/base/work.h"
#include "agent/cluster/cluster.h"
#include "agent/config/command_line.h"
#include "agent/control/metrics.h"
#include "agent/control/routes.h"
#include "agent/control/waker_relay.h"
#include "agent/doctor/host_checks.h"
#include "agent/proxy/ingress.h"
#include "agent/runtime/containerd/containerd_runtime.h"
#include "agent/runtime/containerd/purge.h"
#include "agent/store/sqlite/sqlite_store.h"
#include "agent/succession.h"
#include "agent/tar/inside.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

using asio::experimental::awaitable_operators::operator||;

constexpr int kWorkThreads = 4;
constexpr int kTransferThreads = 32;  // a registry may leave one waiting for minutes
constexpr Duration kSessionPoll = std::chrono::milliseconds(20);
constexpr Duration kApiPatience = std::chrono::seconds(2);
MonoTime SteadyNow() { return std::chrono::steady_clock::now(); }

ContainerdOptions OptionsFor(const AgentConfig& config, std::string agent_id,
                             const std::string& containerd) {
  ContainerdOptions options;
  options.agent_id = std::move(agent_id);
  options.data_dir = config.data_dir;
  options.run_dir = config.run_dir;
  options.subnet = config.network.subnet;
  options.allow = config.network.allow;
  if (!containerd.empty()) options.external_socket = containerd;
  options.images = config.images;
  return options;
}

IngressConfig IngressFor(const AgentConfig& config) {
  IngressConfig ingress;
  ingress.http = {config.http.ToString()};
  ingress.trust_ctr_headers = config.trust_ctr_headers;
  ingress.ranges = {config.instance_range, config.class_range};
  ingress.steering = config.steering == SteeringChoice::kSkLookup ? SteeringMode::kSkLookup
                     : config.steering == SteeringChoice::kBind   ? SteeringMode::kBind
                                                                  : SteeringMode::kAuto;
  ingress.data_loops = config.data_threads;
  ingress.access_log = config.access_log;
  ingress.limits.header_timeout = config.header_timeout;
  ingress.limits.idle_timeout = config.idle_timeout;
  ingress.limits.min_body_rate = config.min_body_rate;
  ingress.connections = {static_cast<size_t>(config.max_connections),
                         static_cast<size_t>(config.max_connections_per_client),
                         config.limits_loopback};
  return ingress;
}

// Returns at SIGTERM or SIGINT; a second one ends the process at once.
awaitable<void> UntilSignalled() {
  auto signals =
      std::make_shared<asio::signal_set>(co_await asio::this_coro::executor, SIGTERM, SIGINT);
  co_await signals->async_wait(use_awaitable);
  signals->async_wait([signals](ErrorCode error, int) {
    if (!error) std::_Exit(0);
  });
}

// Shutdown waits for handlers that run on control: it is called on the work pool, and awaited here.
awaitable<void> ShutDown(ApiServer* server, asio::any_io_executor work) {
  co_await OnWork(work, [server] {
    server->Shutdown(kApiPatience);
    return true;
  });
}

// Serves until a signal, or until another agent has taken over. What it refers to lives as long as
// the process.
awaitable<Status> Serve(Beginning& beginning, const DataDir& data_dir, asio::thread_pool& work,
                        Clock& clock) {
  // Registries may be slow: they hold up nobody else.
  static asio::thread_pool transfers(kTransferThreads);
  const AgentConfig& config = beginning.command_line.config;
  FdStore& fd_store = beginning.fd_store;
  Predecessor* const predecessor = beginning.predecessor.get();
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  CTR_CO_ASSIGN_OR_RETURN(UniqueFd run_lock,
                          PrepareRunDir(config.run_dir, fd_store.Take(kRunLock)));
  fd_store.Lend(kRunLock, run_lock.get());
  MakeRoom(DiskOf(config.data_dir));
  const bool known = data_dir.HasAgentId();
  CTR_CO_ASSIGN_OR_RETURN(std::string agent_id, data_dir.AgentId());
  CTR_CO_ASSIGN_OR_RETURN(std::string containerd, data_dir.DecideContainerd(config.containerd));
  ContainerdOptions options = OptionsFor(config, agent_id, containerd);
  CTR_CO_ASSIGN_OR_RETURN(options.logger_path, FindLogger());

  CTR_CO_ASSIGN_OR_RETURN(
      std::unique_ptr<SqliteStore> store,
      SqliteStore::Open(data_dir.StatePath(), known ? StateFile::kExpected : StateFile::kMayBeNew));
  LocalCluster cluster;
  RoutePublisher publisher;
  Ingress* ingress_pointer = nullptr;
  Steer steer{
      [&](uint32_t address, uint16_t port) {
        return ingress_pointer->steering().Add(address, port);
      },
      [&](uint32_t address, uint16_t port) { ingress_pointer->steering().Remove(address, port); }};
  Routes routes(publisher, std::move(steer), config.domains);
  CTR_CO_ASSIGN_OR_RETURN(
      std::unique_ptr<ContainerdRuntime> runtime,
      co_await ContainerdRuntime::Open(options, &clock, executor, work.get_executor(),
                                       transfers.get_executor()));
  SupervisorOptions supervision;
  supervision.instance_range = config.instance_range;
  supervision.class_range = config.class_range;
  supervision.log_dir = data_dir.LogDir();
  supervision.now = SteadyNow;
  supervision.disk = DiskOf(config.data_dir);
  supervision.data_dir = config.data_dir;
  supervision.max_image_bytes = config.images.max_size_bytes;
  supervision.disk_floor = {config.min_free_bytes, config.run_dir + "/disk-use"};
  supervision.check = [&clock, &runtime](CheckTarget target) {
    return RunCheck(clock, *runtime, std::move(target));
  };
  supervision.run_hook = [&clock, pool = work.get_executor()](HookCall call) {
    return RunHook(&clock, pool, std::move(call));
  };
  Supervisor supervisor({executor, work.get_executor(), clock, *runtime, *store, cluster}, routes,
                        supervision);
  WakerRelay waker(executor, clock, supervisor);
  IngressConfig ingress_config = IngressFor(config);
  ingress_config.begin_thread = [&runtime] { runtime->EnlistThread(); };
  Ingress ingress(std::move(ingress_config), publisher, waker, clock, fd_store);
  ingress_pointer = &ingress;
  CTR_CO_RETURN_IF_ERROR(ingress.Open());
  UniqueFd metrics;
  if (config.metrics) {
    CTR_CO_ASSIGN_OR_RETURN(
        metrics, ListenForMetrics(config.metrics->address, config.metrics->port, fd_store));
  }
  if (predecessor != nullptr) predecessor->Begin(executor, clock, supervisor, waker);
  CTR_CO_RETURN_IF_ERROR(co_await supervisor.Recover(RecoveryStepsOf(beginning)));
  runtime->OpenInternet(
      [&supervisor](Event event) { supervisor.events().Record(std::move(event)); });
  asio::cancellation_signal stop_metrics;
  if (metrics.valid()) {
    ServeMetrics(
        executor, std::move(metrics),
        [&supervisor, &clock] { return MetricsText(supervisor, clock.Wall()); },
        stop_metrics.slot());
  }
  ingress.Start();

  AgentFacts facts{CTR_VERSION,
                   agent_id,
                   clock.Wall(),
                   config.data_dir,
                   config.run_dir,
                   ingress.http_addresses().front(),
                   options.Socket(),
                   "ctr-" + agent_id,
                   ingress.steering().Describe(),
                   config.instance_range.ToString(),
                   config.class_range.ToString(),
                   [&runtime] { return runtime->InternetStatus(); }};
  AgentService service(executor, work.get_executor(), clock, supervisor, *runtime, facts);
  CTR_CO_ASSIGN_OR_RETURN(std::unique_ptr<ApiServer> server,
                          ApiServer::Listen(config.run_dir + "/agent.sock", service, fd_store,
                                            executor, work.get_executor()));
  HandOver hand_over({executor, clock, fd_store, supervisor, waker, ingress},
                     {config.run_dir, beginning.SuccessorCommand()},
                     HandOverStepsOf({server.get(), &service, store.get(), runtime.get(),
                                      &supervisor, &data_dir, &clock, &stop_metrics}));
  CTR_CO_RETURN_IF_ERROR(hand_over.Listen());
  supervisor.events().Record({.type = event::kAgentStarted,
                              .message = predecessor == nullptr ? "version " CTR_VERSION
                                                                : "version " CTR_VERSION
                                                                  ", which has taken over"});
  fd_store.DiscardRest();
  asio::co_spawn(executor, WatchDescriptors(), asio::detached);
  fd_store.Notify("READY=1");
  if (predecessor != nullptr) predecessor->TellReady();
  spdlog::info("ctr-agent {} serves {} and {}/agent.sock; {}", CTR_VERSION, facts.http_address,
               config.run_dir, runtime->Describe());

  const bool signalled = (co_await (UntilSignalled() || hand_over.UntilDone())).index() == 0;
  const bool handed_over = !signalled || co_await hand_over.Cancel();
  spdlog::info(handed_over ? "finishing what is in flight" : "stopping; instances run on");
  fd_store.Notify("STOPPING=1");
  server->StopAccepting();
  // Nobody is served anew while this agent is the only one.
  const Duration drain = handed_over && !hand_over.successor_serves() ? kApiPatience : config.drain;
  const MonoTime drained = clock.Now() + drain;
  const IdleConnections idle = handed_over ? IdleConnections::kKeep : IdleConnections::kEnd;
  if (handed_over && hand_over.successor_serves()) {
    // Nobody serves once that has ended: out of the way of who is started then.
    co_await (ingress.Drain(drain, idle) || hand_over.UntilAlone());
  } else {
    co_await ingress.Drain(drain, idle);
  }
  const auto serves = [&] {
    if (handed_over && hand_over.successor_gone()) return false;
    return service.sessions() > 0 || (predecessor != nullptr && predecessor->connected());
  };
  while (serves() && clock.Now() < drained) {
    co_await clock.SleepUntil(clock.Now() + kSessionPoll);
  }
  if (const int cut = service.sessions(); cut > 0) {
    spdlog::warn("{} exec sessions, copies or runs did not end within drain: they are cut off",
                 cut);
  }
  if (!handed_over) {
    supervisor.events().TellCounted();
    supervisor.events().Record({.type = event::kAgentStopped, .message = "instances run on"});
  }
  service.EndFollowing();
  co_await ShutDown(server.get(), work.get_executor());
  // Instances run on, and nobody would bring back those that are behind.
  supervisor.ranks().LetGo();
  if (handed_over && !hand_over.successor_serves()) {
    spdlog::warn("starting again, as the agent that took over has ended at once");
    fd_store.StartAgain(beginning.command);
  }
  co_return absl::OkStatus();
}

awaitable<Status> Purge(Beginning& beginning, const DataDir& data_dir, asio::thread_pool& work,
                        Clock& clock) {
  const AgentConfig& config = beginning.command_line.config;
  if (!data_dir.IsInUse()) {
    spdlog::info("no agent has used {}: there is nothing to purge", data_dir.path());
    co_return data_dir.Purge();
  }
  CTR_CO_ASSIGN_OR_RETURN(std::string agent_id, data_dir.AgentId());
  CTR_CO_ASSIGN_OR_RETURN(std::string containerd, data_dir.DecideContainerd(config.containerd));
  CTR_CO_RETURN_IF_ERROR(co_await PurgeContainerd(OptionsFor(config, agent_id, containerd), &clock,
                                                  co_await asio::this_coro::executor,
                                                  work.get_executor()));
  co_return data_dir.Purge();
}

int Fail(const Status& status) {
  std::fprintf(stderr, "ctr-agent: %s\n", std::string(status.message()).c_str());
  return 1;
}

// Never returns: coroutines that still wait are ended with the process, not in some order of
// destruction.
int Run(const CommandLine& command_line, int argc, char** argv) {
  StatusOr<Beginning> beginning = Begin(command_line, argc, argv);
  if (!beginning.ok()) return Fail(beginning.status());
  StatusOr<DataDir> data_dir = LockDataDir(*beginning);
  if (!data_dir.ok()) return Fail(data_dir.status());
  asio::io_context control(1);
  asio::thread_pool work(kWorkThreads);
  SystemClock clock;
  auto task = command_line.purge ? Purge : Serve;
  asio::co_spawn(control, task(*beginning, *data_dir, work, clock),
                 [](std::exception_ptr exception, Status status) {
                   if (exception) std::rethrow_exception(exception);
                   std::_Exit(status.ok() ? 0 : Fail(status));
                 });
  control.run();
  return 1;
}

int Main(int argc, char** argv) {
  ::umask(022);  // users of instances read what it makes for them, whoever starts it
  if (argc > 1 && argv[1] == std::string_view(tar::kInsideArgument)) {
    return tar::RunInside(argc, argv);
  }
  ReserveDescriptors();
  StatusOr<CommandLine> command_line = ParseCommandLine(argc, argv);
  if (!command_line.ok()) return Fail(command_line.status());
  if (command_line->doctor) {
    std::puts(ToJson(CheckHost(command_line->config.data_dir)).c_str());
    return 0;
  }
  if (!command_line->help.empty()) {
    std::fputs(command_line->help.c_str(), stdout);
    return 0;
  }
  if (command_line->version) {
    std::puts("ctr-agent " CTR_VERSION);
    return 0;
  }
  ::signal(SIGPIPE, SIG_IGN);
  spdlog::set_level(spdlog::level::from_str(command_line->config.log_level));
  spdlog::flush_on(spdlog::level::info);
  LowerOomScore(kAgentOomScore);
  if (command_line->reload) {
    Status reloaded = AskForReload(command_line->config.run_dir);
    return reloaded.ok() ? 0 : Fail(reloaded);
  }
  return Run(*command_line, argc, argv);
}

}  // namespace
}  // namespace ctr

int main(int argc, char** argv) { return ctr::Main(argc, argv); }
