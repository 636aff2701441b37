// The table of events: what comes in, what is asked for, and what is let go.
#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/store/sqlite/columns.h"
#include "agent/store/sqlite/tables.h"

namespace ctr::sqlite {
namespace {

// So many inserts share one look at the bounds, which counts the rows: some 2 ms for a hundred
// thousand.
constexpr int kInsertsPerPrune = 500;
// Aged rows go in pieces, so that no single commit waits for all of them.
constexpr int64_t kAgedPerPrune = 5'000;

Event ReadEvent(const Statement& row) {
  Event event;
  event.number = row.Integer(0);
  event.at = FromNanoseconds(row.Integer(1));
  event.type = row.Text(2);
  event.instance = {row.Text(3), row.Text(4)};
  event.generation = static_cast<uint64_t>(row.Integer(5));
  event.message = row.Text(6);
  event.cause = row.Text(7);
  if (!row.IsNull(8)) event.exit_code = static_cast<int>(row.Integer(8));
  return event;
}

// Only the conditions that say something, so that the index of an instance's events is used where
// one is asked for.
std::string Conditions(const EventQuery& query) {
  std::string sql = "number > ?1 AND number < ?2";
  if (query.since != WallTime()) sql += " AND at >= ?3";
  if (!query.types.empty()) sql += " AND instr(?4, ',' || type || ',') > 0";
  if (!query.instance.class_name.empty()) sql += " AND class = ?5";
  if (!query.instance.id.empty()) sql += " AND id = ?6";
  return sql;
}

}  // namespace

Status Tables::Apply(const PutEvent& put) {
  const Event& event = put.event;
  CTR_RETURN_IF_ERROR(put_event_->Run(event.number, ToNanoseconds(event.at), event.type,
                                      event.instance.class_name, event.instance.id,
                                      static_cast<int64_t>(event.generation), event.message,
                                      event.cause, AsInteger(event.exit_code)));
  if (inserts_until_prune_-- > 0) return absl::OkStatus();
  inserts_until_prune_ = kInsertsPerPrune;
  return PruneEvents(event.at);
}

Status Tables::PruneEvents(WallTime now) {
  int64_t count = 0;
  CTR_RETURN_IF_ERROR(count_events_->RunEach([&] { count = count_events_->Integer(0); }));
  if (count > kMaxEvents) {
    CTR_RETURN_IF_ERROR(drop_oldest_events_->Run(count - kMaxEvents - 1));
  }
  // Numbers ascend with time, but for a clock that was set: aged rows are the first ones.
  return drop_aged_events_->Run(
      ToNanoseconds(now - std::chrono::duration_cast<WallTime::duration>(kMaxEventAge)),
      kAgedPerPrune);
}

StatusOr<std::vector<Event>> Tables::ReadEvents(const EventQuery& query) {
  const bool newest = query.pick == EventQuery::Pick::kNewest;
  CTR_ASSIGN_OR_RETURN(
      Statement rows,
      database_.Prepare(absl::StrCat(
          "SELECT number, at, type, class, id, generation, message, cause, exit_code FROM events "
          "WHERE ",
          Conditions(query), " ORDER BY number ", newest ? "DESC" : "ASC", " LIMIT ?7")));
  std::vector<Event> events;
  CTR_RETURN_IF_ERROR(rows.RunEach(
      [&] { events.push_back(ReadEvent(rows)); }, query.after, query.before,
      ToNanoseconds(query.since), absl::StrCat(",", absl::StrJoin(query.types, ","), ","),
      query.instance.class_name, query.instance.id, int64_t{query.limit}));
  if (newest) std::reverse(events.begin(), events.end());
  return events;
}

}  // namespace ctr::sqlite
