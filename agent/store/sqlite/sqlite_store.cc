#include "agent/store/sqlite/sqlite_store.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <utility>

#include "agent/store/sqlite/state_file.h"

namespace ctr {
namespace {

// What is written behind is on disk within a second, the time to write it included.
constexpr auto kBehindDelay = std::chrono::milliseconds(500);

// Calls `handler` on its own executor, whichever thread calls the result.
template <typename Result, typename Handler>
std::function<void(Result)> OnOwnExecutor(Handler handler) {
  auto work = asio::make_work_guard(asio::get_associated_executor(handler));
  auto shared = std::make_shared<Handler>(std::move(handler));
  return [shared, work](Result result) mutable {
    auto executor = work.get_executor();
    asio::post(executor,
               [shared = std::move(shared), work = std::move(work),
                result = std::move(result)]() mutable { std::move (*shared)(std::move(result)); });
  };
}

Status HandedOver() {
  return Error(absl::StatusCode::kUnavailable, code::kHandedOver,
               "another agent has taken over; ask again");
}

}  // namespace

StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path,
                                                         StateFile expectation) {
  CTR_ASSIGN_OR_RETURN(sqlite::Tables tables, sqlite::OpenStateFile(path, expectation));
  return std::unique_ptr<SqliteStore>(new SqliteStore(path, std::move(tables)));
}

SqliteStore::SqliteStore(std::string path, sqlite::Tables tables)
    : path_(std::move(path)),
      tables_(std::move(tables)),
      queue_([this](const std::vector<const Change*>& changes) { return Write(changes); }),
      thread_([this] {
        ::pthread_setname_np(::pthread_self(), "ctr-store");
        io_.run();
      }) {}

template <typename Task>
void SqliteStore::InTurn(Task task) {
  asio::post(io_, [this, behind = TakeBehind(), task = std::move(task)]() mutable {
    queue_.AddBehind(std::move(behind));
    task();
  });
}

SqliteStore::~SqliteStore() {
  // Not until nothing is left to do: on a full disk that would be never.
  InTurn([this] {
    Flush();
    io_.stop();
  });
  thread_.join();
}

awaitable<StatusOr<StoredState>> SqliteStore::Load() {
  using Result = StatusOr<StoredState>;
  auto start = [this](auto handler) {
    InTurn([this, done = OnOwnExecutor<Result>(std::move(handler))]() mutable {
      Flush();
      done(tables_ ? tables_->Load() : HandedOver());
    });
  };
  return asio::async_initiate<decltype(use_awaitable), void(Result)>(start, use_awaitable);
}

awaitable<StatusOr<std::vector<Event>>> SqliteStore::ReadEvents(EventQuery query) {
  using Result = StatusOr<std::vector<Event>>;
  auto start = [this](auto handler, EventQuery wanted) {
    InTurn([this, wanted = std::move(wanted),
            done = OnOwnExecutor<Result>(std::move(handler))]() mutable {
      Flush();
      done(tables_ ? tables_->ReadEvents(wanted) : HandedOver());
    });
  };
  return asio::async_initiate<decltype(use_awaitable), void(Result)>(start, use_awaitable,
                                                                     std::move(query));
}

awaitable<Status> SqliteStore::Commit(std::vector<Change> changes) {
  auto start = [this](auto handler, std::vector<Change> given) {
    InTurn([this, given = std::move(given),
            done = OnOwnExecutor<Status>(std::move(handler))]() mutable {
      queue_.Add(std::move(given), std::move(done));
      FlushSoon();
    });
  };
  return asio::async_initiate<decltype(use_awaitable), void(Status)>(start, use_awaitable,
                                                                     std::move(changes));
}

void SqliteStore::WriteBehind(std::vector<Change> changes) {
  {
    const std::lock_guard lock(behind_mutex_);
    const bool told = !behind_.empty();
    std::move(changes.begin(), changes.end(), std::back_inserter(behind_));
    if (told) return;
  }
  asio::post(io_, [this] { FlushLater(); });
}

std::vector<Change> SqliteStore::TakeBehind() {
  const std::lock_guard lock(behind_mutex_);
  return std::exchange(behind_, {});
}

awaitable<Status> SqliteStore::LetGo() {
  auto start = [this](auto handler) {
    InTurn([this, done = OnOwnExecutor<Status>(std::move(handler))]() mutable {
      Flush();
      tables_.reset();
      done(absl::OkStatus());
    });
  };
  return asio::async_initiate<decltype(use_awaitable), void(Status)>(start, use_awaitable);
}

awaitable<Status> SqliteStore::TakeBack() {
  auto start = [this](auto handler) {
    InTurn([this, done = OnOwnExecutor<Status>(std::move(handler))]() mutable {
      StatusOr<sqlite::Tables> opened = sqlite::OpenStateFile(path_, StateFile::kExpected);
      const Status status = opened.status();
      if (status.ok()) tables_.emplace(*std::move(opened));
      Flush();
      done(status);
    });
  };
  return asio::async_initiate<decltype(use_awaitable), void(Status)>(start, use_awaitable);
}

void SqliteStore::GiveUp() {
  InTurn([this] {
    given_up_ = true;
    Flush();
  });
}

Status SqliteStore::Write(const std::vector<const Change*>& changes) {
  return tables_ ? tables_->Write(changes) : HandedOver();
}

void SqliteStore::FlushSoon() {
  if (std::exchange(flush_soon_, true)) return;
  // Behind what is posted already: that was queued during the last sync, and shares this one.
  asio::post(io_, [this] {
    flush_soon_ = false;
    Flush();
  });
}

void SqliteStore::FlushLater() {
  if (std::exchange(flush_later_, true)) return;
  timer_.expires_after(kBehindDelay);
  timer_.async_wait([this](ErrorCode error) {
    flush_later_ = false;
    if (error) return;
    queue_.AddBehind(TakeBehind());
    Flush();
  });
}

void SqliteStore::Flush() {
  if (given_up_) {
    queue_.Fail(HandedOver());
    return;
  }
  if (!tables_) return;
  if (queue_.Flush()) FlushLater();
}

}  // namespace ctr
