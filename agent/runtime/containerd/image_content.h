// containerd's content store: blobs by digest. Blocking, for the work pool; the stream of a write
// has no coroutine form.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/runtime/containerd/client.h"

namespace ctr {

struct BlobToWrite {
  std::string lease;
  std::string digest;  // expected; "" if only its content tells
  int64_t size = 0;
  std::map<std::string, std::string> labels = {};
};

struct WrittenBlob {
  std::string digest;
  bool gzipped = false;  // by its first bytes; false if it need not be read
};

// Streams a blob into the store under a lease. `read` gives its content piece by piece, "" at the
// end; it is not called if the store has the blob already. INVALID_ARGUMENT if the content has not
// that size or digest; then nothing is kept.
StatusOr<WrittenBlob> WriteBlob(const ContainerdClient& client, const BlobToWrite& blob,
                                const std::function<StatusOr<std::string_view>()>& read);

// A small blob that is at hand. Its labels are set also if the store has it already: the garbage
// collector goes by them.
Status WriteDocument(const ContainerdClient& client, const std::string& lease,
                     const std::string& text, std::map<std::string, std::string> labels);

// A document of an image. NOT_FOUND if it is not there, INVALID_ARGUMENT if it is larger than
// documents are.
StatusOr<std::string> ReadDocument(const ContainerdClient& client, const std::string& digest);

}  // namespace ctr
