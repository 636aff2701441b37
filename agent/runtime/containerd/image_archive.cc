#include "agent/runtime/containerd/image_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

constexpr size_t kMaxArchiveFiles = 65536;
constexpr size_t kMaxDocumentsBytes = 64 << 20;
// A plan may repeat the name of a file for each layer of each image.
constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxNamesBytes = 16 << 20;
constexpr size_t kBlockBytes = 1 << 20;
// Of the file: packed, they can be a thousand times as much.
constexpr size_t kReadBytes = 64 << 10;

// What the file is, which is no tar, as far as its first bytes tell.
Status NoTar(int fd) {
  struct Packing {
    std::string_view start;
    const char* name;
  };
  constexpr Packing kPackings[] = {
      {"\x28\xb5\x2f\xfd", "zstd"}, {"\xfd\x37zXZ", "xz"}, {"BZh", "bzip2"}};
  char bytes[8];
  const ssize_t size = ::pread(fd, bytes, sizeof(bytes), 0);
  const std::string_view start(bytes, std::max<ssize_t>(size, 0));
  for (const Packing& packing : kPackings) {
    if (!start.starts_with(packing.start)) continue;
    return MalformedImage(absl::StrCat("it is packed with ", packing.name, ": unpack it first (",
                                       packing.name, " -d)"));
  }
  return MalformedImage("it is not a tar archive");
}

Status ReadError(archive* handle) {
  absl::string_view message = archive_error_string(handle) ? archive_error_string(handle) : "";
  if (archive_errno(handle) == EIO) return MalformedImage("reading it failed: input/output error");
  return MalformedImage(absl::StrCat("it is damaged or cut short (", message, ")"));
}

// Where an entry should begin. `fd`: the file that `handle` reads.
Status EntryError(archive* handle, int fd) {
  const char* message = archive_error_string(handle);
  const bool is_tar =
      message == nullptr || !absl::StrContains(message, "Unrecognized archive format");
  return is_tar ? ReadError(handle) : NoTar(fd);
}

StatusOr<std::string_view> ReadBlock(archive* handle, std::string& buffer) {
  buffer.resize(kBlockBytes);
  la_ssize_t size = archive_read_data(handle, buffer.data(), buffer.size());
  if (size < 0) return ReadError(handle);
  return std::string_view(buffer.data(), size);
}

bool IsKnownDocument(const std::string& name) {
  return name == "index.json" || name == "manifest.json";
}

// A file's text if it looks like JSON and is not too large for a document; else "". `buffer` may
// serve for many files.
StatusOr<std::string> ReadDocument(archive* handle, const std::string& name, int64_t size,
                                   std::string& buffer) {
  if (size > static_cast<int64_t>(kMaxImageDocumentBytes)) return std::string();
  std::string text;
  while (true) {
    CTR_ASSIGN_OR_RETURN(std::string_view block, ReadBlock(handle, buffer));
    if (block.empty()) return text;
    if (text.empty() && block.front() != '{' && !IsKnownDocument(name)) return std::string();
    text.append(block);
    // A sparse file can be larger than it says.
    if (text.size() > kMaxImageDocumentBytes) return std::string();
  }
}

std::string LinkTarget(const std::string& name, archive_entry* entry) {
  if (const char* target = archive_entry_hardlink(entry)) return CleanArchiveName(target);
  const char* target = archive_entry_symlink(entry);
  if (target == nullptr) return "";
  if (target[0] == '/') return CleanArchiveName(target);
  return CleanArchiveName(absl::StrCat(name, "/../", target));
}

}  // namespace

// The file while libarchive reads it, also where that skips what nobody asked for.
struct ImageArchive::Source {
  const int fd;
  const std::atomic<bool>& abandoned;
  const int64_t max_unpacked_bytes;
  std::string buffer = {};
  Status refused = {};  // why it is read no further

  // A filter beside the one that only reads the file: it is packed.
  Status Check(archive* handle) const {
    if (abandoned.load()) return absl::CancelledError("the import was given up");
    if (archive_filter_count(handle) > 1 && archive_filter_bytes(handle, 0) > max_unpacked_bytes) {
      return MalformedImage(absl::StrCat("unpacked, it has more than ", max_unpacked_bytes,
                                         " bytes, which no archive of images needs"));
    }
    return absl::OkStatus();
  }

  static la_ssize_t Read(archive* handle, void* pointer, const void** data) {
    auto& source = *static_cast<Source*>(pointer);
    source.refused = source.Check(handle);
    if (!source.refused.ok()) {
      archive_set_error(handle, ECANCELED, "refused");
      return ARCHIVE_FATAL;
    }
    source.buffer.resize(kReadBytes);
    ssize_t size = 0;
    do {
      size = ::read(source.fd, source.buffer.data(), source.buffer.size());
    } while (size < 0 && errno == EINTR);
    if (size < 0) archive_set_error(handle, errno, "cannot be read");
    *data = source.buffer.data();
    return size;
  }

  static la_int64_t Skip(archive*, void* pointer, la_int64_t bytes) {
    return ::lseek(static_cast<Source*>(pointer)->fd, bytes, SEEK_CUR) < 0 ? 0 : bytes;
  }
};

