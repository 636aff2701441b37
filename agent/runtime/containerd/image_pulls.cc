#include "agent/runtime/containerd/image_pulls.h"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "agent/base/utf8.h"
#include "agent/base/work.h"
#include "agent/model/reference.h"
#include "agent/registry/session.h"
#include "agent/runtime/containerd/image_fetch.h"
#include "agent/runtime/containerd/image_record.h"
#include "agent/runtime/containerd/image_unpack.h"

namespace ctr {
namespace {

// Of main's threads for transfers.
constexpr int kParallelBlobs = 12;
constexpr int kParallelBlobsOfPull = 3;
constexpr Duration kReportInterval = std::chrono::milliseconds(200);
constexpr Duration kRoomPause = std::chrono::milliseconds(200);

std::string KeyOf(const PullRequest& request) {
  return absl::StrCat(request.reference, " ", request.platform, request.pin ? " pin" : "");
}

// What the registry did wrong, under the name that callers know; our own trouble stays as it is.
Status AsPullFailure(const Status& status, const std::string& reference) {
  // A registry's own words may be in it.
  const std::string what =
      absl::StrCat("cannot pull ", reference, ": ",
                   Printable({status.message().data(), status.message().size()}));
  if (ErrorCodeOf(status) == code::kInUse) return Error(status.code(), code::kInUse, what);
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kResourceExhausted:
      return Error(status.code(), ErrorCodeOf(status), what);
    default:
      return Error(absl::StatusCode::kAborted, code::kPullFailed, what);
  }
}

}  // namespace

PullProgress PullFlight::Progress() const {
  PullProgress progress;
  for (const Layer& layer : layers) {
    progress.layers.push_back({layer.digest, layer.size_bytes, layer.done_bytes->load()});
  }
  progress.unpacking = unpacking;
  return progress;
}

// One who waits for a flight. The last one that goes before its end gives it up.
class ImagePulls::Waiting {
 public:
  Waiting(ImagePulls* pulls, Flight flight)
      : pulls_(pulls),
        flight_(std::move(flight)),
        alarm_(pulls->clock_->MakeAlarm(pulls->control_)) {
    flight_->waiting.insert(alarm_.get());
  }
  Waiting(const Waiting&) = delete;
  ~Waiting() {
    flight_->waiting.erase(alarm_.get());
    if (!flight_->waiting.empty() || flight_->result) return;
    flight_->abandoned->store(true);
    pulls_->Forget(flight_);
  }

  Alarm& alarm() { return *alarm_; }

 private:
  ImagePulls* const pulls_;
  const Flight flight_;
  const std::unique_ptr<Alarm> alarm_;
};

// What the transfers of one pull have in common.
struct ImagePulls::Fetching {
  Flight flight;
  std::string lease;
  std::unique_ptr<const ResolvedManifest> manifest;
  std::unique_ptr<Semaphore> turn;
  std::unique_ptr<Alarm> ended;  // rings as each ends
  size_t open = 0;
  Status failure;  // the first one
};

ImagePulls::ImagePulls(std::shared_ptr<const ContainerdClient> client, Clock* clock,
                       asio::any_io_executor control, asio::any_io_executor transfers,
                       ImageSettings settings, std::string folder)
    : client_(std::move(client)),
      clock_(clock),
      control_(control),
      transfers_(std::move(transfers)),
      settings_(std::make_shared<const ImageSettings>(std::move(settings))),
      folder_(std::move(folder)),
      blobs_(control, *clock),
      chains_(control, *clock),
      transfer_turn_(control, *clock, kParallelBlobs) {}

awaitable<StatusOr<PulledImage>> ImagePulls::Pull(std::shared_ptr<void> owner, PullRequest request,
                                                  Runtime::ReportPull report) {
  if (!request.platform.empty()) {
    CTR_CO_RETURN_IF_ERROR(ParsePlatform(request.platform).status());
  }
  const Flight flight = Join(std::move(owner), std::move(request));
  Waiting waiting(this, flight);
  while (!flight->result) {
    if (report) co_await report(flight->Progress());
    if (flight->result) break;
    co_await waiting.alarm().WaitUntil(report ? clock_->Now() + kReportInterval : MonoTime::max());
  }
  if (report) co_await report(flight->Progress());
  co_return *flight->result;
}

