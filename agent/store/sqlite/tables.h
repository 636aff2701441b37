#pragma once

#include "agent/base/error.h"
#include "agent/store/sqlite/database.h"
#include "agent/store/store.h"

namespace ctr::sqlite {

// The state as rows. One thread.
class Tables {
 public:
  // Brings the tables up to date first.
  static StatusOr<Tables> Open(const std::string& path);
  // Why the state of this new file is not the one that the last agent left; stays until AcceptLoss.
  Status SetLost(const std::string& lost);
  // Moves what was written into the file itself, so that it is whole without its log.
  Status EmptyLog();

  // Makes the changes in one transaction, synced when this returns, or none of them.
  Status Write(const std::vector<const Change*>& changes);
  // DATA_LOSS if a row is not as it was written.
  StatusOr<StoredState> Load();
  StatusOr<std::vector<Event>> ReadEvents(const EventQuery& query);

 private:
  explicit Tables(Database database) : database_(std::move(database)) {}
  Status Prepare();
  Status WriteInside(const std::vector<const Change*>& changes);
  Status Apply(const PutClass& put);
  Status Apply(const DeleteClass& del);
  Status Apply(const PutInstance& put);
  Status Apply(const PutObserved& put);
  Status Apply(const DeleteInstance& del);
  Status Apply(const PutCursors& put);
  Status Apply(const PutEvent& put);
  // Lets go of the events beyond the store's bounds.
  Status PruneEvents(WallTime now);
  Status Apply(const AcceptLoss&);
  Status LoadClasses(std::vector<ClassRecord>& classes);
  Status LoadInstances(std::vector<InstanceRecord>& instances);

  Database database_;
  std::optional<Statement> put_class_;
  std::optional<Statement> delete_class_;
  std::optional<Statement> put_instance_;
  std::optional<Statement> put_observed_;
  std::optional<Statement> delete_instance_;
  std::optional<Statement> put_cursors_;
  std::optional<Statement> put_event_;
  std::optional<Statement> count_events_;
  std::optional<Statement> drop_oldest_events_;
  std::optional<Statement> drop_aged_events_;
  int inserts_until_prune_ = 0;  // the first one looks
};

}  // namespace ctr::sqlite
