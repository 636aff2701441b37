// The part of AgentService that reads instances' output.
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "agent/api/agent_service.h"
#include "agent/api/convert.h"
#include "agent/api/requests.h"
#include "agent/base/work.h"
#include "agent/control/log_files.h"
#include "agent/control/state_watch.h"

namespace ctr {
namespace {

struct LogRange {
  LogPosition begin;
  std::optional<LogPosition> end;  // none: it is followed
};

// Blocks.
LogRange RangeOf(const std::string& folder, std::optional<WallTime> since,
                 std::optional<int64_t> tail, bool follow) {
  LogRange range;
  if (since) range.begin = LogPositionOf(folder, *since);
  if (tail) range.begin = std::max(range.begin, TailOfLog(folder, *tail));
  // Last: what is written meanwhile must not push the beginning beyond it.
  if (!follow) range.end = EndOfLog(folder);
  return range;
}

}  // namespace

grpc::ServerWriteReactor<v1::LogRecords>* AgentService::ReadLogs(
    grpc::CallbackServerContext* context, const v1::ReadLogsRequest* request) {
  return rpc::ServeWriter<v1::LogRecords>(
      context, control_, [=, this](rpc::CallContext, rpc::StreamWriter<v1::LogRecords>& writer) {
        return DoReadLogs(request, writer);
      });
}

void AgentService::EndFollowing() {
  stopping_ = true;
  supervisor_.events().Close();
  for (Alarm* follower : log_followers_) follower->Ring();
}

awaitable<void> AgentService::AwaitLogWritten(std::string folder, uint64_t generation) {
  const MonoTime patience = clock_.Now() + kWriterPatience;
  std::unique_ptr<Alarm> alarm = clock_.MakeAlarm(control_);
  const std::unique_ptr<LogWatcher::Watch> watch = log_watcher_.Add(folder, alarm.get());
  while (clock_.Now() < patience && co_await OnWork(work_, [folder, generation] {
           return IsLogBeingWritten(folder, generation);
         })) {
    co_await alarm->WaitUntil(clock_.Now() + kWriterRecheck);
  }
}

awaitable<Status> AgentService::DoReadLogs(const v1::ReadLogsRequest* request,
                                           rpc::StreamWriter<v1::LogRecords>& writer) {
  CTR_CO_ASSIGN_OR_RETURN(Supervisor::InstancePtr instance, Find(request->ref()));
  std::optional<WallTime> since;
  if (request->has_since_ns()) since = WallTime(std::chrono::nanoseconds(request->since_ns()));
  std::optional<int64_t> tail;
  if (request->has_tail()) tail = request->tail();
  if (tail.value_or(0) < 0) {
    co_return BadRequest("the number of lines must not be negative");
  }
  const std::string folder = instance->LogPath();
  const bool follow = request->follow();
  std::unique_ptr<Alarm> alarm = clock_.MakeAlarm(control_);
  std::unique_ptr<LogWatcher::Watch> watch;
  std::optional<StateWatch> forgotten;
  const auto unfollow = absl::MakeCleanup([&] { log_followers_.erase(alarm.get()); });
  if (follow) {
    log_followers_.insert(alarm.get());
    CTR_CO_RETURN_IF_ERROR(co_await OnWork(work_, [folder] { return PrepareLogFolder(folder); }));
    watch = log_watcher_.Add(folder, alarm.get());
    forgotten.emplace(
        control_, instance, [](const Instance&) { return false; }, nullptr, alarm.get());
  } else if (instance->state() == State::kStopped) {
    co_await AwaitLogWritten(folder, instance->observed().generation);
  }
  LogRange range = co_await OnWork(
      work_, [folder, since, tail, follow] { return RangeOf(folder, since, tail, follow); });
  auto cursor = std::make_shared<LogCursor>(folder, range.begin, range.end, LogHold::kNone);
  for (;;) {
    const bool last = !follow || forgotten->done();
    CTR_CO_ASSIGN_OR_RETURN(LogBatch batch,
                            co_await OnWork(work_, [cursor] { return cursor->Read(); }));
    v1::LogRecords message;
    for (const LogRecord& record : batch.records) {
      if (!since || record.time >= *since) ctr::ToProto(record, message.add_records());
    }
    if (message.records_size() > 0) co_await writer.Write(std::move(message));
    if (!batch.at_end) continue;
    if (last) co_return absl::OkStatus();
    if (stopping_) co_return AgentStops();
    co_await alarm->WaitUntil(MonoTime::max());
  }
}

}  // namespace ctr
