#pragma once

#include <string>

#include "agent/base/error.h"
#include "agent/store/sqlite/sqlite_store.h"
#include "agent/store/sqlite/tables.h"

namespace ctr::sqlite {

// Opens the state file, and proves every row of it. One that is damaged, and its log with it, is
// renamed to PATH.damaged-<UTC time>, never deleted and never overwritten, and a new one with what
// could be salvaged takes its place; the same if it is gone or empty although it is expected. The
// new one then says so in StoredState::lost, and in an event. Errors, which name the file: it can't
// be read or written, or a newer version wrote it (FAILED_PRECONDITION).
StatusOr<Tables> OpenStateFile(const std::string& path, StateFile expectation);

}  // namespace ctr::sqlite
