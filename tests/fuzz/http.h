#pragma once

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/proxy/http_head.h"
#include "tests/fuzz/fuzz.h"

// What the fuzz targets of HTTP heads have in common.
namespace ctr {

// The size of the head at the front of `bytes`, which come in one piece, and in two cut at `cut`:
// the same both times. 0 if there is none or it is refused.
inline size_t ScanHead(std::string_view bytes, LineEnds line_ends, size_t cut) {
  const StatusOr<size_t> whole = HeadScanner(line_ends).Scan(bytes);
  HeadScanner scanner(line_ends);
  StatusOr<size_t> parts = scanner.Scan(bytes.substr(0, cut));
  if (parts.ok() && *parts == 0) parts = scanner.Scan(bytes);
  CTR_HOLDS(whole.ok() == parts.ok());
  CTR_HOLDS(!whole.ok() || *whole == *parts);
  return whole.value_or(0);
}

// Every reader sees the same lines in it: no bare CR or LF, no NUL, one empty line at its end.
inline void CheckLines(std::string_view head) {
  CTR_HOLDS(head.ends_with("\r\n\r\n"));
  CTR_HOLDS(head.find("\r\n\r\n") == head.size() - 4);
  CTR_HOLDS(head.find('\0') == std::string_view::npos);
  for (size_t i = 0; i < head.size(); ++i) {
    if (head[i] == '\n') CTR_HOLDS(i > 0 && head[i - 1] == '\r');
    if (head[i] == '\r') CTR_HOLDS(i + 1 < head.size() && head[i + 1] == '\n');
  }
}

inline ptrdiff_t Count(const Fields& fields, FieldId id) {
  return std::count_if(fields.begin(), fields.end(),
                       [&](const Field& field) { return field.id == id; });
}

// The fields that mean nothing to a proxy and are meant for the other end, in their order.
using Texts = std::vector<std::pair<std::string_view, std::string_view>>;
inline Texts EndToEnd(const Fields& fields) {
  Texts texts;
  for (const Field& field : fields) {
    if (field.id != FieldId::kOther && field.id != FieldId::kAccept) continue;
    const bool listed = std::any_of(fields.begin(), fields.end(), [&](const Field& each) {
      return each.id == FieldId::kConnection && ListHas(each.value, field.name);
    });
    if (!listed) texts.emplace_back(field.name, field.value);
  }
  return texts;
}

// A head may have 200 fields; what is written has a few more, and is not read again if that is the
// reason.
inline bool MayGrow(const Fields& fields) { return fields.size() < 190; }

}  // namespace ctr
