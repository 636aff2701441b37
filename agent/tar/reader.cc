#include "agent/tar/reader.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/tar/header.h"

namespace ctr::tar {
namespace {

constexpr size_t kBufferBytes = 256 << 10;
constexpr int64_t kMaxRecordBytes = 1 << 20;
constexpr int kMaxRecords = 16;  // before one entry

Status Damaged(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("not a tar archive, or a damaged one: ", std::string(what)));
}

template <size_t kSize>
std::string TextOf(const char (&field)[kSize]) {
  return std::string(field, ::strnlen(field, kSize));
}

// Octal digits among spaces and zeros, or GNU's binary form. Nothing if it is neither.
template <size_t kSize>
std::optional<int64_t> NumberOf(const char (&field)[kSize]) {
  const auto first = static_cast<unsigned char>(field[0]);
  uint64_t value = 0;
  if ((first & 0x80) != 0) {
    if (first != 0x80) return std::nullopt;  // negative, or huge
    for (size_t i = 1; i < kSize; ++i) {
      if (value >> 55 != 0) return std::nullopt;
      value = value << 8 | static_cast<unsigned char>(field[i]);
    }
    return static_cast<int64_t>(value);
  }
  size_t at = 0;
  while (at < kSize && field[at] == ' ') ++at;
  for (; at < kSize && field[at] >= '0' && field[at] <= '7'; ++at) {
    if (value >> 59 != 0) return std::nullopt;
    value = value << 3 | static_cast<uint64_t>(field[at] - '0');
  }
  for (; at < kSize; ++at) {
    if (field[at] != ' ' && field[at] != '\0') return std::nullopt;
  }
  return static_cast<int64_t>(value);
}

std::optional<int64_t> DecimalOf(std::string_view text) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &value)) return std::nullopt;
  return value;
}

// "1700000000.25"
std::optional<timespec> TimeOf(std::string_view text) {
  const size_t dot = text.find('.');
  std::optional<int64_t> seconds = DecimalOf(text.substr(0, dot));
  if (!seconds) return std::nullopt;
  timespec time = {.tv_sec = *seconds, .tv_nsec = 0};
  if (dot == std::string_view::npos) return time;
  std::string digits(text.substr(dot + 1, 9));
  digits.resize(9, '0');
  std::optional<int64_t> fraction = DecimalOf(digits);
  if (!fraction || *fraction < 0) return std::nullopt;
  time.tv_nsec = *fraction;
  if (text.starts_with('-') && time.tv_nsec > 0) {
    time.tv_sec -= 1;
    time.tv_nsec = 1000000000 - time.tv_nsec;
  }
  return time;
}

bool IsZero(const Header& header) {
  const auto* bytes = reinterpret_cast<const char*>(&header);
  return std::all_of(bytes, bytes + sizeof(Header), [](char c) { return c == 0; });
}

StatusOr<EntryType> TypeOf(char type, bool slash) {
  switch (type) {
    case '\0':
    case '0':
      return slash ? EntryType::kDirectory : EntryType::kFile;
    case '7':
      return EntryType::kFile;
    case '1':
      return EntryType::kHardLink;
    case '2':
      return EntryType::kSymlink;
    case '5':
      return EntryType::kDirectory;
    case '3':
    case '4':
    case '6':
      return EntryType::kOther;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "the archive has an entry of the type \"", std::string(1, type),
          "\", which is not supported; write it with tar --format=pax --hole-detection=raw"));
  }
}

}  // namespace

Reader::Reader(ByteSource* source) : source_(source), buffer_(kBufferBytes) {}

Status Reader::ReadExactly(char* buffer, size_t size) {
  while (size > 0) {
    if (begin_ == end_) {
      CTR_ASSIGN_OR_RETURN(end_, source_->Read(buffer_.data(), buffer_.size()));
      begin_ = 0;
      if (end_ == 0) return Damaged("it ends before its end mark");
    }
    const size_t count = std::min(size, end_ - begin_);
    std::memcpy(buffer, buffer_.data() + begin_, count);
    begin_ += count;
    buffer += count;
    size -= count;
  }
  return absl::OkStatus();
}

Status Reader::Skip(int64_t size_bytes) {
  char unused[4096];
  while (size_bytes > 0) {
    const auto count = static_cast<size_t>(std::min<int64_t>(size_bytes, sizeof(unused)));
    CTR_RETURN_IF_ERROR(ReadExactly(unused, count));
    size_bytes -= static_cast<int64_t>(count);
  }
  return absl::OkStatus();
}

// The content of a record, and its padding.
StatusOr<std::string> Reader::ReadSmall(int64_t size_bytes) {
  if (size_bytes > kMaxRecordBytes) return Damaged("a record of more than 1 MiB");
  std::string text(static_cast<size_t>(size_bytes), '\0');
  CTR_RETURN_IF_ERROR(ReadExactly(text.data(), text.size()));
  CTR_RETURN_IF_ERROR(Skip(-size_bytes & static_cast<int64_t>(kBlockBytes - 1)));
  return text;
}

