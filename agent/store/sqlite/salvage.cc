#include "agent/store/sqlite/salvage.h"

#include <chrono>
#include <functional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/store/sqlite/columns.h"
#include "agent/store/sqlite/database.h"

namespace ctr::sqlite {
namespace {

constexpr std::chrono::seconds kPatience(5);

// Calls `row` for each row that can be read; for one in the middle of a readable table, twice.
void ReadFromBothEnds(Database& database, const std::string& select, const std::string& key,
                      const std::function<void(const Statement&)>& row) {
  for (const char* order : {"ASC", "DESC"}) {
    StatusOr<Statement> rows =
        database.Prepare(absl::StrCat(select, " ORDER BY ", key, " ", order));
    if (!rows.ok()) return;
    // It ends early where the file can't be read.
    if (rows->RunEach([&] { row(*rows); }).ok()) return;
  }
}

void SalvageClasses(Database& database, Salvaged& salvaged) {
  std::set<std::string> seen;
  ReadFromBothEnds(database, kSelectClasses, "name", [&](const Statement& row) {
    StatusOr<ClassRecord> record = ReadClass(row);
    if (!record.ok() || !seen.insert(record->config.name).second) return;
    ++salvaged.classes;
    salvaged.changes.emplace_back(PutClass{*std::move(record)});
  });
}

void SalvageInstances(Database& database, Salvaged& salvaged) {
  std::set<InstanceName> seen;
  ReadFromBothEnds(database, kSelectInstances, "class", [&](const Statement& row) {
    // What was observed and can't be parsed must not cost the rest.
    StatusOr<InstanceRecord> record =
        ObservedIsWhole(row) ? ReadInstance(row) : ReadUnobserved(row);
    if (!record.ok() || !seen.insert(record->name).second) return;
    ++salvaged.instances;
    salvaged.changes.emplace_back(PutInstance{*std::move(record)});
  });
}

}  // namespace

Salvaged Salvage(const std::string& path) {
  Salvaged salvaged;
  StatusOr<Database> database = Database::OpenDamaged(path, kPatience);
  if (!database.ok()) return salvaged;
  SalvageClasses(*database, salvaged);
  SalvageInstances(*database, salvaged);
  ReadFromBothEnds(*database, kSelectCursors, "only_row", [&](const Statement& row) {
    AddressCursors cursors;
    if (ReadCursors(row, cursors)) salvaged.changes.emplace_back(PutCursors{cursors});
  });
  ReadFromBothEnds(*database, "SELECT number FROM events", "number", [&](const Statement& row) {
    salvaged.last_event = std::max(salvaged.last_event, row.Integer(0));
  });
  return salvaged;
}

}  // namespace ctr::sqlite
