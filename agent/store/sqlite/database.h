#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <sqlite3.h>

#include "agent/base/error.h"

namespace ctr::sqlite {

// One prepared statement, used again and again. Lives no longer than its Database.
class Statement {
 public:
  // Binds `values` to ?1, ?2 …, and runs it to its end; `row` is called for each row.
  template <typename... Values>
  Status Run(const Values&... values) {
    return RunEach([] {}, values...);
  }
  template <typename... Values>
  Status RunEach(const std::function<void()>& row, const Values&... values) {
    int index = 0;
    (Bind(++index, values), ...);
    return Step(row);
  }

  // Of the row at hand.
  bool IsNull(int column) const;
  int64_t Integer(int column) const;
  std::string Text(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  Statement(sqlite3_stmt* statement, std::string path)
      : statement_(statement), path_(std::move(path)) {}

  void Bind(int index, int64_t value);
  void Bind(int index, std::string_view value);
  template <typename T>
  void Bind(int index, const std::optional<T>& value) {
    if (value) {
      Bind(index, *value);
    } else {
      sqlite3_bind_null(statement_.get(), index);
    }
  }
  Status Step(const std::function<void()>& row);

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  std::string path_;
};

// A database file, open for reading and writing: WAL, every commit synced. One thread. Errors name
// the file: RESOURCE_EXHAUSTED if its disk is full, DATA_LOSS if it is damaged, ALREADY_EXISTS if a
// row's address belongs to another, else INTERNAL. SQL knows row_sum(…), a checksum of its
// arguments, by which a row whose content was changed behind SQLite's back is told.
class Database {
 public:
  // Creates the file, with mode 0600, if it is not there, and checks it if it is.
  static StatusOr<Database> Open(const std::string& path);
  // To read what can be read of a damaged file, within `patience` for each statement. Neither the
  // file nor its log is changed.
  static StatusOr<Database> OpenDamaged(const std::string& path, std::chrono::seconds patience);

  Status Execute(const std::string& sql);
  StatusOr<Statement> Prepare(std::string_view sql);
  // The one value that `sql` gives, as text.
  StatusOr<std::string> QueryText(std::string_view sql);

  const std::string& path() const { return path_; }

 private:
  struct Close {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
  };
  explicit Database(std::string path) : path_(std::move(path)) {}

  std::string path_;
  // When a statement on a damaged file is given up: a damaged tree may have no end.
  std::shared_ptr<std::chrono::steady_clock::time_point> give_up_;
  std::chrono::seconds patience_{0};
  std::unique_ptr<sqlite3, Close> connection_;
};

}  // namespace ctr::sqlite
