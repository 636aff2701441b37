#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ipv4.h"
#include "agent/store/store.h"

namespace ctr {

// What a container carries of its class and its instance, so that their rows can be made again when
// the state file is lost.
struct RecoveryRecord {
  ClassRecord class_record;
  InstanceRecord instance;  // without what is observed
  bool woken = false;       // the start was begun although the instance had been stopped by request
};

// As JSON text. The class's whole file is in it.
std::string EncodeRecoveryRecord(const ClassRecord& class_record, const InstanceRecord& instance);
// DATA_LOSS for what the first does not write, or whose class file this version refuses.
StatusOr<RecoveryRecord> DecodeRecoveryRecord(const std::string& text);

struct RebuildRanges {
  Ipv4Range instances;
  Ipv4Range classes;
};

// Adds to `state` the rows that are not in it, from the records of containers and kept disks; what
// is in it stays. A class is taken from the record where it was applied last, an instance from the
// first of those that have the class so. An address that is another's by now is replaced. Returns
// the changes that make the rows; what can't be read is skipped, with a line in `problems`.
std::vector<Change> RebuildFromRecords(const std::vector<std::string>& records,
                                       RebuildRanges ranges, StoredState& state,
                                       std::vector<std::string>& problems);

}  // namespace ctr
