// An archive that anybody may have made: its entries go nowhere but below, and what is read and
// written is read as the same.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "agent/tar/reader.h"
#include "agent/tar/target.h"
#include "agent/tar/writer.h"
#include "tests/fuzz/fuzz.h"

namespace ctr::tar {
namespace {

class Memory final : public ByteSource, public ByteSink {
 public:
  Memory(std::string_view bytes, size_t piece) : bytes_(bytes), piece_(piece) {}

  StatusOr<size_t> Read(char* buffer, size_t size) override {
    size = std::min({size, piece_, bytes_.size() - at_});
    std::memcpy(buffer, bytes_.data() + at_, size);
    at_ += size;
    return size;
  }
  Status Write(std::string_view bytes) override {
    bytes_ += bytes;
    return absl::OkStatus();
  }

 private:
  std::string bytes_;
  const size_t piece_;
  size_t at_ = 0;
};

struct File {
  Entry entry;
  std::string content;

  bool operator==(const File& other) const {
    const Entry& a = entry;
    const Entry& b = other.entry;
    return a.path == b.path && a.type == b.type && a.mode == b.mode && a.uid == b.uid &&
           a.gid == b.gid && a.size_bytes == b.size_bytes && a.link == b.link &&
           a.mtime.tv_sec == b.mtime.tv_sec && content == other.content;
  }
};

struct Archive {
  bool whole = false;
  std::vector<File> files;

  bool operator==(const Archive&) const = default;
};

Archive ReadAll(ByteSource& source) {
  Reader reader(&source);
  Archive archive;
  for (;;) {
    StatusOr<std::optional<Entry>> entry = reader.Next();
    if (!entry.ok()) {
      CTR_HOLDS(absl::IsInvalidArgument(entry.status()));
      return archive;
    }
    if (!*entry) break;
    File file{**entry, ""};
    CTR_HOLDS(file.entry.size_bytes >= 0 && (file.entry.mode & ~07777u) == 0);
    char buffer[1000];
    for (;;) {
      const StatusOr<size_t> count = reader.Read(buffer, sizeof buffer);
      if (!count.ok()) return archive;
      if (*count == 0) break;
      file.content.append(buffer, *count);
    }
    CTR_HOLDS(static_cast<int64_t>(file.content.size()) == file.entry.size_bytes);
    archive.files.push_back(std::move(file));
  }
  CTR_HOLDS(reader.Drain().ok());
  archive.whole = true;
  return archive;
}

void CheckPlace(const std::string& path) {
  static const StatusOr<Target> target = Target::ForExtract("/");
  const StatusOr<std::string> place = target->PlaceOf(path);
  if (!place.ok()) return;
  CTR_HOLDS(!place->starts_with('/') && place->find('\0') == std::string::npos);
  const std::string bounded = "/" + *place + "/";
  CTR_HOLDS(bounded.find("/../") == std::string::npos);
}

bool HasZero(const Entry& entry) {
  return entry.path.find('\0') != std::string::npos || entry.link.find('\0') != std::string::npos;
}

void CheckWritten(std::vector<File> files) {
  std::erase_if(files, [](const File& file) {
    return file.entry.type == EntryType::kOther || HasZero(file.entry);
  });
  Memory archive("", 100000);
  Writer writer(&archive);
  for (File& file : files) {
    if (file.entry.type == EntryType::kDirectory && !file.entry.path.ends_with('/')) {
      file.entry.path += '/';
    }
    CTR_HOLDS(writer.Begin(file.entry).ok());
    CTR_HOLDS(writer.Add(file.content).ok());
  }
  CTR_HOLDS(writer.Finish().ok());
  CTR_HOLDS(ReadAll(archive) == (Archive{true, files}));
}

}  // namespace
}  // namespace ctr::tar

namespace ctr {

void Fuzz(std::string_view input) {
  tar::Memory whole(input, input.size());
  const tar::Archive archive = tar::ReadAll(whole);
  tar::Memory pieces(input, 7);
  CTR_HOLDS(tar::ReadAll(pieces) == archive);
  for (const tar::File& file : archive.files) {
    tar::CheckPlace(file.entry.path);
    CTR_HOLDS(tar::Shown(file.entry.path).find('\n') == std::string::npos);
  }
  tar::CheckWritten(archive.files);
}

}  // namespace ctr
