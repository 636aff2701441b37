#include "agent/tar/writer.h"

#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/tar/header.h"

namespace ctr::tar {
namespace {

constexpr int64_t kMaxOctal8 = 07777777;       // seven digits
constexpr int64_t kMaxOctal12 = 077777777777;  // eleven

// A number in octal with a zero behind it; 0 if it does not fit, for a record then has it.
template <size_t kSize>
void PutNumber(char (&field)[kSize], int64_t value, int64_t max) {
  std::snprintf(field, kSize, "%0*llo", static_cast<int>(kSize - 1),
                static_cast<unsigned long long>(value < 0 || value > max ? 0 : value));
}

template <size_t kSize>
void PutText(char (&field)[kSize], std::string_view text) {
  std::memcpy(field, text.data(), std::min(kSize, text.size()));
}

// "LENGTH KEY=VALUE\n", where LENGTH counts itself, too.
std::string Record(std::string_view key, std::string_view value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (absl::StrCat(length).size() + rest != length) ++length;
  std::string record = absl::StrCat(length, " ");
  record.append(key).append("=").append(value).append("\n");
  return record;
}

char TypeOf(EntryType type) {
  switch (type) {
    case EntryType::kHardLink:
      return '1';
    case EntryType::kSymlink:
      return '2';
    case EntryType::kDirectory:
      return '5';
    default:
      return '0';
  }
}

std::string RecordsOf(const Entry& entry, std::string_view path) {
  std::string records;
  if (path.size() > sizeof(Header::name)) records += Record("path", path);
  if (entry.link.size() > sizeof(Header::link)) records += Record("linkpath", entry.link);
  if (entry.size_bytes > kMaxOctal12) records += Record("size", absl::StrCat(entry.size_bytes));
  if (entry.uid > kMaxOctal8) records += Record("uid", absl::StrCat(entry.uid));
  if (entry.gid > kMaxOctal8) records += Record("gid", absl::StrCat(entry.gid));
  const timespec& time = entry.mtime;
  if (time.tv_sec >= 0 && (time.tv_nsec != 0 || time.tv_sec > kMaxOctal12)) {
    records += Record("mtime", absl::StrFormat("%d.%09d", time.tv_sec, time.tv_nsec));
  } else if (time.tv_sec < 0) {
    records += Record("mtime", absl::StrCat(time.tv_sec));
  }
  return records;
}

}  // namespace

Status Writer::Begin(const Entry& entry) {
  std::string path = entry.path;
  if (entry.type == EntryType::kDirectory && !path.ends_with('/')) path += '/';
  const std::string records = RecordsOf(entry, path);
  if (!records.empty()) {
    Entry record_entry;
    record_entry.mode = 0644;
    record_entry.size_bytes = static_cast<int64_t>(records.size());
    CTR_RETURN_IF_ERROR(AddHeader(record_entry, 'x', "pax", ""));
    CTR_RETURN_IF_ERROR(Append(records));
  }
  return AddHeader(entry, TypeOf(entry.type), path, entry.link);
}

Status Writer::AddHeader(const Entry& entry, char type, std::string_view path,
                         std::string_view link) {
  CTR_RETURN_IF_ERROR(Pad());
  Header header = {};
  PutText(header.name, path);
  PutNumber(header.mode, entry.mode, kMaxOctal8);
  PutNumber(header.uid, entry.uid, kMaxOctal8);
  PutNumber(header.gid, entry.gid, kMaxOctal8);
  PutNumber(header.size, entry.size_bytes, kMaxOctal12);
  PutNumber(header.mtime, entry.mtime.tv_sec, kMaxOctal12);
  header.type = type;
  PutText(header.link, link);
  std::memcpy(header.magic,
              "ustar\0"
              "00",
              sizeof(header.magic));
  PutNumber(header.major, 0, 0);
  PutNumber(header.minor, 0, 0);
  std::snprintf(header.checksum, sizeof(header.checksum), "%06o", ChecksumOf(header));
  header.checksum[7] = ' ';
  return Append({reinterpret_cast<const char*>(&header), sizeof(header)});
}

Status Writer::Add(std::string_view content) { return Append(content); }

Status Writer::Append(std::string_view bytes) {
  unaligned_bytes_ =
      (unaligned_bytes_ + static_cast<int64_t>(bytes.size())) % static_cast<int64_t>(kBlockBytes);
  buffer_.append(bytes);
  if (buffer_.size() < kPieceBytes) return absl::OkStatus();
  CTR_RETURN_IF_ERROR(sink_->Write(buffer_));
  buffer_.clear();
  return absl::OkStatus();
}

Status Writer::Pad() {
  if (unaligned_bytes_ == 0) return absl::OkStatus();
  return Append(std::string(kBlockBytes - static_cast<size_t>(unaligned_bytes_), '\0'));
}

Status Writer::Finish() {
  CTR_RETURN_IF_ERROR(Pad());
  CTR_RETURN_IF_ERROR(Append(std::string(2 * kBlockBytes, '\0')));
  CTR_RETURN_IF_ERROR(sink_->Write(buffer_));
  buffer_.clear();
  return absl::OkStatus();
}

}  // namespace ctr::tar
