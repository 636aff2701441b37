#include <fcntl.h>

#include <doctest/doctest.h>

#include "agent/runtime/containerd/disk.h"
#include "tests/integration/runtime/runtime_fixture.h"
#include "tests/integration/runtime/runtime_image.h"

namespace ctr {
namespace {

std::vector<std::string> LayersOf(const ContainerdClient& client) {
  const StatusOr<std::vector<snapshots::Info>> listed = ListSnapshots(client);
  REQUIRE(listed.ok());
  std::vector<std::string> layers;
  for (const snapshots::Info& info : *listed) layers.push_back(info.name());
  return layers;
}

void RemoveLayer(const ContainerdClient& client, const std::string& name) {
  auto context = client.NewContext();
  snapshots::RemoveSnapshotRequest request;
  request.set_snapshotter(kSnapshotter);
  request.set_key(name);
  google::protobuf::Empty response;
  REQUIRE(client.snapshots()->Remove(context.get(), request, &response).ok());
}

}  // namespace

// As after a prune, or a move of its name, just after a start looked it up.
TEST_CASE("an image without its layers counts as not here, and comes back when it is got again") {
  RuntimeFixture t;
  const ContainerdClient client(t.options_.Socket(), "ctr-" + t.options_.agent_id);
  for (const std::string& layer : LayersOf(client)) RemoveLayer(client, layer);
  Status failed = t.Run(t.runtime_->Create(t.Spec({"/bin/echo", "here"}))).status();
  CAPTURE(failed.ToString());
  CHECK(absl::IsNotFound(failed));
  CHECK(ErrorCodeOf(failed) == code::kUnknownImage);
  CHECK(absl::IsNotFound(t.Run(t.runtime_->CheckImage(kBusyboxImage))));

  UniqueFd archive(::open((t.folder_ + "/busybox.tar").c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(t.Run(t.runtime_->ImportImages(std::move(archive), "", nullptr)).ok());
  CHECK(t.Run(t.runtime_->CheckImage(kBusyboxImage)).ok());
  Container container = t.StartNew({"/bin/echo", "here"});
  CHECK(t.WaitExit(container.id).code == 0);
}

}  // namespace ctr