Status Reader::Apply(const std::string& records, Overrides* overrides) const {
  std::string_view rest = records;
  while (!rest.empty()) {
    const size_t space = rest.find(' ');
    std::optional<int64_t> length = DecimalOf(rest.substr(0, space));
    if (space == std::string_view::npos || !length || *length <= static_cast<int64_t>(space) + 1 ||
        *length > static_cast<int64_t>(rest.size()) || rest[*length - 1] != '\n') {
      return Damaged("a record of no known form");
    }
    std::string_view record = rest.substr(space + 1, *length - space - 2);
    rest.remove_prefix(static_cast<size_t>(*length));
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) return Damaged("a record without a value");
    std::string_view key = record.substr(0, equals);
    std::string_view value = record.substr(equals + 1);
    bool known = true;
    if (key == "path") overrides->path = value;
    if (key == "linkpath") overrides->link = value;
    if (key == "size") known = (overrides->size_bytes = DecimalOf(value)).has_value();
    if (key == "uid") known = (overrides->uid = DecimalOf(value)).has_value();
    if (key == "gid") known = (overrides->gid = DecimalOf(value)).has_value();
    if (key == "mtime") known = (overrides->mtime = TimeOf(value)).has_value();
    if (key.starts_with("GNU.sparse.")) {
      return absl::InvalidArgumentError(
          "the archive has a sparse file, which is not supported; write it without tar's --sparse");
    }
    if (!known) return Damaged("a record with a value of no known form");
  }
  return absl::OkStatus();
}

StatusOr<std::optional<Entry>> Reader::Next() {
  if (ended_) return std::nullopt;
  CTR_RETURN_IF_ERROR(Skip(std::exchange(left_bytes_, 0)));
  CTR_RETURN_IF_ERROR(Skip(std::exchange(padding_bytes_, 0)));
  Overrides overrides;
  for (int records = 0; records <= kMaxRecords; ++records) {
    Header header;
    CTR_RETURN_IF_ERROR(ReadExactly(reinterpret_cast<char*>(&header), sizeof(header)));
    if (IsZero(header)) {
      ended_ = true;
      return std::nullopt;
    }
    std::optional<int64_t> checksum = NumberOf(header.checksum);
    if (!checksum || *checksum != ChecksumOf(header)) return Damaged("a wrong checksum");
    std::optional<int64_t> size_bytes = NumberOf(header.size);
    if (!size_bytes) return Damaged("an impossible size");
    if (std::string_view("xgLK").find(header.type) != std::string_view::npos) {
      CTR_ASSIGN_OR_RETURN(std::string text, ReadSmall(*size_bytes));
      // Zeros end GNU's names.
      if (header.type == 'L') overrides.path = text.c_str();
      if (header.type == 'K') overrides.link = text.c_str();
      if (header.type == 'x') CTR_RETURN_IF_ERROR(Apply(text, &overrides));
      continue;
    }
    Entry entry;
    entry.path = TextOf(header.name);
    if (std::memcmp(header.magic, "ustar\0", 6) == 0 && header.prefix[0] != '\0') {
      entry.path = absl::StrCat(TextOf(header.prefix), "/", entry.path);
    }
    if (overrides.path) entry.path = *overrides.path;
    entry.link = overrides.link.value_or(TextOf(header.link));
    CTR_ASSIGN_OR_RETURN(entry.type, TypeOf(header.type, entry.path.ends_with('/')));
    std::optional<int64_t> mode = NumberOf(header.mode);
    std::optional<int64_t> uid = overrides.uid ? overrides.uid : NumberOf(header.uid);
    std::optional<int64_t> gid = overrides.gid ? overrides.gid : NumberOf(header.gid);
    std::optional<int64_t> mtime = NumberOf(header.mtime);
    if (!mode || !uid || !gid || *uid > UINT32_MAX || *gid > UINT32_MAX || *uid < 0 || *gid < 0) {
      return Damaged("an impossible mode or owner");
    }
    entry.mode = static_cast<mode_t>(*mode & 07777);
    entry.uid = static_cast<uint32_t>(*uid);
    entry.gid = static_cast<uint32_t>(*gid);
    entry.mtime = overrides.mtime.value_or(timespec{.tv_sec = mtime.value_or(0), .tv_nsec = 0});
    const int64_t content = overrides.size_bytes.value_or(*size_bytes);
    if (content < 0) return Damaged("an impossible size");
    // Links may have a size and no content (POSIX).
    const bool has_content = entry.type == EntryType::kFile;
    entry.size_bytes = has_content ? content : 0;
    left_bytes_ = entry.size_bytes;
    padding_bytes_ = -left_bytes_ & static_cast<int64_t>(kBlockBytes - 1);
    return entry;
  }
  return Damaged("too many records before an entry");
}

StatusOr<size_t> Reader::Read(char* buffer, size_t size) {
  size = static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(size), left_bytes_));
  CTR_RETURN_IF_ERROR(ReadExactly(buffer, size));
  left_bytes_ -= static_cast<int64_t>(size);
  return size;
}

Status Reader::Drain() {
  for (;;) {
    CTR_ASSIGN_OR_RETURN(size_t count, source_->Read(buffer_.data(), buffer_.size()));
    if (count == 0) return absl::OkStatus();
  }
}

}  // namespace ctr::tar
