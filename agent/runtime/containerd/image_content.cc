#include "agent/runtime/containerd/image_content.h"

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/image_config.h"
#include "agent/runtime/image_layout.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

using content::WriteContentRequest;
using content::WriteContentResponse;

constexpr Duration kWriteTimeout = std::chrono::hours(1);

// One Content.Write stream. The service answers every request, and a COMMIT twice.
class WriteStream {
 public:
  WriteStream(const ContainerdClient& client, const std::string& lease)
      : client_(client),
        context_(client.NewContext({.timeout = kWriteTimeout, .lease = lease})),
        stream_(client.content()->Write(context_.get())) {}

  // A stream that is given up is ended by the service, too.
  ~WriteStream() {
    if (!finished_) {
      context_->TryCancel();
      Finish().IgnoreError();
    }
  }

  // The answer, or the stream's error: ALREADY_EXISTS if the store has the blob.
  StatusOr<WriteContentResponse> Exchange(const WriteContentRequest& request) {
    WriteContentResponse response;
    if (stream_->Write(request) && stream_->Read(&response)) return response;
    Status status = Finish();
    if (!status.ok()) return status;
    return absl::InternalError("containerd ended the transfer of a blob");
  }

  Status Commit(const WriteContentRequest& request) {
    Status committed = Exchange(request).status();
    if (!committed.ok()) return committed;
    stream_->WritesDone();
    return Finish();
  }

 private:
  Status Finish() {
    finished_ = true;
    WriteContentResponse ignored;
    // Finish() hangs while an answer is unread.
    while (stream_->Read(&ignored)) continue;
    return client_.FromGrpc(stream_->Finish());
  }

  const ContainerdClient& client_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriterInterface<WriteContentRequest, WriteContentResponse>>
      stream_;
  bool finished_ = false;
};

Status Damaged(const std::string& digest, absl::string_view how) {
  std::string what = digest.empty() ? "a layer" : absl::StrCat("layer ", digest);
  return MalformedImage(absl::StrCat(what, " is damaged: ", how, "; make the archive again"));
}

// Sends the content after what the store has of it, and hashes it.
StatusOr<WrittenBlob> Send(WriteStream& stream, const BlobToWrite& blob,
                           const std::function<StatusOr<std::string_view>()>& read) {
  WrittenBlob written;
  Sha256 hash;
  int64_t offset = 0;
  while (true) {
    CTR_ASSIGN_OR_RETURN(std::string_view block, read());
    if (block.empty()) break;
    if (offset == 0) written.gzipped = block.substr(0, 2) == "\x1f\x8b";
    hash.Update(block);
    WriteContentRequest request;
    request.set_action(content::WRITE);
    request.set_offset(offset);
    request.set_data(block.data(), block.size());
    CTR_RETURN_IF_ERROR(stream.Exchange(request).status());
    offset += static_cast<int64_t>(block.size());
  }
  if (offset != blob.size) {
    return Damaged(blob.digest,
                   absl::StrCat("it has ", offset, " bytes and should have ", blob.size));
  }
  written.digest = hash.Digest();
  if (!blob.digest.empty() && written.digest != blob.digest) {
    return Damaged(blob.digest, absl::StrCat("its content has the digest ", written.digest));
  }
  return written;
}

StatusOr<WrittenBlob> Write(const ContainerdClient& client, const BlobToWrite& blob,
                            const std::function<StatusOr<std::string_view>()>& read) {
  WriteStream stream(client, blob.lease);
  WriteContentRequest request;
  request.set_action(content::STAT);
  // A name of its own, so that two imports of one blob don't wait for each other.
  request.set_ref(absl::StrCat(blob.lease, "-", blob.digest));
  request.set_total(blob.size);
  request.set_expected(blob.digest);
  CTR_ASSIGN_OR_RETURN(WriteContentResponse stat, stream.Exchange(request));
  WrittenBlob written{.digest = blob.digest};
  // Another namespace may have the blob: then it needs only be committed into ours.
  bool shared = !blob.digest.empty() && blob.size > 0 && stat.offset() == blob.size;
  if (!shared) {
    CTR_ASSIGN_OR_RETURN(written, Send(stream, blob, read));
  }
  request.set_action(content::COMMIT);
  request.set_offset(blob.size);
  request.set_expected(written.digest);
  request.mutable_labels()->insert(blob.labels.begin(), blob.labels.end());
  Status committed = stream.Commit(request);
  if (!committed.ok() && !absl::IsAlreadyExists(committed)) return committed;
  return written;
}

void Abort(const ContainerdClient& client, const BlobToWrite& blob) {
  auto context = client.NewContext({.lease = blob.lease});
  content::AbortRequest request;
  request.set_ref(absl::StrCat(blob.lease, "-", blob.digest));
  google::protobuf::Empty response;
  // If this fails, the collector takes it after the lease.
  client.content()->Abort(context.get(), request, &response);
}

Status SetLabels(const ContainerdClient& client, const BlobToWrite& blob) {
  auto context = client.NewContext({.lease = blob.lease});
  content::UpdateRequest request;
  request.mutable_info()->set_digest(blob.digest);
  for (const auto& [key, value] : blob.labels) {
    (*request.mutable_info()->mutable_labels())[key] = value;
    request.mutable_update_mask()->add_paths(absl::StrCat("labels.", key));
  }
  content::UpdateResponse response;
  return client.FromGrpc(client.content()->Update(context.get(), request, &response));
}

}  // namespace

StatusOr<WrittenBlob> WriteBlob(const ContainerdClient& client, const BlobToWrite& blob,
                                const std::function<StatusOr<std::string_view>()>& read) {
  StatusOr<WrittenBlob> written = Write(client, blob, read);
  if (written.ok()) return written;
  if (absl::IsAlreadyExists(written.status())) return WrittenBlob{.digest = blob.digest};
  Abort(client, blob);
  return written;
}

Status WriteDocument(const ContainerdClient& client, const std::string& lease,
                     const std::string& text, std::map<std::string, std::string> labels) {
  BlobToWrite blob{.lease = lease,
                   .digest = Sha256Digest(text),
                   .size = static_cast<int64_t>(text.size()),
                   .labels = std::move(labels)};
  bool done = false;
  auto read = [&]() -> StatusOr<std::string_view> {
    return std::exchange(done, true) ? std::string_view() : std::string_view(text);
  };
  CTR_RETURN_IF_ERROR(WriteBlob(client, blob, read).status());
  return blob.labels.empty() ? absl::OkStatus() : SetLabels(client, blob);
}

StatusOr<std::string> ReadDocument(const ContainerdClient& client, const std::string& digest) {
  auto context = client.NewContext();
  content::ReadContentRequest request;
  request.set_digest(digest);
  auto stream = client.content()->Read(context.get(), request);
  std::string text;
  content::ReadContentResponse response;
  while (stream->Read(&response)) {
    text.append(response.data());
    if (text.size() > kMaxImageDocumentBytes) context->TryCancel();
  }
  Status status = client.FromGrpc(stream->Finish());
  if (text.size() > kMaxImageDocumentBytes) {
    return MalformedImage(absl::StrCat(digest, " is larger than 4 MiB"));
  }
  if (!status.ok()) return status;
  return text;
}

}  // namespace ctr