StatusOr<ImageArchive> ImageArchive::Open(UniqueFd file,
                                          std::shared_ptr<const std::atomic<bool>> abandoned,
                                          int64_t max_unpacked_bytes) {
  struct stat info{};
  if (fstat(file.get(), &info) != 0) return ErrnoError(errno, "cannot read the archive");
  if (!S_ISREG(info.st_mode)) return MalformedImage("it is not a regular file");
  if (info.st_size == 0) return MalformedImage("it is empty");
  return ImageArchive(std::move(file), std::move(abandoned), max_unpacked_bytes);
}

StatusOr<ImageArchive::Handle> ImageArchive::Rewind(Source& source) {
  if (lseek(file_.get(), 0, SEEK_SET) != 0) return ErrnoError(errno, "cannot read the archive");
  Handle handle(archive_read_new(), archive_read_free);
  archive_read_support_filter_gzip(handle.get());
  archive_read_support_format_tar(handle.get());
  if (archive_read_open2(handle.get(), &source, nullptr, Source::Read, Source::Skip, nullptr) !=
      ARCHIVE_OK) {
    return source.refused.ok() ? EntryError(handle.get(), source.fd) : source.refused;
  }
  return handle;
}

Status ImageArchive::ForEachEntry(
    const std::function<StatusOr<bool>(archive*, archive_entry*)>& visit) {
  Source source{file_.get(), *abandoned_, max_unpacked_bytes_};
  CTR_ASSIGN_OR_RETURN(Handle handle, Rewind(source));
  while (true) {
    CTR_RETURN_IF_ERROR(source.Check(handle.get()));
    archive_entry* entry = nullptr;
    int result = archive_read_next_header(handle.get(), &entry);
    if (result == ARCHIVE_EOF) return CheckWhole();
    const bool is_read = result == ARCHIVE_OK || result == ARCHIVE_WARN;
    if (is_read && archive_entry_pathname(entry) == nullptr) continue;
    StatusOr<bool> more =
        is_read ? visit(handle.get(), entry) : EntryError(handle.get(), source.fd);
    if (!source.refused.ok()) return source.refused;
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
  }
}

// libarchive skips by seeking, also beyond the end of a file that is cut short there.
Status ImageArchive::CheckWhole() const {
  struct stat info{};
  if (fstat(file_.get(), &info) != 0) return ErrnoError(errno, "cannot read the archive");
  if (lseek(file_.get(), 0, SEEK_CUR) <= info.st_size) return absl::OkStatus();
  return MalformedImage("it is damaged or cut short (its last file is not whole)");
}

StatusOr<ArchiveContents> ImageArchive::Scan() {
  ArchiveContents contents;
  size_t documents_bytes = 0;
  size_t names_bytes = 0;
  std::string buffer;
  auto visit = [&](archive* handle, archive_entry* entry) -> StatusOr<bool> {
    std::string name = CleanArchiveName(archive_entry_pathname(entry));
    std::string target = LinkTarget(name, entry);
    if (contents.files.size() + contents.links.size() >= kMaxArchiveFiles) {
      return MalformedImage(absl::StrCat("it has more than ", kMaxArchiveFiles, " files"));
    }
    names_bytes += name.size() + target.size();
    if (name.size() > kMaxNameBytes || names_bytes > kMaxNamesBytes) {
      return MalformedImage("it has a file name of more than 1,024 bytes, or 16 MiB of them");
    }
    if (!target.empty()) {
      contents.links[name] = std::move(target);
      return true;
    }
    // The first file of a name counts, as it does in ReadFiles.
    if (archive_entry_filetype(entry) != AE_IFREG || contents.files.count(name) > 0) return true;
    contents.files[name] = archive_entry_size(entry);
    CTR_ASSIGN_OR_RETURN(std::string text,
                         ReadDocument(handle, name, archive_entry_size(entry), buffer));
    documents_bytes += text.size();
    if (documents_bytes > kMaxDocumentsBytes) {
      return MalformedImage("it has more than 64 MiB of manifests and configs");
    }
    if (!text.empty()) contents.documents[name] = std::move(text);
    return true;
  };
  CTR_RETURN_IF_ERROR(ForEachEntry(visit));
  return contents;
}

Status ImageArchive::ReadFiles(
    std::set<std::string> files,
    const std::function<Status(const std::string& file, const Read& read)>& take) {
  std::string buffer;
  auto visit = [&](archive* handle, archive_entry* entry) -> StatusOr<bool> {
    std::string name = CleanArchiveName(archive_entry_pathname(entry));
    if (archive_entry_filetype(entry) != AE_IFREG || files.erase(name) == 0) return true;
    CTR_RETURN_IF_ERROR(take(name, [&] { return ReadBlock(handle, buffer); }));
    return !files.empty();
  };
  CTR_RETURN_IF_ERROR(ForEachEntry(visit));
  if (files.empty()) return absl::OkStatus();
  return MalformedImage(absl::StrCat("it changed while it was read: ", *files.begin(), " is gone"));
}

}  // namespace ctr
