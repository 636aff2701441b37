// Routing and scaling of a class: what is chosen, and how many instances there are to be.
#include <numeric>

#include "agent/api/agent_service.h"
#include "agent/api/convert.h"
#include "agent/api/requests.h"
#include "agent/base/work.h"
#include "agent/config/autoscale_edit.h"
#include "agent/config/class_file.h"
#include "agent/policy/simulate.h"

namespace ctr {
namespace {

const char* WordOf(policy::Verdict verdict) {
  switch (verdict) {
    case policy::Verdict::kChosen:
      return "chosen";
    case policy::Verdict::kEqual:
      return "equal";
    case policy::Verdict::kDearer:
      return "dearer";
    case policy::Verdict::kUnhealthy:
      return "unhealthy";
    case policy::Verdict::kFull:
      return "full";
    case policy::Verdict::kOverloaded:
      return "overloaded";
    case policy::Verdict::kEjected:
      return "ejected";
  }
  return "";
}

const char* WordOf(policy::Signal signal) {
  switch (signal) {
    case policy::Signal::kTraffic:
      return "traffic";
    case policy::Signal::kQueue:
      return "queue";
    case policy::Signal::kCpu:
      return "cpu";
    case policy::Signal::kMemory:
      return "memory";
  }
  return "";
}

const char* WordOf(policy::Bound bound) {
  switch (bound) {
    case policy::Bound::kNone:
      return "";
    case policy::Bound::kNoData:
      return "no_data";
    case policy::Bound::kTolerance:
      return "tolerance";
    case policy::Bound::kHold:
      return "hold";
    case policy::Bound::kMin:
      return "min";
    case policy::Bound::kMax:
      return "max";
    case policy::Bound::kMaxInstances:
      return "max_instances";
    case policy::Bound::kHost:
      return "host";
    case policy::Bound::kLastAwake:
      return "last_awake";
    case policy::Bound::kIdle:
      return "idle";
  }
  return "";
}

double Milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// As long as the class's starts have taken so far, on average.
double StartSeconds(const DurationHistogram& starts) {
  const uint64_t count = std::accumulate(starts.buckets.begin(), starts.buckets.end(), uint64_t{0});
  return count > 0 ? starts.sum_seconds / static_cast<double>(count) : 1;
}

void Fill(const policy::SimulationResult& result, v1::SimulateAutoscaleResponse* response) {
  for (const policy::SimulationStep& it : result.steps) {
    v1::SimulateAutoscaleResponse::Step* step = response->add_steps();
    step->set_second(it.second);
    step->set_arrivals(it.arrivals);
    step->set_waited(it.waited);
    step->set_completed(it.completed);
    step->set_desired(it.desired);
    step->set_ready(it.ready);
    step->set_starting(it.starting);
    step->set_draining(it.draining);
    step->set_queued(it.queued);
    step->set_in_flight(it.in_flight);
    if (it.latency_p50) step->set_latency_p50_ms(*it.latency_p50 * 1e3);
    if (it.latency_p99) step->set_latency_p99_ms(*it.latency_p99 * 1e3);
    step->set_panic(it.panic);
    step->set_reason(it.reason);
  }
  const policy::SimulationTotals& totals = result.totals;
  response->set_requests(totals.requests);
  response->set_completed(totals.completed);
  response->set_waited(totals.waited);
  response->set_worst_wait_ms(totals.worst_wait * 1e3);
  response->set_latency_p50_ms(totals.latency_p50 * 1e3);
  response->set_latency_p99_ms(totals.latency_p99 * 1e3);
  response->set_instance_seconds(totals.instance_seconds);
  response->set_ideal_instance_seconds(totals.ideal_instance_seconds);
  response->set_starts(totals.starts);
  response->set_most(totals.most);
}

Status NotNearest(const std::string& class_name) {
  return Error(absl::StatusCode::kFailedPrecondition, code::kConflict,
               "class " + class_name +
                   " routes at random: there is nothing to explain; set [route] policy = "
                   "\"nearest\", or autoscale = true");
}

}  // namespace

awaitable<Status> AgentService::DoExplainRoute(const v1::RouteRequest* request,
                                               v1::ExplainRouteResponse* response) {
  CTR_CO_ASSIGN_OR_RETURN(std::string class_name, supervisor_.ResolveClass(request->class_()));
  CTR_CO_RETURN_IF_ERROR(supervisor_.FindClass(class_name).status());
  const std::shared_ptr<ClassPool> pool = supervisor_.FindPool(class_name);
  if (!pool) co_return NotNearest(class_name);
  bool any_healthy = false;
  bool chosen = false;
  for (const ClassPool::Considered& it : pool->Explain()) {
    v1::ExplainRouteResponse::Candidate* candidate = response->add_candidates();
    candidate->set_class_(it.name.class_name);
    candidate->set_id(it.name.id);
    candidate->set_verdict(WordOf(it.considered.verdict));
    candidate->set_latency_ms(Milliseconds(it.considered.latency));
    candidate->set_cost_ms(Milliseconds(it.considered.cost));
    candidate->set_in_flight(it.candidate.in_flight);
    any_healthy |= it.candidate.healthy;
    chosen |= it.considered.verdict == policy::Verdict::kChosen;
  }
  response->set_outcome(chosen ? "chosen" : any_healthy ? "all_full" : "none_healthy");
  co_return absl::OkStatus();
}

awaitable<Status> AgentService::DoSetAutoscale(const v1::SetAutoscaleRequest* request,
                                               v1::ApplyClassResponse* response,
                                               rpc::CallContext call) {
  CTR_CO_ASSIGN_OR_RETURN(std::string class_name, supervisor_.ResolveClass(request->class_()));
  CTR_CO_ASSIGN_OR_RETURN(
      AppliedClass applied,
      co_await supervisor_.SetAutoscale(
          class_name, request->on(), {request->settings().begin(), request->settings().end()},
          CauseOf(call, request->on() ? "autoscale on" : "autoscale off")));
  co_return FillApplied(applied, response);
}

awaitable<Status> AgentService::DoGetAutoscale(const v1::GetAutoscaleRequest* request,
                                               v1::AutoscaleStatus* response) {
  CTR_CO_ASSIGN_OR_RETURN(std::string class_name, supervisor_.ResolveClass(request->class_()));
  CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> state, supervisor_.FindClass(class_name));
  response->set_class_(class_name);
  response->set_on(state->config->autoscale.has_value());
  if (!response->on()) co_return absl::OkStatus();
  response->set_settings_json(AutoscaleJsonText(*state->config->autoscale));
  const std::shared_ptr<ClassPool> pool = supervisor_.FindPool(class_name);
  if (!pool) co_return absl::OkStatus();
  response->set_live(pool->live());
  response->set_healthy(pool->healthy());
  response->set_queued(pool->queued());
  for (const ClassPool::Told& told : pool->history()) {
    v1::AutoscaleStatus::Told* decision = response->add_decisions();
    decision->set_time_ms(UnixMilliseconds(told.at));
    decision->set_desired(told.desired);
    decision->set_reason(told.reason);
  }
  if (!pool->decision()) co_return absl::OkStatus();
  const policy::AutoscaleDecision& decision = *pool->decision();
  response->set_desired(decision.desired);
  response->set_panic(decision.panicking.has_value());
  response->set_bound(WordOf(decision.bound));
  response->set_reason(decision.reason);
  for (const policy::SignalReport& report : decision.signals) {
    v1::AutoscaleStatus::Signal* signal = response->add_signals();
    signal->set_name(WordOf(report.signal));
    signal->set_value(report.value);
    signal->set_target(report.target);
    if (report.wish) signal->set_wish(*report.wish);
    signal->set_text(report.text);
  }
  co_return absl::OkStatus();
}

