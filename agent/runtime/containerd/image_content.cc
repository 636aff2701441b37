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

// A blob takes as long as its source does: that it gets on is seen to there.
std::unique_ptr<grpc::ClientContext> WithoutDeadline(const ContainerdClient& client,
                                                     const std::string& lease) {
  auto context = client.NewContext({.lease = lease});
  context->set_deadline(std::chrono::system_clock::time_point::max());
  return context;
}

// gzip, and zstd, also behind a skippable frame (RFC 1952, RFC 8878).
Packing PackingOf(std::string_view start) {
  if (start.starts_with("\x1f\x8b")) return Packing::kGzip;
  const bool zstd = start.starts_with("\x28\xb5\x2f\xfd") ||
                    (start.size() >= 4 && start.substr(1, 3) == "\x2a\x4d\x18");
  return zstd ? Packing::kZstd : Packing::kNone;
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

// One Content.Write stream. The service answers every request, and a COMMIT twice.
class WriteStream {
 public:
  WriteStream(const ContainerdClient& client, const std::string& lease)
      : client_(client),
        context_(WithoutDeadline(client, lease)),
        stream_(client.content()->Write(context_.get())) {}

  // Returns once the service has let go of the blob. Not after a mere TryCancel: it then writes a
  // last file beside the blob, while an Abort removes that folder.
  ~WriteStream() {
    if (finished_) return;
    stream_->WritesDone();
    Finish().IgnoreError();
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

BlobWriter::BlobWriter(const ContainerdClient& client, BlobToWrite blob)
    : client_(client), blob_(std::move(blob)) {}

BlobWriter::~BlobWriter() {
  if (is_there_ || committed_) return;
  stream_.reset();
  auto context = client_.NewContext({.lease = blob_.lease});
  content::AbortRequest request;
  request.set_ref(Ref());
  google::protobuf::Empty response;
  // If this fails, the collector takes it after the lease.
  client_.content()->Abort(context.get(), request, &response);
}

StatusOr<std::unique_ptr<BlobWriter>> BlobWriter::Begin(const ContainerdClient& client,
                                                        BlobToWrite blob) {
  std::unique_ptr<BlobWriter> writer(new BlobWriter(client, std::move(blob)));
  Status opened = writer->Open();
  writer->is_there_ = absl::IsAlreadyExists(opened);
  if (!opened.ok() && !writer->is_there_) return opened;
  return writer;
}

// A name of its own, so that two imports of one blob don't wait for each other.
std::string BlobWriter::Ref() const { return absl::StrCat(blob_.lease, "-", blob_.digest); }

Status BlobWriter::Open() {
  stream_ = std::make_unique<WriteStream>(client_, blob_.lease);
  WriteContentRequest request;
  request.set_action(content::STAT);
  request.set_ref(Ref());
  request.set_total(blob_.size);
  request.set_expected(blob_.digest);
  CTR_ASSIGN_OR_RETURN(WriteContentResponse stat, stream_->Exchange(request));
  is_shared_ = !blob_.digest.empty() && blob_.size > 0 && stat.offset() == blob_.size;
  return absl::OkStatus();
}

Status BlobWriter::Append(std::string_view piece) {
  if (is_shared_ || piece.empty()) return absl::OkStatus();
  // A sparse file of an archive has no end that a disk could hold.
  if (static_cast<int64_t>(piece.size()) > blob_.size - offset_) {
    return Damaged(absl::StrCat("it has more than the ", blob_.size, " bytes that it should have"));
  }
  if (offset_ == 0) packing_ = PackingOf(piece);
  hash_.Update(piece);
  WriteContentRequest request;
  request.set_action(content::WRITE);
  request.set_offset(offset_);
  request.set_data(piece.data(), piece.size());
  CTR_RETURN_IF_ERROR(stream_->Exchange(request).status());
  offset_ += static_cast<int64_t>(piece.size());
  return absl::OkStatus();
}

Status BlobWriter::Damaged(const std::string& how) const {
  const std::string what = blob_.digest.empty() ? "a layer" : absl::StrCat("layer ", blob_.digest);
  return MalformedImage(absl::StrCat(what, " is damaged: ", how, "; ", blob_.advice));
}

Status BlobWriter::Check(const std::string& digest) const {
  if (offset_ != blob_.size) {
    return Damaged(absl::StrCat("it has ", offset_, " bytes and should have ", blob_.size));
  }
  if (blob_.digest.empty() || digest == blob_.digest) return absl::OkStatus();
  return Damaged(absl::StrCat("its content has the digest ", digest));
}

StatusOr<WrittenBlob> BlobWriter::Commit() {
  WrittenBlob written{.digest = blob_.digest};
  if (is_there_) return written;
  if (!is_shared_) {
    written = {.digest = hash_.Digest(), .packing = packing_};
    CTR_RETURN_IF_ERROR(Check(written.digest));
  }
  WriteContentRequest request;
  request.set_action(content::COMMIT);
  request.set_ref(Ref());
  request.set_total(blob_.size);
  request.set_offset(blob_.size);
  request.set_expected(written.digest);
  request.mutable_labels()->insert(blob_.labels.begin(), blob_.labels.end());
  Status committed = stream_->Commit(request);
  if (!committed.ok() && !absl::IsAlreadyExists(committed)) return committed;
  committed_ = true;
  return written;
}

StatusOr<WrittenBlob> WriteBlob(const ContainerdClient& client, const BlobToWrite& blob,
                                const std::function<StatusOr<std::string_view>()>& read) {
  CTR_ASSIGN_OR_RETURN(std::unique_ptr<BlobWriter> writer, BlobWriter::Begin(client, blob));
  while (writer->wants_content()) {
    CTR_ASSIGN_OR_RETURN(std::string_view block, read());
    if (block.empty()) break;
    CTR_RETURN_IF_ERROR(writer->Append(block));
  }
  return writer->Commit();
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

StatusOr<std::vector<content::Info>> ListBlobs(const ContainerdClient& client) {
  auto context = client.NewContext();
  auto stream = client.content()->List(context.get(), content::ListContentRequest());
  std::vector<content::Info> blobs;
  content::ListContentResponse response;
  while (stream->Read(&response)) {
    for (content::Info& info : *response.mutable_info()) blobs.push_back(std::move(info));
  }
  Status status = client.FromGrpc(stream->Finish());
  if (!status.ok()) return status;
  return blobs;
}

Status AbortWrites(const ContainerdClient& client, const std::string& prefix) {
  auto context = client.NewContext();
  content::ListStatusesResponse response;
  Status listed = client.FromGrpc(
      client.content()->ListStatuses(context.get(), content::ListStatusesRequest(), &response));
  if (!listed.ok()) return listed;
  for (const content::Status& write : response.statuses()) {
    if (!absl::StartsWith(write.ref(), prefix)) continue;
    auto call = client.NewContext();
    content::AbortRequest request;
    request.set_ref(write.ref());
    google::protobuf::Empty ignored;
    client.content()->Abort(call.get(), request, &ignored);
  }
  return absl::OkStatus();
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
