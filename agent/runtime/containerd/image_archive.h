#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "agent/base/error.h"
#include "agent/base/fd.h"
#include "agent/runtime/image_layout.h"

struct archive;
struct archive_entry;

namespace ctr {

// An image archive: a tar, also gzipped, that is read from its start as often as needed. Blocking;
// one thread at a time. CANCELLED soon after `abandoned` is true.
class ImageArchive {
 public:
  // The contents of one file of the archive, in order; "" at its end.
  using Read = std::function<StatusOr<std::string_view>()>;

  // No archive of images is larger once it is unpacked; a plain one may be as large as its file is.
  static constexpr int64_t kMaxUnpackedBytes = int64_t{64} << 30;

  // INVALID_ARGUMENT unless `file` is a regular file that is not empty.
  static StatusOr<ImageArchive> Open(UniqueFd file,
                                     std::shared_ptr<const std::atomic<bool>> abandoned,
                                     int64_t max_unpacked_bytes = kMaxUnpackedBytes);

  // Reads through the whole archive and keeps its JSON. Bounded: 4 MiB a document, 64 MiB in all,
  // 65,536 files, 16 MiB of names. INVALID_ARGUMENT for what is no tar, is cut short or exceeds a
  // bound.
  StatusOr<ArchiveContents> Scan();

  // Reads again, and calls `take` for each of `files` in the order of the archive, once each. Ends
  // with the first error.
  Status ReadFiles(std::set<std::string> files,
                   const std::function<Status(const std::string& file, const Read& read)>& take);

 private:
  using Handle = std::unique_ptr<archive, int (*)(archive*)>;
  struct Source;

  ImageArchive(UniqueFd file, std::shared_ptr<const std::atomic<bool>> abandoned,
               int64_t max_unpacked_bytes)
      : file_(std::move(file)),
        abandoned_(std::move(abandoned)),
        max_unpacked_bytes_(max_unpacked_bytes) {}

  StatusOr<Handle> Rewind(Source& source);
  // Calls `visit` for each entry; it may read the entry's data.
  Status ForEachEntry(
      const std::function<StatusOr<bool>(archive* handle, archive_entry* entry)>& visit);

  Status CheckWhole() const;

  UniqueFd file_;
  std::shared_ptr<const std::atomic<bool>> abandoned_;
  int64_t max_unpacked_bytes_;
};

}  // namespace ctr
