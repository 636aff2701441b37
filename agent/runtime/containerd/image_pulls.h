#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/keyed_locks.h"
#include "agent/base/semaphore.h"
#include "agent/model/image_settings.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/runtime.h"

namespace ctr {

// One pull under way, for everybody who asked for the same. On the control loop, but for the
// atomics.
struct PullFlight {
  struct Layer {
    std::string digest;
    int64_t size_bytes = 0;
    std::shared_ptr<std::atomic<int64_t>> done_bytes;
  };

  PullRequest request;
  std::shared_ptr<std::atomic<bool>> abandoned = std::make_shared<std::atomic<bool>>(false);
  std::vector<Layer> layers = {};
  bool unpacking = false;
  bool waits_for_room = false;    // which another one may give free
  std::set<Alarm*> waiting = {};  // of who asked
  std::optional<StatusOr<PulledImage>> result = {};
  std::shared_ptr<void> named = {};  // what PullRequest::before_naming returned

  PullProgress Progress() const;
};

// Pulls images: one pull for all who ask for the same at a time, and one transfer of each blob,
// whoever wants it. Owned by the core; home loop: control. Transfers block a thread of `transfers`
// each, and so many are under way at a time as leave some for manifests; of one pull, as leave one
// for another's. `folder`: as UnpackImage's.
class ImagePulls {
 public:
  ImagePulls(std::shared_ptr<const ContainerdClient> client, Clock* clock,
             asio::any_io_executor control, asio::any_io_executor transfers, ImageSettings settings,
             std::string folder);

  // As Runtime::PullImage. `owner` keeps this alive; the pull has it until it is over, which may be
  // after the caller was cancelled.
  awaitable<StatusOr<PulledImage>> Pull(std::shared_ptr<void> owner, PullRequest request,
                                        Runtime::ReportPull report);

 private:
  using Flight = std::shared_ptr<PullFlight>;
  class Waiting;
  struct Fetching;

  Flight Join(std::shared_ptr<void> owner, PullRequest request);
  void Forget(const Flight& flight);
  awaitable<void> Fly(std::shared_ptr<void> owner, Flight flight);
  awaitable<StatusOr<PulledImage>> PullWithoutThrowing(Flight flight);
  awaitable<StatusOr<PulledImage>> PullUnderLease(Flight flight, std::string lease);
  awaitable<Status> MakeRoom(Flight flight, int64_t bytes);
  awaitable<Status> FetchLayers(std::shared_ptr<Fetching> fetching);
  awaitable<Status> FetchBlob(std::shared_ptr<Fetching> fetching, size_t index);

  const std::shared_ptr<const ContainerdClient> client_;
  Clock* const clock_;
  const asio::any_io_executor control_;
  const asio::any_io_executor transfers_;
  const std::shared_ptr<const ImageSettings> settings_;
  const std::string folder_;

  std::map<std::string, Flight> flights_;  // by what is asked for
  KeyedLocks blobs_;                       // by digest: held while one is fetched
  KeyedLocks chains_;                      // by chain ID: held while an image is unpacked
  Semaphore transfer_turn_;
};

}  // namespace ctr
