// What containers carry to rebuild their rows from: what is read is written as the same again.
#include "agent/control/recovery_record.h"

#include <string>

#include "agent/model/names.h"
#include "tests/fuzz/fuzz.h"

namespace ctr {

void Fuzz(std::string_view input) {
  const std::string text(input);
  const StatusOr<RecoveryRecord> record = DecodeRecoveryRecord(text);
  StoredState state;
  std::vector<std::string> problems;
  RebuildFromRecords({text, text}, {{0x7F4D0000, 30}, {0x7F4C0000, 16}}, state, problems);
  if (!record.ok()) {
    CTR_HOLDS(absl::IsDataLoss(record.status()));
    CTR_HOLDS(state.instances.empty() && problems.size() == (text.empty() ? 0 : 2));
    return;
  }
  CTR_HOLDS(state.classes.size() == 1 && state.instances.size() == 1);
  CTR_HOLDS(IsDnsLabel(record->instance.name.id) && IsDnsLabel(record->instance.name.class_name));
  const std::string written = EncodeRecoveryRecord(record->class_record, record->instance);
  const StatusOr<RecoveryRecord> again = DecodeRecoveryRecord(written);
  CTR_HOLDS(again.ok());
  CTR_HOLDS(EncodeRecoveryRecord(again->class_record, again->instance) == written);
}

}  // namespace ctr
