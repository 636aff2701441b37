#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent/store/sqlite/tables.h"
#include "agent/store/sqlite/write_queue.h"
#include "agent/store/store.h"

namespace ctr {

// Whether the state file has to be there already: this agent has been started before.
enum class StateFile { kMayBeNew, kExpected };

// The state in one SQLite file. Owned by main; called from any loop, and outlived by the loops of
// its callers. Its own thread does the work: what is committed while that thread syncs an earlier
// transaction shares the next one.
class SqliteStore final : public Store {
 public:
  // Creates the file if it is not there, and brings its tables up to date. One that is damaged is
  // put aside, and what can be salvaged is in the new one; StoredState::lost then says so. Errors
  // name the file: written by a newer version (FAILED_PRECONDITION), can't be read or written.
  static StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& path,
                                                     StateFile expectation = StateFile::kMayBeNew);
  // Writes what is queued, and closes the file.
  ~SqliteStore() override;

  // For an agent that takes over: writes what is queued, and closes the file. What is to be written
  // from then on waits; what is to be read fails.
  awaitable<Status> LetGo();
  // It gave up: opens the file again, and goes on with what waits. Errors as of Open.
  awaitable<Status> TakeBack();
  // It has taken over: what waits and what comes fails (UNAVAILABLE, handed_over).
  void GiveUp();

  awaitable<StatusOr<StoredState>> Load() override;
  awaitable<StatusOr<std::vector<Event>>> ReadEvents(EventQuery query) override;
  awaitable<Status> Commit(std::vector<Change> changes) override;
  void WriteBehind(std::vector<Change> changes) override;

 private:
  SqliteStore(std::string path, sqlite::Tables tables);
  // Has the store's thread do it, after what was asked of it and written behind before.
  template <typename Task>
  void InTurn(Task task);
  std::vector<Change> TakeBehind();

  // On the store's thread, all below.
  void FlushSoon();
  void FlushLater();
  void Flush();
  Status Write(const std::vector<const Change*>& changes);

  const std::string path_;
  std::optional<sqlite::Tables> tables_;  // none: let go
  bool given_up_ = false;
  sqlite::WriteQueue queue_;
  bool flush_soon_ = false;
  bool flush_later_ = false;

  // What was written behind, and the thread has not taken yet. It is woken for the first of them,
  // and not for each that a start makes, while its caller has better to do.
  std::mutex behind_mutex_;
  std::vector<Change> behind_;

  asio::io_context io_{1};
  asio::steady_timer timer_{io_};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  std::thread thread_;
};

}  // namespace ctr