ImagePulls::Flight ImagePulls::Join(std::shared_ptr<void> owner, PullRequest request) {
  std::string key = KeyOf(request);
  if (auto found = flights_.find(key); found != flights_.end()) return found->second;
  auto flight = std::make_shared<PullFlight>();
  flight->request = std::move(request);
  flights_[std::move(key)] = flight;
  asio::co_spawn(control_, Fly(std::move(owner), flight), asio::detached);
  return flight;
}

void ImagePulls::Forget(const Flight& flight) {
  auto found = flights_.find(KeyOf(flight->request));
  if (found != flights_.end() && found->second == flight) flights_.erase(found);
}

awaitable<void> ImagePulls::Fly(std::shared_ptr<void> owner, Flight flight) {
  StatusOr<PulledImage> pulled = co_await PullWithoutThrowing(flight);
  if (!pulled.ok()) pulled = AsPullFailure(pulled.status(), flight->request.reference);
  Forget(flight);
  flight->result = std::move(pulled);
  for (Alarm* alarm : flight->waiting) alarm->Ring();
}

awaitable<StatusOr<PulledImage>> ImagePulls::PullWithoutThrowing(Flight flight) {
  CTR_CO_ASSIGN_OR_RETURN(std::string lease, co_await CreateLease(client_, "pull"));
  StatusOr<PulledImage> pulled = absl::InternalError("an exception in the pull");
  try {
    pulled = co_await PullUnderLease(flight, lease);
  } catch (const std::exception& exception) {
    pulled = absl::InternalError(exception.what());
  }
  if (Status deleted = co_await DeleteLease(client_, lease); !deleted.ok()) {
    spdlog::warn("pull: lease {} expires in a day, it can't be deleted: {}", lease,
                 deleted.ToString());
  }
  co_return pulled;
}

awaitable<StatusOr<PulledImage>> ImagePulls::PullUnderLease(Flight flight, std::string lease) {
  const PullRequest& request = flight->request;
  auto fetching = std::make_shared<Fetching>();
  fetching->flight = flight;
  fetching->lease = lease;
  fetching->turn = std::make_unique<Semaphore>(control_, *clock_, kParallelBlobsOfPull);
  fetching->ended = clock_->MakeAlarm(control_);
  CTR_CO_ASSIGN_OR_RETURN(
      ResolvedManifest found,
      co_await OnWork(transfers_, [settings = settings_, abandoned = flight->abandoned,
                                   reference = request.reference, platform = request.platform] {
        return ResolveManifest(reference, platform, settings, abandoned);
      }));
  fetching->manifest = std::make_unique<const ResolvedManifest>(std::move(found));
  const ResolvedManifest& resolved = *fetching->manifest;
  for (const BlobDescriptor& blob : resolved.blobs) {
    flight->layers.push_back({blob.digest, blob.size, std::make_shared<std::atomic<int64_t>>(0)});
  }
  CTR_CO_ASSIGN_OR_RETURN(const int64_t lacked,
                          co_await LackedBytes(client_, lease, resolved.blobs));
  if (lacked > 0) CTR_CO_RETURN_IF_ERROR(co_await MakeRoom(flight, lacked));
  // The config comes first: it may be that of another platform.
  CTR_CO_RETURN_IF_ERROR(co_await FetchBlob(fetching, 0));
  CTR_CO_ASSIGN_OR_RETURN(ImagePlan plan, co_await OnWork(transfers_, [client = client_, fetching] {
                            return PlanPulled(*client, *fetching->manifest);
                          }));
  CTR_CO_RETURN_IF_ERROR(co_await FetchLayers(fetching));
  if (flight->abandoned->load()) co_return absl::CancelledError("the pull was given up");

  flight->unpacking = true;
  const std::vector<std::string> chain = ChainIds(plan.parsed_config.diff_ids);
  std::string chain_id;
  if (!chain.empty()) {
    KeyedLocks::Lock lock = co_await chains_.Acquire(chain.back());
    CTR_CO_ASSIGN_OR_RETURN(chain_id,
                            co_await UnpackImage(client_, lease, plan, folder_, flight->abandoned));
  }
  if (flight->abandoned->load()) co_return absl::CancelledError("the pull was given up");
  CTR_CO_RETURN_IF_ERROR(
      co_await OnWork(transfers_, [client = client_, lease, plan, chain_id, fetching] {
        return StorePulled(*client, lease, plan, chain_id, *fetching->manifest);
      }));
  // How much it takes unpacked is known only now.
  if (lacked > 0) CTR_CO_RETURN_IF_ERROR(co_await MakeRoom(flight, 0));
  const NamedDocument& named = resolved.Named();
  PulledImage pulled{request.reference, named.digest};
  if (request.before_naming) {
    CTR_CO_ASSIGN_OR_RETURN(flight->named, request.before_naming(pulled));
  }
  CTR_CO_RETURN_IF_ERROR(
      co_await SetImageName(client_, lease, request.reference, named.media_type, named.text));
  if (request.pin) {
    CTR_CO_RETURN_IF_ERROR(co_await SetImageName(
        client_, lease, AtDigest(request.reference, named.digest), named.media_type, named.text));
  }
  co_return pulled;
}

