#include "tests/integration/runtime/runtime_fixture.h"

#include <fcntl.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/base/ulid.h"
#include "agent/control/log_files.h"
#include "agent/runtime/containerd/cgroup.h"
#include "agent/runtime/containerd/client.h"
#include "agent/runtime/containerd/containerd_process.h"
#include "agent/runtime/containerd/purge.h"
#include "agent/runtime/sha256.h"
#include "tests/integration/runtime/runtime_image.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kTestTimeout(60);

awaitable<bool> TaskExists(std::shared_ptr<ContainerdClient> client, std::string id) {
  tasks::GetRequest request;
  request.set_container_id(id);
  co_return (co_await client->Call(&TasksApi::Get, std::move(request))).ok();
}

awaitable<bool> RecordExists(std::shared_ptr<ContainerdClient> client, std::string id) {
  containers::GetContainerRequest request;
  request.set_id(id);
  co_return (co_await client->Call(&ContainersApi::Get, std::move(request))).ok();
}

awaitable<bool> SnapshotExists(std::shared_ptr<ContainerdClient> client, std::string id) {
  snapshots::StatSnapshotRequest request;
  request.set_snapshotter(kSnapshotter);
  request.set_key(id);
  co_return (co_await client->Call(&SnapshotsApi::Stat, std::move(request))).ok();
}

}  // namespace

std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

RuntimeFixture::RuntimeFixture() {
  char folder[] = "/tmp/ctr-test-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  folder_ = folder;
  options_.agent_id = NewUlid(clock_.Wall());
  options_.data_dir = folder_ + "/data";
  options_.run_dir = folder_ + "/run";
  options_.logger_path = CTR_LOGGER;
  // Nothing of a failed set-up is left either: what throws here skips the destructor.
  try {
    Reopen();
    std::string archive = folder_ + "/busybox.tar";
    WriteBusyboxArchive(archive);
    auto references = Run(runtime_->ImportImages(
        UniqueFd(::open(archive.c_str(), O_RDONLY | O_CLOEXEC)), "", nullptr));
    REQUIRE_MESSAGE(references.ok(), references.status().ToString());
    REQUIRE(*references == std::vector<std::string>{kBusyboxImage});
  } catch (...) {
    Drain();
    Run(PurgeContainerd(options_, &clock_, io_.get_executor(), work_.get_executor())).IgnoreError();
    throw;
  }
}

RuntimeFixture::~RuntimeFixture() {
  Drain();
  Status purged = Run(PurgeContainerd(options_, &clock_, io_.get_executor(), work_.get_executor()));
  CHECK_MESSAGE(purged.ok(), purged.ToString());
  Drain();
  work_.join();
  Drain();  // what its threads have left here refers to it
  CHECK_FALSE(absl::StrContains(ReadWholeFile("/proc/self/mountinfo"), folder_));
  StatusOr<Cgroups> cgroups = Cgroups::Detect();
  CHECK_FALSE(cgroups->Exists("/ctr/" + options_.agent_id));
  CHECK(ContainerdPid() == 0);
  CHECK_FALSE(fs::exists(options_.Paths().data));
  CHECK_FALSE(fs::exists(options_.Paths().run));
  fs::remove_all(folder_);
}

// Ends the runtime and lets what it had in progress return.
void RuntimeFixture::Drain() {
  runtime_.reset();
  io_.restart();
  io_.run_for(kTestTimeout);
  io_.restart();
}

void RuntimeFixture::RunUntil(const std::function<bool()>& condition) {
  auto deadline = clock_.Now() + kTestTimeout;
  while (!condition()) {
    if (clock_.Now() > deadline) FAIL("not within a minute");
    if (io_.stopped()) io_.restart();
    asio::steady_timer tick(io_, milliseconds(5));
    tick.async_wait([](ErrorCode) {});
    io_.run_one();
  }
}

void RuntimeFixture::Reopen() {
  if (runtime_ != nullptr) Drain();
  auto opened =
      Run(ContainerdRuntime::Open(options_, &clock_, io_.get_executor(), work_.get_executor()));
  REQUIRE_MESSAGE(opened.ok(), opened.status().ToString());
  runtime_ = *std::move(opened);
}

