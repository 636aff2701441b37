#include "agent/store/sqlite/tables.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/store/sqlite/columns.h"
#include "agent/store/sqlite/migrations.h"

namespace ctr::sqlite {
namespace {

Status RowsDamaged(const std::string& path, absl::string_view why) {
  return absl::DataLossError(absl::StrCat("the state file ", path, " is damaged (", why, ")"));
}

}  // namespace

StatusOr<Tables> Tables::Open(const std::string& path) {
  CTR_ASSIGN_OR_RETURN(Database database, Database::Open(path));
  CTR_RETURN_IF_ERROR(Migrate(database));
  Tables tables(std::move(database));
  CTR_RETURN_IF_ERROR(tables.Prepare());
  return tables;
}

Status Tables::Prepare() {
  const auto prepare = [this](std::optional<Statement>& statement, const char* sql) -> Status {
    CTR_ASSIGN_OR_RETURN(statement, database_.Prepare(sql));
    return absl::OkStatus();
  };
  CTR_RETURN_IF_ERROR(prepare(put_class_,
                              "INSERT INTO classes VALUES (?1, ?2, ?3, ?4, "
                              "row_sum(?1, ?2, ?3, ?4)) ON CONFLICT (name) DO UPDATE SET "
                              "source = ?2, address = ?3, applied_at = ?4, sum = excluded.sum"));
  CTR_RETURN_IF_ERROR(prepare(delete_class_, "DELETE FROM classes WHERE name = ?1"));
  // A row that is there keeps what was observed.
  CTR_RETURN_IF_ERROR(prepare(
      put_instance_,
      "INSERT INTO instances VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, "
      "?15, ?16, ?17, ?18, row_sum(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?16), "
      "row_sum(?1, ?2, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?17, ?18)) "
      "ON CONFLICT (class, id) DO UPDATE SET address = ?3, env = ?4, entrypoint = ?5, "
      "desired = ?6, created_at = ?7, command = ?16, sum = excluded.sum"));
  CTR_RETURN_IF_ERROR(
      prepare(put_observed_,
              "UPDATE instances SET state = ?3, reason = ?4, exit_code = ?5, message = ?6, "
              "generation = ?7, container_id = ?8, revision = ?9, since = ?10, "
              "failures = ?11, next_start = ?12, observed_sum = "
              "row_sum(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) "
              "WHERE class = ?1 AND id = ?2"));
  CTR_RETURN_IF_ERROR(
      prepare(delete_instance_, "DELETE FROM instances WHERE class = ?1 AND id = ?2"));
  CTR_RETURN_IF_ERROR(prepare(
      put_event_, "INSERT OR REPLACE INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"));
  CTR_RETURN_IF_ERROR(prepare(count_events_, "SELECT COUNT(*) FROM events"));
  CTR_RETURN_IF_ERROR(prepare(drop_oldest_events_,
                              "DELETE FROM events WHERE number <= "
                              "(SELECT number FROM events ORDER BY number LIMIT 1 OFFSET ?1)"));
  CTR_RETURN_IF_ERROR(prepare(drop_aged_events_,
                              "DELETE FROM events WHERE number IN (SELECT number FROM events "
                              "ORDER BY number LIMIT ?2) AND at < ?1"));
  return prepare(put_cursors_,
                 "INSERT OR REPLACE INTO cursors VALUES (1, ?1, ?2, row_sum(?1, ?2))");
}

Status Tables::Write(const std::vector<const Change*>& changes) {
  CTR_RETURN_IF_ERROR(database_.Execute("BEGIN IMMEDIATE"));
  Status status = WriteInside(changes);
  // SQLite may have rolled back by itself, as it does on a full disk.
  if (!status.ok()) database_.Execute("ROLLBACK").IgnoreError();
  return status;
}

Status Tables::WriteInside(const std::vector<const Change*>& changes) {
  for (const Change* change : changes) {
    CTR_RETURN_IF_ERROR(std::visit([this](const auto& one) { return Apply(one); }, *change));
  }
  return database_.Execute("COMMIT");
}

Status Tables::Apply(const PutClass& put) {
  const ClassRecord& record = put.record;
  return put_class_->Run(record.config.name, record.source, int64_t{record.address},
                         ToNanoseconds(record.applied_at));
}

Status Tables::Apply(const DeleteClass& del) { return delete_class_->Run(del.name); }

Status Tables::Apply(const PutInstance& put) {
  const InstanceRecord& record = put.record;
  const Observed& observed = record.observed;
  std::optional<std::string> entrypoint;
  if (record.entrypoint) entrypoint = EncodeList(*record.entrypoint);
  std::optional<std::string> command;
  if (record.command) command = EncodeList(*record.command);
  return put_instance_->Run(
      record.name.class_name, record.name.id, int64_t{record.address}, EncodeMap(record.env),
      entrypoint, ToString(record.desired), ToNanoseconds(record.created_at),
      ToString(observed.state), ToString(observed.reason), AsInteger(observed.exit_code),
      observed.message, static_cast<int64_t>(observed.generation), observed.container_id,
      observed.revision, ToNanoseconds(observed.since), command, int64_t{observed.failures},
      AsNanoseconds(observed.next_start));
}

Status Tables::Apply(const PutObserved& put) {
  const Observed& observed = put.observed;
  return put_observed_->Run(put.name.class_name, put.name.id, ToString(observed.state),
                            ToString(observed.reason), AsInteger(observed.exit_code),
                            observed.message, static_cast<int64_t>(observed.generation),
                            observed.container_id, observed.revision, ToNanoseconds(observed.since),
                            int64_t{observed.failures}, AsNanoseconds(observed.next_start));
}

Status Tables::Apply(const DeleteInstance& del) {
  return delete_instance_->Run(del.name.class_name, del.name.id);
}

Status Tables::Apply(const PutCursors& put) {
  return put_cursors_->Run(int64_t{put.cursors.instance}, int64_t{put.cursors.class_});
}

Status Tables::Apply(const AcceptLoss&) { return database_.Execute("UPDATE about SET lost = ''"); }

Status Tables::SetLost(const std::string& lost) {
  CTR_ASSIGN_OR_RETURN(Statement set, database_.Prepare("UPDATE about SET lost = ?1"));
  return set.Run(lost);
}

Status Tables::EmptyLog() {
  CTR_ASSIGN_OR_RETURN(std::string busy, database_.QueryText("PRAGMA wal_checkpoint(TRUNCATE)"));
  if (busy == "0") return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot empty the log of ", database_.path()));
}

StatusOr<StoredState> Tables::Load() {
  StoredState state;
  CTR_RETURN_IF_ERROR(LoadClasses(state.classes));
  CTR_RETURN_IF_ERROR(LoadInstances(state.instances));
  CTR_ASSIGN_OR_RETURN(Statement cursors, database_.Prepare(kSelectCursors));
  bool whole = true;
  CTR_RETURN_IF_ERROR(
      cursors.RunEach([&] { whole = ReadCursors(cursors, state.cursors) && whole; }));
  if (!whole) return RowsDamaged(database_.path(), "the row of the address cursors was altered");
  CTR_ASSIGN_OR_RETURN(Statement newest, database_.Prepare("SELECT MAX(number) FROM events"));
  CTR_RETURN_IF_ERROR(newest.RunEach([&] { state.last_event = newest.Integer(0); }));
  CTR_ASSIGN_OR_RETURN(state.lost, database_.QueryText("SELECT lost FROM about"));
  return state;
}

Status Tables::LoadClasses(std::vector<ClassRecord>& classes) {
  CTR_ASSIGN_OR_RETURN(Statement rows,
                       database_.Prepare(absl::StrCat(kSelectClasses, " ORDER BY name")));
  Status readable;
  CTR_RETURN_IF_ERROR(rows.RunEach([&] {
    StatusOr<ClassRecord> record = ReadClass(rows);
    if (record.ok()) {
      classes.push_back(*std::move(record));
    } else if (readable.ok()) {
      readable = RowsDamaged(database_.path(), record.status().message());
    }
  }));
  return readable;
}

Status Tables::LoadInstances(std::vector<InstanceRecord>& instances) {
  CTR_ASSIGN_OR_RETURN(Statement rows,
                       database_.Prepare(absl::StrCat(kSelectInstances, " ORDER BY class, id")));
  Status readable;
  CTR_RETURN_IF_ERROR(rows.RunEach([&] {
    StatusOr<InstanceRecord> record = ReadInstance(rows);
    if (record.ok() && !ObservedIsWhole(rows)) {
      record = absl::DataLossError(
          absl::StrCat("what was observed of ", record->name.ToString(), " was altered"));
    }
    if (record.ok()) {
      instances.push_back(*std::move(record));
    } else if (readable.ok()) {
      readable = RowsDamaged(database_.path(), record.status().message());
    }
  }));
  return readable;
}

}  // namespace ctr::sqlite