// What others have fetched so far counts as used until they end: this one waits for that, unless
// all the others wait as well. Then it is the one that gives its room free.
awaitable<Status> ImagePulls::MakeRoom(Flight flight, int64_t bytes) {
  if (!flight->request.make_room) co_return absl::OkStatus();
  for (;;) {
    Status made = co_await flight->request.make_room(bytes);
    const bool others_go_on = std::any_of(flights_.begin(), flights_.end(), [&](const auto& entry) {
      return entry.second != flight && !entry.second->waits_for_room;
    });
    if (ErrorCodeOf(made) != code::kImagesFull || !others_go_on || flight->abandoned->load()) {
      co_return made;
    }
    flight->waits_for_room = true;
    co_await clock_->SleepUntil(clock_->Now() + kRoomPause);
    flight->waits_for_room = false;
  }
}

// All layers, side by side. Ends when none is under way any more; the first failure ends them all.
awaitable<Status> ImagePulls::FetchLayers(std::shared_ptr<Fetching> fetching) {
  for (size_t index = 1; index < fetching->manifest->blobs.size(); ++index) {
    ++fetching->open;
    asio::co_spawn(control_, FetchBlob(fetching, index),
                   [fetching](std::exception_ptr exception, Status status) {
                     if (exception) status = absl::InternalError("an exception in a transfer");
                     --fetching->open;
                     if (!status.ok() && fetching->failure.ok()) {
                       fetching->failure = status;
                       fetching->flight->abandoned->store(true);
                     }
                     fetching->ended->Ring();
                   });
  }
  while (fetching->open > 0) co_await fetching->ended->WaitUntil(MonoTime::max());
  co_return fetching->failure;
}

// Whoever else wants the same blob comes after, and finds it.
awaitable<Status> ImagePulls::FetchBlob(std::shared_ptr<Fetching> fetching, size_t index) {
  KeyedLocks::Lock lock = co_await blobs_.Acquire(fetching->manifest->blobs[index].digest);
  Semaphore::Permit own = co_await fetching->turn->Acquire();
  Semaphore::Permit permit = co_await transfer_turn_.Acquire();
  if (fetching->flight->abandoned->load()) co_return absl::CancelledError("the pull was given up");
  co_return co_await OnWork(transfers_, [client = client_, fetching, index, folder = folder_,
                                         done = fetching->flight->layers[index].done_bytes] {
    return FetchIntoStore(*client, fetching->lease, *fetching->manifest, index, folder, *done);
  });
}

}  // namespace ctr
