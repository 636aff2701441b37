// What happened and why: events, `ctr why`, and what instances use.
#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/api/agent_service.h"
#include "agent/api/convert.h"
#include "agent/api/requests.h"
#include "agent/control/why.h"

namespace ctr {
namespace {

// Events in one message, and read from the store at once.
constexpr int kPage = 500;
constexpr uint32_t kMaxNewest = 10'000;
// What `why` looks at and gives back.
constexpr int kWhyEvents = 50;
// Instances whose cgroups are read (some 50 µs each) before others get the loop.
constexpr int kStatsPerTurn = 16;

void AppendEvents(const std::vector<Event>& events, size_t from, size_t to,
                  v1::ListEventsResponse& response) {
  for (size_t i = from; i < to; ++i) ctr::ToProto(events[i], response.add_events());
}

Status CheckEventType(const std::string& type) {
  if (std::find(std::begin(event::kAll), std::end(event::kAll), type) != std::end(event::kAll)) {
    return absl::OkStatus();
  }
  return BadRequest(absl::StrCat("there are no events of type \"", type, "\"; the types are ",
                                 absl::StrJoin(event::kAll, ", ")));
}

}  // namespace

awaitable<Status> AgentService::DoListEvents(const v1::ListEventsRequest* request,
                                             rpc::StreamWriter<v1::ListEventsResponse>& writer) {
  EventQuery query;
  query.instance = {request->class_(), request->id()};
  if (!request->class_().empty()) {
    CTR_CO_RETURN_IF_ERROR(CheckDnsLabel(request->class_(), "class name"));
  }
  if (!request->id().empty()) {
    v1::InstanceRef ref;
    ref.set_class_(request->class_());
    ref.set_id(request->id());
    CTR_CO_ASSIGN_OR_RETURN(query.instance, NameOf(ref));
  }
  for (const std::string& type : request->types()) CTR_CO_RETURN_IF_ERROR(CheckEventType(type));
  query.types.assign(request->types().begin(), request->types().end());
  query.since = WallTime(std::chrono::milliseconds(request->since_ms()));
  query.pick = request->limit() == 0 ? EventQuery::Pick::kOldest : EventQuery::Pick::kNewest;
  query.limit =
      request->limit() == 0 ? kPage : static_cast<int>(std::min(request->limit(), kMaxNewest));
  EventLog& log = supervisor_.events();
  for (;;) {
    CTR_CO_ASSIGN_OR_RETURN(const EventPage page, co_await log.Read(query));
    const bool left_out = page.cut && query.pick == EventQuery::Pick::kNewest;
    for (size_t from = 0; from < page.events.size(); from += kPage) {
      v1::ListEventsResponse response;
      response.set_cut(left_out && from == 0);
      AppendEvents(page.events, from, std::min(from + kPage, page.events.size()), response);
      co_await writer.Write(std::move(response));
    }
    const bool more = page.cut && !left_out;
    query.pick = EventQuery::Pick::kOldest;
    query.limit = kPage;
    query.after = page.seen;
    if (more) continue;
    if (!request->follow()) co_return absl::OkStatus();
    if (log.closed() && log.newest() <= page.seen) co_return AgentStops();
    co_await log.AwaitNewer(page.seen);
  }
}

awaitable<Status> AgentService::DoExplain(const v1::ExplainInstanceRequest* request,
                                          v1::ExplainInstanceResponse* response) {
  CTR_CO_ASSIGN_OR_RETURN(InstanceName name, NameOf(request->ref()));
  CTR_CO_RETURN_IF_ERROR(supervisor_.Find(name).status());
  CTR_CO_ASSIGN_OR_RETURN(
      EventPage page, co_await supervisor_.events().Read({.instance = name, .limit = kWhyEvents}));
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, supervisor_.Find(name));
  ctr::ToProto(*instance, response->mutable_instance());
  WhyView view;
  view.record = instance->record();
  view.config = *instance->class_state()->config;
  view.events = std::move(page.events);
  view.now = clock_.Wall();
  view.in_flight = instance->slot()->in_flight();
  view.visits = instance->visits();
  view.passing = instance->shown_state() == instance->state();
  view.outdated = instance->Outdated();
  view.old_image = instance->RunsOldImage();
  view.awaits_room = instance->AwaitsRoom();
  view.behind = instance->container() && supervisor_.ranks().IsBehind(instance->container()->id);
  if (instance->state() == State::kHealthy) {
    const auto wall = [&](MonoTime time) {
      return view.now + std::chrono::duration_cast<WallTime::duration>(time - clock_.Now());
    };
    view.last_activity = wall(instance->slot()->last_activity());
    if (auto sleeps_at = instance->SleepsAt()) view.sleeps_at = wall(*sleeps_at);
  }
  for (std::string& sentence : Explain(view)) {
    response->add_sentences(AsUtf8(std::move(sentence)));
  }
  for (const Event& event : view.events) ctr::ToProto(event, response->add_events());
  co_return absl::OkStatus();
}

