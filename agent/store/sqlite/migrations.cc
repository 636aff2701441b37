#include "agent/store/sqlite/migrations.h"

#include <array>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ctr::sqlite {
namespace {

// Step N makes version N out of version N-1, which PRAGMA user_version holds. A step that was
// released is never changed; the next one is added below. Times are Unix nanoseconds, addresses
// numbers in host byte order, `env` and `entrypoint` lists of "LENGTH:TEXT".
constexpr std::array kSteps = {
    R"sql(
CREATE TABLE classes (
  name TEXT NOT NULL PRIMARY KEY,
  source TEXT NOT NULL,
  address INTEGER NOT NULL UNIQUE,
  applied_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE instances (
  class TEXT NOT NULL,
  id TEXT NOT NULL,
  address INTEGER NOT NULL UNIQUE,
  env TEXT NOT NULL,
  entrypoint TEXT,
  desired TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  exit_code INTEGER,
  message TEXT NOT NULL,
  generation INTEGER NOT NULL,
  container_id TEXT NOT NULL,
  revision TEXT NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (class, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (
  only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
  instance INTEGER NOT NULL,
  class INTEGER NOT NULL
) STRICT;
)sql",
    R"sql(
ALTER TABLE instances ADD COLUMN command TEXT;
ALTER TABLE instances ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN next_start INTEGER;
CREATE TABLE events (
  number INTEGER NOT NULL PRIMARY KEY,
  at INTEGER NOT NULL,
  type TEXT NOT NULL,
  class TEXT NOT NULL,
  id TEXT NOT NULL,
  generation INTEGER NOT NULL,
  message TEXT NOT NULL,
  cause TEXT NOT NULL,
  exit_code INTEGER
) STRICT;
CREATE INDEX events_of_instance ON events (class, id, number);
)sql",
    R"sql(
ALTER TABLE classes ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN observed_sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cursors ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
UPDATE classes SET sum = row_sum(name, source, address, applied_at);
UPDATE instances SET
  sum = row_sum(class, id, address, env, entrypoint, desired, created_at, command),
  observed_sum = row_sum(class, id, state, reason, exit_code, message, generation, container_id,
                         revision, since, failures, next_start);
UPDATE cursors SET sum = row_sum(instance, class);
CREATE TABLE about (
  only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
  version INTEGER NOT NULL,
  lost TEXT NOT NULL
) STRICT;
INSERT INTO about VALUES (1, 3, '');
)sql",
};

// From this version on `about` has it, too: a user_version that says another is damaged.
constexpr int kFirstWithAbout = 3;

Status CheckVersion(Database& database, int version) {
  CTR_ASSIGN_OR_RETURN(
      const std::string has_about,
      database.QueryText("SELECT count(*) FROM sqlite_schema WHERE name = 'about'"));
  std::string kept = "none";
  if (has_about != "0") {
    CTR_ASSIGN_OR_RETURN(kept, database.QueryText("SELECT version FROM about"));
  }
  const std::string expected = version < kFirstWithAbout ? "none" : absl::StrCat(version);
  if (version >= 0 && kept == expected) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the state file ", database.path(),
                                          " is damaged (its version is ", version, " and ", kept,
                                          ")"));
}

}  // namespace

Status Migrate(Database& database) {
  CTR_ASSIGN_OR_RETURN(const std::string text, database.QueryText("PRAGMA user_version"));
  const auto newest = static_cast<int>(kSteps.size());
  int version = -1;
  if (!absl::SimpleAtoi(text, &version)) version = -1;
  CTR_RETURN_IF_ERROR(CheckVersion(database, version));
  if (version > newest) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the state file ", database.path(), " was written by a newer ctr-agent (version ", text,
        " of its tables; this one knows ", newest, "); run that ctr-agent, or another --data-dir"));
  }
  for (int step = version; step < newest; ++step) {
    const int made = step + 1;
    const std::string about =
        made < kFirstWithAbout ? "" : absl::StrCat("UPDATE about SET version = ", made, ";");
    Status done = database.Execute(absl::StrCat("BEGIN IMMEDIATE;", kSteps[step], about,
                                                "PRAGMA user_version = ", made, ";COMMIT;"));
    if (!done.ok()) {
      // Nothing to roll back if BEGIN failed.
      database.Execute("ROLLBACK").IgnoreError();
      return Annotate(done, absl::StrCat("cannot bring the state's tables to version ", step + 1));
    }
  }
  return absl::OkStatus();
}

}  // namespace ctr::sqlite
