// The part of Supervisor that sees to classes' images, and that the store keeps to its limit.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/size_text.h"
#include "agent/base/work.h"
#include "agent/config/memory_size.h"
#include "agent/control/supervisor.h"
#include "agent/model/reference.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

// Who wants an image that is not here learns first that it is not, whatever the registry said.
Status NotHere(const std::string& image, const Status& pulled) {
  if (absl::IsCancelled(pulled) || absl::IsResourceExhausted(pulled)) return pulled;
  return Error(absl::StatusCode::kNotFound, code::kUnknownImage,
               absl::StrCat("image ", image,
                            " is not here, and it can't be got: ", std::string(pulled.message()),
                            "; or load it from a file: ctr image import FILE"));
}

}  // namespace

std::multimap<std::string, std::string> Supervisor::ImagesInUse() const {
  std::multimap<std::string, std::string> used;
  for (const auto& [name, state] : classes_) {
    StatusOr<std::string> image = NormalizeReference(state->config->image);
    if (!image.ok()) continue;
    used.emplace(*image, name);
    if (state->config->image_digest.empty()) continue;
    const std::string pinned = AtDigest(*image, state->config->image_digest);
    if (pinned != *image) used.emplace(pinned, name);
  }
  return used;
}

std::set<std::string> Supervisor::ImagesToKeep() const {
  std::set<std::string> keep(images_wanted_.begin(), images_wanted_.end());
  for (const auto& [reference, name] : ImagesInUse()) keep.insert(reference);
  return keep;
}

// Until a class that uses it is there, or it is not wanted any more, it is not to be pruned.
std::shared_ptr<void> Supervisor::WantImage(const std::string& reference) {
  const auto position = images_wanted_.insert(reference);
  return std::shared_ptr<void>(nullptr,
                               [this, position](void*) { images_wanted_.erase(position); });
}

// Who needs what has that name; "" if nobody does.
std::string Supervisor::ImageUser(const std::string& reference) const {
  const std::multimap<std::string, std::string> used = ImagesInUse();
  const auto [first, last] = used.equal_range(reference);
  if (first != last) {
    return absl::StrCat("class ",
                        absl::StrJoin(first, last, ", ", [](std::string* out, const auto& entry) {
                          out->append(entry.second);
                        }));
  }
  return images_wanted_.contains(reference) ? "an apply or a pull that is under way" : "";
}

// Under a name that is used, another machine's image would start nothing here.
Status Supervisor::CheckMayMove(const std::string& reference, const Platform& platform) const {
  if (PlatformName(platform) == PlatformName(HostPlatform())) return absl::OkStatus();
  const std::string user = ImageUser(reference);
  if (user.empty()) return absl::OkStatus();
  return Error(
      absl::StatusCode::kFailedPrecondition, code::kInUse,
      absl::StrCat(reference, " is used by ", user, ", which can't run an image for ",
                   PlatformName(platform), "; pull that by its digest, or by another tag"));
}

awaitable<StatusOr<PulledImage>> Supervisor::PullImage(PullRequest request,
                                                       Runtime::ReportPull report) {
  Platform platform = HostPlatform();
  if (!request.platform.empty()) {
    CTR_CO_ASSIGN_OR_RETURN(platform, ParsePlatform(request.platform));
  }
  CTR_CO_RETURN_IF_ERROR(CheckMayMove(request.reference, platform));
  // Another machine's image is not what those want who wait for one of that name.
  const std::shared_ptr<void> wanted = PlatformName(platform) == PlatformName(HostPlatform())
                                           ? WantImage(request.reference)
                                           : nullptr;
  request.make_room = [this](int64_t bytes) { return MakeImageRoom(bytes); };
  request.before_naming = [this,
                           platform](const PulledImage& image) -> StatusOr<std::shared_ptr<void>> {
    CTR_RETURN_IF_ERROR(CheckMayMove(image.reference, platform));
    return WantImage(AtDigest(image.reference, image.digest));
  };
  StatusOr<PulledImage> pulled = co_await runtime_.PullImage(std::move(request), std::move(report));
  if (!pulled.ok()) co_return pulled;
  events_.Record({.type = event::kImagePulled,
                  .message = absl::StrCat(pulled->reference, " (", pulled->digest, ")")});
  for (const auto& [name, state] : classes_) {
    StatusOr<std::string> image = ImageReferenceOf(*state->config);
    if (image.ok() && *image == pulled->reference) state->NoteImage(pulled->digest, clock_.Now());
  }
  co_return pulled;
}

