#pragma once

#include "agent/base/error.h"
#include "agent/store/sqlite/database.h"

namespace ctr::sqlite {

// Brings the tables to the form that this version knows, each step in a transaction of its own.
// FAILED_PRECONDITION if a newer version wrote the file, which then stays as it is; DATA_LOSS if it
// contradicts itself about its version.
Status Migrate(Database& database);

}  // namespace ctr::sqlite
