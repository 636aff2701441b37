// The image part of AgentService.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/api/agent_service.h"
#include "agent/api/convert.h"
#include "agent/base/disk_room.h"
#include "agent/base/work.h"
#include "agent/model/reference.h"

namespace ctr {
namespace {

// An archive on its way in: an unnamed file, which is gone with its descriptor whatever happens.
StatusOr<UniqueFd> MakeSpool(const std::string& folder) {
  UniqueFd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoError(errno, absl::StrCat("cannot spool the archive in ", folder));
  return fd;
}

Status WriteAll(int fd, const std::string& data) {
  for (size_t done = 0; done < data.size();) {
    ssize_t written = ::write(fd, data.data() + done, data.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoError(errno, "cannot spool the archive");
    done += static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

v1::PullImageResponse ToMessage(const PullProgress& progress) {
  v1::PullImageResponse message;
  for (const PullProgress::Layer& layer : progress.layers) {
    v1::PulledLayer* proto = message.add_layers();
    proto->set_digest(layer.digest);
    proto->set_size_bytes(layer.size_bytes);
    proto->set_done_bytes(layer.done_bytes);
  }
  message.set_unpacking(progress.unpacking);
  return message;
}

}  // namespace

grpc::ServerReadReactor<v1::ImportImageRequest>* AgentService::ImportImage(
    grpc::CallbackServerContext* context, v1::ImportImageResponse* response) {
  return rpc::ServeStream<v1::ImportImageRequest>(
      context, control_,
      [=, this](rpc::CallContext, rpc::StreamReader<v1::ImportImageRequest>& reader) {
        return DoImportImage(reader, response);
      });
}

awaitable<Status> AgentService::DoImportImage(rpc::StreamReader<v1::ImportImageRequest>& reader,
                                              v1::ImportImageResponse* response) {
  const Session counted(imports_);
  std::string name;
  StatusOr<UniqueFd> made =
      co_await OnWork(work_, [folder = facts_.data_dir] { return MakeSpool(folder); });
  CTR_CO_RETURN_IF_ERROR(made.status());
  auto spool = std::make_shared<UniqueFd>(std::move(*made));
  for (bool first = true;; first = false) {
    std::optional<v1::ImportImageRequest> message = co_await reader.Read();
    if (!message) break;
    if (first && !message->name().empty()) {
      CTR_CO_ASSIGN_OR_RETURN(name, NormalizeAsSaid(message->name()));
    }
    auto data = std::make_shared<std::string>(std::move(*message->mutable_data()));
    CTR_CO_RETURN_IF_ERROR(co_await OnWork(work_, [spool, data, folder = facts_.data_dir] {
      Status room = CheckDiskRoom(folder);
      return room.ok() ? WriteAll(spool->get(), *data)
                       : Annotate(room, "cannot import the archive");
    }));
  }
  if (::lseek(spool->get(), 0, SEEK_SET) != 0)
    co_return ErrnoError(errno, "cannot read the archive back");
  CTR_CO_ASSIGN_OR_RETURN(std::vector<std::string> references,
                          co_await supervisor_.ImportImages(std::move(*spool), std::move(name)));
  response->mutable_references()->Assign(references.begin(), references.end());
  co_return absl::OkStatus();
}

grpc::ServerWriteReactor<v1::PullImageResponse>* AgentService::PullImage(
    grpc::CallbackServerContext* context, const v1::PullImageRequest* request) {
  return rpc::ServeWriter<v1::PullImageResponse>(
      context, control_,
      [=, this](rpc::CallContext, rpc::StreamWriter<v1::PullImageResponse>& writer) {
        return DoPullImage(request, writer);
      });
}

// A client that goes away cancels this coroutine, and so leaves the pull.
awaitable<Status> AgentService::DoPullImage(const v1::PullImageRequest* request,
                                            rpc::StreamWriter<v1::PullImageResponse>& writer) {
  const Session counted(imports_);
  PullRequest pull;
  CTR_CO_ASSIGN_OR_RETURN(pull.reference, NormalizeReference(request->reference()));
  pull.platform = request->platform();
  auto last = std::make_shared<std::string>();
  const auto report = [&writer, last](PullProgress progress) -> awaitable<void> {
    v1::PullImageResponse message = ToMessage(progress);
    std::string text = message.SerializeAsString();
    if (progress.layers.empty() || text == *last) co_return;
    *last = std::move(text);
    co_await writer.Write(std::move(message));
  };
  CTR_CO_ASSIGN_OR_RETURN(PulledImage pulled,
                          co_await supervisor_.PullImage(std::move(pull), report));
  v1::PullImageResponse done;
  done.set_reference(pulled.reference);
  done.set_digest(pulled.digest);
  co_await writer.Write(std::move(done));
  co_return absl::OkStatus();
}

grpc::ServerUnaryReactor* AgentService::PruneImages(grpc::CallbackServerContext* context,
                                                    const v1::PruneImagesRequest*,
                                                    v1::PruneImagesResponse* response) {
  return Handle(context, [=, this](rpc::CallContext) { return DoPruneImages(response); });
}

awaitable<Status> AgentService::DoPruneImages(v1::PruneImagesResponse* response) {
  CTR_CO_ASSIGN_OR_RETURN(PrunedImages pruned, co_await supervisor_.PruneImages());
  response->mutable_references()->Assign(pruned.references.begin(), pruned.references.end());
  response->set_freed_bytes(pruned.freed_bytes);
  co_return absl::OkStatus();
}

grpc::ServerUnaryReactor* AgentService::ListImages(grpc::CallbackServerContext* context,
                                                   const v1::ListImagesRequest*,
                                                   v1::ListImagesResponse* response) {
  return Handle(context, [=, this](rpc::CallContext) { return DoListImages(response); });
}

awaitable<Status> AgentService::DoListImages(v1::ListImagesResponse* response) {
  CTR_CO_ASSIGN_OR_RETURN(std::vector<ImageSummary> images, co_await runtime_.ListImages());
  std::multimap<std::string, std::string> used = supervisor_.ImagesInUse();
  for (const ImageSummary& image : images) {
    v1::Image* proto = response->add_images();
    proto->set_reference(image.reference);
    proto->set_digest(image.digest);
    proto->set_size_bytes(image.size_bytes);
    proto->set_created_at_ms(UnixMilliseconds(image.created_at));
    auto [first, last] = used.equal_range(image.reference);
    for (auto it = first; it != last; ++it) proto->add_classes(it->second);
  }
  co_return absl::OkStatus();
}

grpc::ServerUnaryReactor* AgentService::RemoveImage(grpc::CallbackServerContext* context,
                                                    const v1::RemoveImageRequest* request,
                                                    v1::RemoveImageResponse*) {
  return Handle(context, [=, this](rpc::CallContext) { return DoRemoveImage(request); });
}

awaitable<Status> AgentService::DoRemoveImage(const v1::RemoveImageRequest* request) {
  CTR_CO_ASSIGN_OR_RETURN(std::string reference, NormalizeReference(request->reference()));
  co_return co_await supervisor_.RemoveImage(std::move(reference));
}

}  // namespace ctr