awaitable<Status> Supervisor::MakeImageRoom(int64_t bytes) {
  if (!options_.max_image_bytes) co_return absl::OkStatus();
  const int64_t limit = *options_.max_image_bytes;
  PruneRequest prune{.used = [this] { return ImagesToKeep(); },
                     .down_to_bytes = std::max<int64_t>(limit - bytes, 0),
                     .only_if_enough = true};
  CTR_CO_ASSIGN_OR_RETURN(PrunedImages pruned, co_await runtime_.PruneImages(std::move(prune)));
  NotePruned(pruned);
  if (bytes <= limit - pruned.left_bytes) co_return absl::OkStatus();
  const std::string what =
      bytes > 0
          ? absl::StrCat("it takes ", FormatSize(bytes), " and more, and the images that are used")
          : "with it, the images that are used, or pulled just now, would take";
  co_return Error(
      absl::StatusCode::kResourceExhausted, code::kImagesFull,
      absl::StrCat(what, " ", FormatSize(pruned.left_bytes), " of the ", FormatMemorySize(limit),
                   " that [images] max_size allows; raise it, or remove classes or "
                   "images"));
}

awaitable<StatusOr<std::vector<std::string>>> Supervisor::ImportImages(UniqueFd archive,
                                                                       std::string name) {
  StatusOr<std::vector<std::string>> imported = co_await runtime_.ImportImages(
      std::move(archive), std::move(name), [this](int64_t bytes) { return MakeImageRoom(bytes); });
  if (imported.ok()) co_await LookAtImages();
  co_return imported;
}

awaitable<StatusOr<PrunedImages>> Supervisor::PruneImages() {
  StatusOr<PrunedImages> pruned =
      co_await runtime_.PruneImages({.used = [this] { return ImagesToKeep(); }});
  if (pruned.ok()) NotePruned(*pruned);
  co_return pruned;
}

awaitable<Status> Supervisor::RemoveImage(std::string reference) {
  if (const std::string user = ImageUser(reference); !user.empty()) {
    co_return Error(absl::StatusCode::kFailedPrecondition, code::kInUse,
                    absl::StrCat(reference, " is used by ", user, "; remove or change it first"));
  }
  co_return co_await runtime_.RemoveImage(std::move(reference));
}

void Supervisor::NotePruned(const PrunedImages& pruned) {
  for (const std::string& reference : pruned.references) {
    events_.Record({.type = event::kImageRemoved, .message = reference});
  }
}

awaitable<void> Supervisor::LookAtImages() {
  const MonoTime asked = clock_.Now();
  StatusOr<std::vector<ImageSummary>> images = co_await runtime_.ListImages();
  if (!images.ok()) {
    spdlog::warn("cannot look what classes' images are: {}",
                 std::string(images.status().message()));
    co_return;
  }
  std::map<std::string, std::string> digests;
  for (ImageSummary& image : *images) {
    digests.emplace(std::move(image.reference), std::move(image.digest));
  }
  for (const auto& [name, state] : classes_) {
    StatusOr<std::string> image = ImageReferenceOf(*state->config);
    if (!image.ok()) continue;
    const auto found = digests.find(*image);
    state->NoteImage(found == digests.end() ? "" : found->second, asked);
  }
}

awaitable<Status> Supervisor::EnsureImage(std::string image) {
  Status here = co_await runtime_.CheckImage(image);
  if (!absl::IsNotFound(here)) co_return here;
  StatusOr<PulledImage> pulled = co_await PullImage({.reference = image}, nullptr);
  if (pulled.ok()) co_return absl::OkStatus();
  co_return NotHere(image, pulled.status());
}

awaitable<StatusOr<std::string>> Supervisor::ProvideImage(ClassConfig config) {
  // Whoever waits for it may go away, and takes the pull with it.
  co_await AllowCancellation(true);
  StatusOr<std::string> digest = co_await SettleImage(std::move(config));
  co_await AllowCancellation(false);
  co_return digest;
}

awaitable<StatusOr<std::string>> Supervisor::SettleImage(ClassConfig config) {
  CTR_CO_ASSIGN_OR_RETURN(std::string image, ImageReferenceOf(config));
  if (config.pull_policy == PullPolicy::kNever) {
    CTR_CO_RETURN_IF_ERROR(co_await runtime_.CheckImage(image));
  } else if (config.pull_policy == PullPolicy::kAlways && config.image_digest.empty()) {
    CTR_CO_ASSIGN_OR_RETURN(PulledImage pulled,
                            co_await PullImage({.reference = image, .pin = true}, nullptr));
    co_return pulled.digest;
  } else {
    CTR_CO_RETURN_IF_ERROR(co_await EnsureImage(image));
  }
  co_return config.image_digest;
}

}  // namespace ctr
