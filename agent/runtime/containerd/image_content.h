// containerd's content store: blobs by digest. Blocking, for the work pool; the stream of a write
// has no coroutine form.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/sha256.h"

namespace ctr {

struct BlobToWrite {
  std::string lease;
  std::string digest;  // expected; "" if only its content tells
  int64_t size = 0;
  std::map<std::string, std::string> labels = {};
  std::string advice = "make the archive again";  // to whom it comes damaged
};

// What containerd unpacks before it reads it.
enum class Packing { kNone, kGzip, kZstd };

struct WrittenBlob {
  std::string digest;
  Packing packing = Packing::kNone;  // by its first bytes; kNone if it need not be read
};

class WriteStream;

// One blob on its way into the store under a lease, piece by piece as it comes. One thread at a
// time; ends the transfer, and leaves nothing of it, unless it is committed.
class BlobWriter {
 public:
  static StatusOr<std::unique_ptr<BlobWriter>> Begin(const ContainerdClient& client,
                                                     BlobToWrite blob);
  ~BlobWriter();

  // False if the store has it already: there is nothing to append, only to commit.
  bool wants_content() const { return !is_there_ && !is_shared_; }
  // INVALID_ARGUMENT once it is more than the expected size.
  Status Append(std::string_view piece);
  // INVALID_ARGUMENT if the content has not the expected size or digest.
  StatusOr<WrittenBlob> Commit();

 private:
  BlobWriter(const ContainerdClient& client, BlobToWrite blob);
  Status Open();
  Status Check(const std::string& digest) const;
  Status Damaged(const std::string& how) const;
  // Of containerd's own keeping, while it is written.
  std::string Ref() const;

  const ContainerdClient& client_;
  const BlobToWrite blob_;
  std::unique_ptr<WriteStream> stream_;
  bool is_there_ = false;
  bool is_shared_ = false;  // another namespace has it: it needs only be committed into ours
  bool committed_ = false;
  Sha256 hash_;
  int64_t offset_ = 0;
  Packing packing_ = Packing::kNone;
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

// The blobs of our namespace, with their sizes and labels.
StatusOr<std::vector<content::Info>> ListBlobs(const ContainerdClient& client);

// Ends what is being written under references that begin with `prefix`, and was left by an agent
// that is gone.
Status AbortWrites(const ContainerdClient& client, const std::string& prefix);

// A document of an image. NOT_FOUND if it is not there, INVALID_ARGUMENT if it is larger than
// documents are.
StatusOr<std::string> ReadDocument(const ContainerdClient& client, const std::string& digest);

}  // namespace ctr
