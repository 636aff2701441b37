// A line of an instance's output files, which may be torn or somebody else's.
#include "agent/control/log_record.h"

#include "tests/fuzz/fuzz.h"

namespace ctr {

void Fuzz(std::string_view input) {
  const std::optional<LogRecord> record = ParseLogRecord(input);
  if (!record) return;
  CTR_HOLDS(record->lost_bytes >= 0);
  CTR_HOLDS(record->lost_bytes == 0 || record->text.empty());
  CTR_HOLDS(input.ends_with(record->text));
  // Its year is not before the one that it says: nothing wrapped around.
  CTR_HOLDS(record->time >= WallTime() == input.substr(0, 4) >= "1970");
}

}  // namespace ctr