awaitable<Status> AgentService::DoSimulateAutoscale(const v1::SimulateAutoscaleRequest* request,
                                                    v1::SimulateAutoscaleResponse* response) {
  CTR_CO_ASSIGN_OR_RETURN(std::string class_name, supervisor_.ResolveClass(request->class_()));
  CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> state, supervisor_.FindClass(class_name));
  CTR_CO_ASSIGN_OR_RETURN(const std::string source,
                          WithAutoscale(state->record.source, true,
                                        {request->settings().begin(), request->settings().end()}));
  CTR_CO_ASSIGN_OR_RETURN(const ClassConfig config, ParseClassFile(source, class_name));
  policy::SimulationConfig simulation;
  simulation.autoscale = AutoscaleConfigOf(config);
  simulation.cpu_limit = config.resources.cpus.value_or(0);
  simulation.memory_limit = static_cast<double>(config.resources.memory_bytes.value_or(0));
  simulation.max_instances = config.max_instances;
  simulation.instances = static_cast<int>(request->instances());
  const double start = request->start_seconds() > 0 ? request->start_seconds()
                                                    : StartSeconds(state->wake_times.total);
  simulation.start_time =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(start));
  std::vector<policy::TraceRow> trace;
  for (const auto& row : request->rows()) {
    trace.push_back({row.at(), row.arrivals(), row.service(), row.cpu(), row.memory()});
  }
  const Semaphore::Permit permit = co_await simulating_.Acquire();
  policy::Simulation run(trace, simulation);
  co_await AllowCancellation(true);
  while (co_await OnWork(work_, [&run] { return run.GoOn(); })) {
  }
  co_await AllowCancellation(false);
  const policy::SimulationResult result = run.TakeResult();
  if (!result.error.empty()) co_return BadRequest(result.error);
  Fill(result, response);
  response->set_step_seconds(result.step_seconds);
  response->set_start_seconds(start);
  response->set_settings_json(AutoscaleJsonText(*config.autoscale));
  co_return absl::OkStatus();
}

grpc::ServerUnaryReactor* AgentService::SimulateAutoscale(
    grpc::CallbackServerContext* context, const v1::SimulateAutoscaleRequest* request,
    v1::SimulateAutoscaleResponse* response) {
  return Handle(context,
                [=, this](rpc::CallContext) { return DoSimulateAutoscale(request, response); });
}

grpc::ServerUnaryReactor* AgentService::ExplainRoute(grpc::CallbackServerContext* context,
                                                     const v1::RouteRequest* request,
                                                     v1::ExplainRouteResponse* response) {
  return Handle(context, [=, this](rpc::CallContext) { return DoExplainRoute(request, response); });
}

grpc::ServerUnaryReactor* AgentService::SetAutoscale(grpc::CallbackServerContext* context,
                                                     const v1::SetAutoscaleRequest* request,
                                                     v1::ApplyClassResponse* response) {
  return Handle(context, [=, this](rpc::CallContext call) {
    return DoSetAutoscale(request, response, call);
  });
}

grpc::ServerUnaryReactor* AgentService::GetAutoscale(grpc::CallbackServerContext* context,
                                                     const v1::GetAutoscaleRequest* request,
                                                     v1::AutoscaleStatus* response) {
  return Handle(context, [=, this](rpc::CallContext) { return DoGetAutoscale(request, response); });
}

}  // namespace ctr
