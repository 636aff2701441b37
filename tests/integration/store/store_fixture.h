#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "agent/store/sqlite/sqlite_store.h"
#include "tests/fakes/temp_folder.h"

namespace ctr {

// Where a state file may be.
class TemporaryFolder : public TempFolder {
 public:
  std::string StatePath() const { return path() / "state.db"; }
};

inline std::unique_ptr<SqliteStore> OpenStore(const std::string& path) {
  StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(path);
  INFO(store.status().ToString());
  REQUIRE(store.ok());
  return *std::move(store);
}

// Runs `task` to its end on a loop of its own.
template <typename T>
T Await(awaitable<T> task) {
  asio::io_context io{1};
  std::optional<T> result;
  asio::co_spawn(io, std::move(task), [&](std::exception_ptr exception, T value) {
    if (exception) std::rethrow_exception(exception);
    result = std::move(value);
  });
  io.run();
  REQUIRE(result.has_value());
  return std::move(*result);
}

inline Status Commit(Store& store, std::vector<Change> changes) {
  return Await(store.Commit(std::move(changes)));
}

inline StoredState Load(Store& store) {
  StatusOr<StoredState> state = Await(store.Load());
  INFO(state.status().ToString());
  REQUIRE(state.ok());
  return *std::move(state);
}

inline InstanceRecord MakeInstance(const std::string& id, uint32_t address) {
  InstanceRecord record;
  record.name = {"web", id};
  record.address = address;
  record.created_at = WallTime(std::chrono::nanoseconds(1'700'000'000'123'456'789));
  return record;
}

inline ClassRecord MakeClass(const std::string& name, uint32_t address, std::string source) {
  ClassRecord record;
  record.config.name = name;
  record.source = std::move(source);
  record.address = address;
  record.applied_at = WallTime(std::chrono::nanoseconds(1'700'000'000'000'000'001));
  return record;
}

}  // namespace ctr