ContainerSpec RuntimeFixture::Spec(std::vector<std::string> arguments) {
  ContainerSpec spec;
  spec.id = NewUlid(clock_.Wall());
  spec.name = {"web", "alice"};
  spec.generation = 7;
  spec.revision = "0123456789ab";
  spec.image = kBusyboxImage;
  spec.entrypoint = std::move(arguments);
  spec.env = {{"CTR_CLASS", "web"}, {"CTR_ID", "alice"}};
  spec.hostname = "alice";
  spec.log.folder = LogFolder(spec.id);
  fs::create_directories(spec.log.folder);
  return spec;
}

Container RuntimeFixture::Create(ContainerSpec spec) {
  StatusOr<Container> made = Run(runtime_->Create(std::move(spec)));
  REQUIRE_MESSAGE(made.ok(), made.status().ToString());
  return *std::move(made);
}

Container RuntimeFixture::StartNew(std::vector<std::string> arguments) {
  Container container = Create(Spec(std::move(arguments)));
  Status started = Run(runtime_->Start(container.id));
  REQUIRE_MESSAGE(started.ok(), started.ToString());
  return container;
}

ContainerExit RuntimeFixture::WaitExit(const std::string& id) {
  StatusOr<ContainerExit> exit = Run(runtime_->WaitExit(id));
  REQUIRE_MESSAGE(exit.ok(), exit.status().ToString());
  return *exit;
}

std::string RuntimeFixture::LogFolder(const std::string& id) const {
  return absl::StrCat(folder_, "/logs of 100% & more?/", id);
}

std::string RuntimeFixture::Output(const std::string& id) const {
  std::string output;
  LogCursor cursor(LogFolder(id), {}, std::nullopt, LogHold::kNone);
  for (;;) {
    StatusOr<LogBatch> batch = cursor.Read();
    REQUIRE_MESSAGE(batch.ok(), batch.status().ToString());
    for (const LogRecord& record : batch->records) {
      output += record.text + (record.partial ? "" : "\n");
    }
    if (batch->at_end) return output;
  }
}

void RuntimeFixture::AwaitOutput(const std::string& id, const std::string& text) {
  RunUntil([&] { return absl::StrContains(Output(id), text); });
}

std::vector<std::string> RuntimeFixture::PartsOf(const std::string& id) {
  auto client = std::make_shared<ContainerdClient>(options_.Socket(), "ctr-" + options_.agent_id);
  std::vector<std::string> parts;
  if (Run(TaskExists(client, id))) parts.emplace_back("task");
  if (Run(RecordExists(client, id))) parts.emplace_back("record");
  if (Run(SnapshotExists(client, id))) parts.emplace_back("snapshot");
  if (Cgroups::Detect()->Exists(absl::StrCat("/ctr/", options_.agent_id, "/", id))) {
    parts.emplace_back("cgroup");
  }
  if (absl::StrContains(ReadWholeFile("/proc/self/mountinfo"), id)) parts.emplace_back("mount");
  const std::string digest =
      Sha256Digest(absl::StrCat(options_.Socket(), "/ctr-", options_.agent_id, "/", id));
  if (fs::exists("/run/containerd/s/" + digest.substr(digest.find(':') + 1))) {
    parts.emplace_back("shim socket");
  }
  return parts;
}

int RuntimeFixture::ParentOf(int pid) {
  std::istringstream status(ReadWholeFile(absl::StrCat("/proc/", pid, "/status")));
  for (std::string line; std::getline(status, line);) {
    if (absl::StartsWith(line, "PPid:")) return std::stoi(line.substr(5));
  }
  return 0;
}

int RuntimeFixture::ContainerdPid() const {
  SystemClock clock;
  StatusOr<Pidfd> process = ContainerdProcess(&clock, options_.Paths()).Find();
  return process.ok() ? process->pid() : 0;
}

}  // namespace ctr