StatusOr<std::vector<Supervisor::InstancePtr>> AgentService::Selected(
    const v1::ListStatsRequest& request) const {
  std::vector<Supervisor::InstancePtr> selected;
  for (const v1::InstanceRef& ref : request.refs()) {
    CTR_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, Find(ref));
    selected.push_back(std::move(instance));
  }
  if (!selected.empty()) return selected;
  if (!request.class_().empty()) {
    CTR_RETURN_IF_ERROR(supervisor_.FindClass(request.class_()).status());
  }
  for (const auto& [name, instance] : supervisor_.instances()) {
    if (!request.class_().empty() && name.class_name != request.class_()) continue;
    if (request.all() || instance->state() != State::kStopped) selected.push_back(instance);
  }
  return selected;
}

void AgentService::FillStats(const Instance& instance, v1::InstanceStats* stats) const {
  ctr::ToProto(instance, stats->mutable_instance());
  stats->set_requests(instance.slot()->served());
  const std::optional<double>& cpus = instance.class_state()->config->resources.cpus;
  if (cpus) stats->set_cpu_limit(*cpus);
  stats->set_sampled_at_us(clock_.Now().time_since_epoch() / std::chrono::microseconds(1));
  if (!instance.container()) return;
  // One that ends just now has none, as one that has ended.
  StatusOr<ResourceUsage> usage = runtime_.Usage(instance.container()->id);
  if (!usage.ok()) return;
  stats->set_cpu_time_us(usage->cpu_time / std::chrono::microseconds(1));
  stats->set_memory_bytes(usage->memory_bytes);
  if (usage->memory_limit_bytes) stats->set_memory_limit_bytes(*usage->memory_limit_bytes);
  stats->set_processes(usage->processes);
}

awaitable<Status> AgentService::DoListStats(const v1::ListStatsRequest* request,
                                            v1::ListStatsResponse* response) {
  CTR_CO_ASSIGN_OR_RETURN(const std::vector<Supervisor::InstancePtr> selected, Selected(*request));
  int turn = 0;
  for (const Supervisor::InstancePtr& instance : selected) {
    if (++turn % kStatsPerTurn == 0) co_await asio::post(control_, use_awaitable);
    FillStats(*instance, response->add_stats());
  }
  co_return absl::OkStatus();
}

grpc::ServerWriteReactor<v1::ListEventsResponse>* AgentService::ListEvents(
    grpc::CallbackServerContext* context, const v1::ListEventsRequest* request) {
  return rpc::ServeWriter<v1::ListEventsResponse>(
      context, control_,
      [=, this](rpc::CallContext, rpc::StreamWriter<v1::ListEventsResponse>& writer) {
        return DoListEvents(request, writer);
      });
}

grpc::ServerUnaryReactor* AgentService::ExplainInstance(grpc::CallbackServerContext* context,
                                                        const v1::ExplainInstanceRequest* request,
                                                        v1::ExplainInstanceResponse* response) {
  return Handle(context, [=, this](rpc::CallContext) { return DoExplain(request, response); });
}

grpc::ServerUnaryReactor* AgentService::ListStats(grpc::CallbackServerContext* context,
                                                  const v1::ListStatsRequest* request,
                                                  v1::ListStatsResponse* response) {
  return Handle(context, [=, this](rpc::CallContext) { return DoListStats(request, response); });
}

}  // namespace ctr
