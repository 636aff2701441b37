#include <thread>

#include "cli/commands/commands.h"
#include "cli/commands/options.h"
#include "cli/full_screen.h"
#include "cli/usage.h"

namespace ctr::cli {
namespace {

// What a rate is taken over: long enough for a few of the scheduler's turns and short enough to
// wait for.
constexpr auto kInterval = std::chrono::milliseconds(500);
constexpr auto kRefresh = std::chrono::seconds(1);
// Of an agent that does not answer while somebody looks on.
constexpr auto kSampleWithin = std::chrono::seconds(5);

struct StatsFlags {
  std::vector<std::string> names;
  bool all = false;
};

StatusOr<v1::ListStatsRequest> RequestOf(const StatsFlags& flags, const Context& context) {
  v1::ListStatsRequest request;
  request.set_class_(context.settings().class_name);
  request.set_all(flags.all);
  for (const std::string& name : flags.names) {
    CTR_ASSIGN_OR_RETURN(*request.add_refs(), context.Ref(name));
  }
  return request;
}

StatusOr<std::vector<Usage>> MeasureOnce(const v1::ListStatsRequest& request, Context& context) {
  CTR_ASSIGN_OR_RETURN(const v1::ListStatsResponse before,
                       context.Call(&Client::Stub::ListStats, request));
  std::this_thread::sleep_for(kInterval);
  CTR_ASSIGN_OR_RETURN(const v1::ListStatsResponse after,
                       context.Call(&Client::Stub::ListStats, request));
  return Rates(before, after);
}

int Print(const std::vector<Usage>& usages, Context& context) {
  if (context.json()) {
    Json array = Json::array();
    for (const Usage& usage : usages) array.push_back(ToJson(usage));
    return context.PrintJsonList(array);
  }
  if (context.settings().output == Output::kName) {
    std::string lines;
    for (const Usage& usage : usages) lines += NameOf(usage.stats.instance()) + "\n";
    return context.PrintText(lines);
  }
  return context.PrintText(UsageTable(usages, context.style()));
}

int Stats(const StatsFlags& flags, Context& context) {
  StatusOr<v1::ListStatsRequest> request = RequestOf(flags, context);
  if (!request.ok()) return context.Fail(request.status());
  StatusOr<std::vector<Usage>> usages = MeasureOnce(*request, context);
  return usages.ok() ? Print(*usages, context) : context.Fail(usages.status());
}

// A call with a deadline of its own: signals wait while it runs.
StatusOr<v1::ListStatsResponse> Sample(const v1::ListStatsRequest& request, Client& client) {
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + kSampleWithin);
  v1::ListStatsResponse response;
  const grpc::Status status = client.stub().ListStats(&call, request, &response);
  if (!status.ok()) return client.StatusFrom(status, call);
  return response;
}

// Shows what it samples until it is told to end: the signal that did, or 0.
StatusOr<int> Watch(const v1::ListStatsRequest& request, Context& context) {
  const SignalTrap signals;
  CTR_ASSIGN_OR_RETURN(Client * client, context.client());
  CTR_ASSIGN_OR_RETURN(v1::ListStatsResponse before, Sample(request, *client));
  FullScreen screen(context.io().input, context.io().out, signals);
  std::vector<Usage> usages = Rates({}, before);
  MonoTime next = std::chrono::steady_clock::now() + kInterval;
  for (;;) {
    screen.Draw(TopScreen(usages, screen.size(), context.style()));
    const FullScreen::Wake wake = screen.WaitUntil(next);
    if (wake == FullScreen::Wake::kQuit) return screen.signal();
    if (wake == FullScreen::Wake::kResized) continue;
    CTR_ASSIGN_OR_RETURN(v1::ListStatsResponse after, Sample(request, *client));
    usages = Rates(before, after);
    before = std::move(after);
    next = std::chrono::steady_clock::now() + kRefresh;
  }
}

int Top(const StatsFlags& flags, Context& context) {
  const bool live = context.io().out_is_terminal && context.settings().output == Output::kTable;
  if (!live) return Stats(flags, context);
  StatusOr<v1::ListStatsRequest> request = RequestOf(flags, context);
  if (!request.ok()) return context.Fail(request.status());
  StatusOr<int> ended = Watch(*request, context);
  if (!ended.ok()) return context.Fail(ended.status());
  return *ended == 0 ? 0 : 128 + *ended;
}

std::shared_ptr<StatsFlags> AddFlags(CLI::App& app) {
  auto flags = std::make_shared<StatsFlags>();
  app.add_option("ID", flags->names, "these alone: ID, or CLASS/ID (default: the live ones)")
      ->type_name("");
  app.add_flag("-a,--all", flags->all, "the stopped, too");
  return flags;
}

}  // namespace

Action DefineStats(CLI::App& app) {
  auto flags = AddFlags(app);
  return [flags](Context& context) { return Stats(*flags, context); };
}

Action DefineTop(CLI::App& app) {
  auto flags = AddFlags(app);
  app.description(absl::StrCat(app.get_description(),
                               "\n\nOff a terminal it prints the table once, as ctr stats does."));
  return [flags](Context& context) { return Top(*flags, context); };
}

}  // namespace ctr::cli
