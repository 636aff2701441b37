#pragma once

#include "agent/config/table_reader.h"
#include "agent/model/class_config.h"

namespace ctr::config {

// The class file's words for whom an instance runs as and what it sees: `user`, `workdir`,
// [[volume]] and [security]. What is wrong in them, the reader's FileErrors knows.
void ReadIsolation(TableReader& file, ClassConfig& config);

}  // namespace ctr::config
