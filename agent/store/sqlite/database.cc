#include "agent/store/sqlite/database.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "agent/base/fd.h"

namespace ctr::sqlite {
namespace {

constexpr int kBusyTimeoutMs = 5000;

Status Damaged(const std::string& path, std::string_view why) {
  // quick_check's verdict has several lines.
  const std::string reason = absl::StrReplaceAll(std::string(why), {{"\n", " "}});
  return absl::DataLossError(absl::StrCat(
      "the state file ", path, " is damaged (", reason,
      "); start the agent again, which puts it aside and rebuilds what can be rebuilt"));
}

// What the last call on `connection` failed with.
Status LastError(sqlite3* connection, const std::string& path) {
  const int code = sqlite3_errcode(connection) & 0xff;
  const int system_error = sqlite3_system_errno(connection);
  const std::string text = sqlite3_errmsg(connection);
  const bool no_room = system_error == ENOSPC || system_error == EDQUOT || system_error == EFBIG;
  if (code == SQLITE_FULL || (code == SQLITE_IOERR && no_room)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("disk full: cannot write the state file ", path, "; make room there"));
  }
  // Our own SQL is right: if it has an error, the tables are not those that we made.
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR) {
    return Damaged(path, text);
  }
  if (code == SQLITE_CONSTRAINT) {
    return absl::AlreadyExistsError(absl::StrCat("the state file ", path, " refused it: ", text));
  }
  if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
    return absl::InternalError(
        absl::StrCat("the state file ", path, " is locked by another process; end that one"));
  }
  std::string reason = text;
  if (system_error != 0) absl::StrAppend(&reason, " (", std::strerror(system_error), ")");
  return absl::InternalError(
      absl::StrCat("cannot use the state file ", path, ": ", reason, "; check its disk"));
}

uint32_t AddToSum(uint32_t sum, const void* data, size_t size) {
  return static_cast<uint32_t>(
      ::crc32_z(sum, static_cast<const unsigned char*>(data), static_cast<z_size_t>(size)));
}

// row_sum(a, b, …): the CRC-32 of the values, each with its type and length, so that none can pass
// for another. It tells every change of up to 32 neighbouring bits, and 1 in 4e9 others passes.
void RowSum(sqlite3_context* context, int count, sqlite3_value** values) {
  uint32_t sum = 0;
  for (int i = 0; i < count; ++i) {
    const auto type = static_cast<unsigned char>(sqlite3_value_type(values[i]));
    sum = AddToSum(sum, &type, sizeof type);
    if (type == SQLITE_INTEGER) {
      const int64_t number = sqlite3_value_int64(values[i]);
      sum = AddToSum(sum, &number, sizeof number);
    } else if (type != SQLITE_NULL) {
      const void* data = sqlite3_value_blob(values[i]);
      const int64_t size = sqlite3_value_bytes(values[i]);
      sum = AddToSum(sum, &size, sizeof size);
      if (size > 0) sum = AddToSum(sum, data, static_cast<size_t>(size));
    }
  }
  sqlite3_result_int64(context, sum);
}

void AddFunctions(sqlite3* connection) {
  sqlite3_create_function_v2(connection, "row_sum", -1, SQLITE_UTF8 | SQLITE_DETERMINISTIC, nullptr,
                             RowSum, nullptr, nullptr, nullptr);
}

}  // namespace

bool Statement::IsNull(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

int64_t Statement::Integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::string Statement::Text(int column) const {
  const void* data = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return data == nullptr ? "" : std::string(static_cast<const char*>(data), size);
}

void Statement::Bind(int index, int64_t value) {
  sqlite3_bind_int64(statement_.get(), index, value);
}

void Statement::Bind(int index, std::string_view value) {
  // An empty view may have no address, which would bind NULL.
  const char* data = value.empty() ? "" : value.data();
  sqlite3_bind_text64(statement_.get(), index, data, value.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

Status Statement::Step(const std::function<void()>& row) {
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(statement_.get())) == SQLITE_ROW) row();
  Status status = code == SQLITE_DONE ? absl::OkStatus()
                                      : LastError(sqlite3_db_handle(statement_.get()), path_);
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  return status;
}

StatusOr<Database> Database::Open(const std::string& path) {
  // SQLite would make the file with the umask's mode, and fall back to reading alone.
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.valid() || ::fchmod(file.get(), 0600) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot open the state file ", path, " for writing"));
  }
  file.Reset();

  Database database(path);
  sqlite3* connection = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &connection,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  database.connection_.reset(connection);
  if (opened != SQLITE_OK) return LastError(connection, path);
  sqlite3_extended_result_codes(connection, 1);
  sqlite3_busy_timeout(connection, kBusyTimeoutMs);
  AddFunctions(connection);
  CTR_ASSIGN_OR_RETURN(const std::string mode, database.QueryText("PRAGMA journal_mode = WAL"));
  if (mode != "wal") {
    return absl::FailedPreconditionError(absl::StrCat(
        "the state file ", path, " can't have a write-ahead log; put it on a local disk"));
  }
  CTR_RETURN_IF_ERROR(
      database.Execute("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304;"));
  CTR_ASSIGN_OR_RETURN(const std::string verdict, database.QueryText("PRAGMA quick_check(1)"));
  if (verdict != "ok") return Damaged(path, verdict);
  return database;
}

StatusOr<Database> Database::OpenDamaged(const std::string& path, std::chrono::seconds patience) {
  Database database(path);
  sqlite3* connection = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &connection,
                                     SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
  database.connection_.reset(connection);
  if (opened != SQLITE_OK) return LastError(connection, path);
  // Else the last one to close the file would empty its log.
  sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  AddFunctions(connection);
  using Time = std::chrono::steady_clock;
  database.give_up_ = std::make_shared<Time::time_point>();
  database.patience_ = patience;
  sqlite3_progress_handler(
      connection, 10'000,
      [](void* give_up) { return Time::now() > *static_cast<Time::time_point*>(give_up) ? 1 : 0; },
      database.give_up_.get());
  return database;
}

Status Database::Execute(const std::string& sql) {
  const int code = sqlite3_exec(connection_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : LastError(connection_.get(), path_);
}

StatusOr<Statement> Database::Prepare(std::string_view sql) {
  if (give_up_) *give_up_ = std::chrono::steady_clock::now() + patience_;
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(connection_.get(), sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return LastError(connection_.get(), path_);
  return Statement(statement, path_);
}

StatusOr<std::string> Database::QueryText(std::string_view sql) {
  CTR_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  std::string text;
  CTR_RETURN_IF_ERROR(statement.RunEach([&] { text = statement.Text(0); }));
  return text;
}

}  // namespace ctr::sqlite
