#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <thread>

#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/runtime/containerd/image_archive.h"
#include "agent/runtime/containerd/image_content.h"
#include "agent/runtime/containerd/image_record.h"
#include "agent/runtime/containerd/image_store.h"
#include "agent/runtime/containerd/image_unpack.h"
#include "agent/runtime/image_config.h"
#include "agent/runtime/sha256.h"
#include "tests/integration/runtime/image_archives.h"
#include "tests/integration/runtime/runtime_fixture.h"
#include "tests/integration/runtime/runtime_image.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

// All that containerd keeps for us, one line each.
using Kept = std::set<std::string>;

class ImageFixture : public RuntimeFixture {
 public:
  ImageFixture()
      : client_(options_.Socket(), "ctr-" + options_.agent_id),
        store_(&client_, work_.get_executor(), "") {}

  // Written to a file first, as the agent does.
  StatusOr<Names> Import(const std::string& bytes, const std::string& name = "",
                         MakeImageRoom make_room = nullptr) {
    std::string path = folder_ + "/archive.tar";
    WriteWholeFile(path, bytes);
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return Run(store_.Import(std::move(file), name, std::move(make_room)));
  }

  // As one that pulls or imports the same once more.
  void SetNameAgain(const std::string& name) {
    images::GetImageRequest get;
    get.set_name(name);
    images::GetImageResponse found;
    auto get_context = client_.NewContext();
    REQUIRE(client_.images()->Get(get_context.get(), get, &found).ok());
    images::UpdateImageRequest update;
    *update.mutable_image() = found.image();
    update.mutable_update_mask()->add_paths("target");
    images::UpdateImageResponse updated;
    auto update_context = client_.NewContext();
    REQUIRE(client_.images()->Update(update_context.get(), update, &updated).ok());
  }

  ResolvedImage MustResolve(const std::string& name) {
    auto image = Run(store_.Resolve(name));
    REQUIRE_MESSAGE(image.ok(), image.status().ToString());
    return *std::move(image);
  }

  void CheckRefused(const std::string& bytes, const std::string& part) {
    CAPTURE(part);
    Kept before = List();
    auto imported = Import(bytes);
    REQUIRE(!imported.ok());
    CAPTURE(imported.status().ToString());
    CHECK(imported.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(absl::StrContains(imported.status().message(), part));
    CHECK(!absl::StrContains(imported.status().message(), "\n"));
    CHECK(List() == before);
  }

  Kept List() {
    Kept kept;
    auto contents_context = client_.NewContext();
    auto contents = client_.content()->List(contents_context.get(), {});
    content::ListContentResponse blobs;
    while (contents->Read(&blobs)) {
      for (const auto& info : blobs.info()) kept.insert("content " + info.digest());
    }
    CHECK(contents->Finish().ok());
    auto snapshots_context = client_.NewContext();
    snapshots::ListSnapshotsRequest request;
    request.set_snapshotter(kSnapshotter);
    auto list = client_.snapshots()->List(snapshots_context.get(), request);
    snapshots::ListSnapshotsResponse layers;
    while (list->Read(&layers)) {
      for (const auto& info : layers.info()) kept.insert("snapshot " + info.name());
    }
    CHECK(list->Finish().ok());
    auto ingests_context = client_.NewContext();
    content::ListStatusesResponse ingests;
    CHECK(client_.content()->ListStatuses(ingests_context.get(), {}, &ingests).ok());
    for (const auto& ingest : ingests.statuses()) kept.insert("ingest " + ingest.ref());
    for (const std::string& lease : Leases()) kept.insert("lease " + lease);
    std::erase_if(kept, IsCollection);
    for (const ImageSummary& image : Images()) kept.insert("image " + image.reference);
    return kept;
  }

  std::vector<ImageSummary> Images() {
    auto images = Run(store_.List());
    REQUIRE(images.ok());
    return *std::move(images);
  }

  // What comes and goes as containerd is told to collect.
  static bool IsCollection(const std::string& name) {
    return absl::StrContains(name, "ctr-collect-");
  }

  std::vector<std::string> Leases() {
    std::vector<std::string> ids;
    auto leases = Run(client_.Call(&LeasesApi::List, {}));
    REQUIRE(leases.ok());
    for (const auto& lease : leases->leases()) ids.push_back(lease.id());
    std::erase_if(ids, IsCollection);
    return ids;
  }

  ContainerdClient client_;
  ImageStore store_;
};

const std::string kLayer1 = MakeLayer("one", "1");
const std::string kLayer2 = MakeLayer("two", "2");

// An archive of one file of zeros, packed; no more than a file of as many thousandths.
std::string PackedHole(int64_t gigabytes) {
  constexpr size_t kPiece = 64 << 20;
  std::string head = MakeTar({{"hole", std::string(1, '\0')}}).substr(0, 512);
  // The size in binary, as GNU tar writes one of more than 8 GiB; then the sum of the head's bytes.
  head.replace(124, 12, std::string(12, '\0'));
  head[124] = static_cast<char>(0x80);
  const uint64_t size = static_cast<uint64_t>(gigabytes) << 30;
  for (int i = 0; i < 8; ++i) head[128 + i] = static_cast<char>(size >> (56 - 8 * i));
  head.replace(148, 8, "        ");
  unsigned sum = 0;
  for (unsigned char c : head) sum += c;
  head.replace(148, 8, absl::StrFormat("%06o%c ", sum, '\0'));
  std::string packed = Gzip(head);
  const std::string zeros = Gzip(std::string(kPiece, '\0'));
  for (uint64_t at = 0; at < size; at += kPiece) packed += zeros;
  return packed + Gzip(std::string(1024, '\0'));
}

}  // namespace

TEST_CASE_FIXTURE(ImageFixture, "an OCI archive is imported, plain and gzipped, and listed") {
  Kept before = List();
  OciLayout layout({kLayer1, kLayer2}, "demo:1");
  REQUIRE(Import(layout.Archive()).value() == Names{"docker.io/library/demo:1"});
  ResolvedImage image = MustResolve("docker.io/library/demo:1");
  CHECK(image.digest == layout.manifest_digest);
  CHECK(image.chain_id == ChainIds({Sha256Digest(kLayer1), Sha256Digest(kLayer2)}).back());
  CHECK(image.config.cmd == std::vector<std::string>{"/bin/true"});
  CHECK(Leases().empty());

  int64_t size = 0;
  for (const auto& [digest, bytes] : layout.blobs) size += static_cast<int64_t>(bytes.size());
  bool listed = false;
  for (const ImageSummary& summary : Images()) {
    if (summary.reference != image.reference) continue;
    listed = true;
    CHECK(summary.digest == image.digest);
    CHECK(summary.size_bytes == size);
    CHECK(clock_.Wall() - summary.created_at < std::chrono::minutes(2));
  }
  CHECK(listed);

  // What is there already is used, and another name points to it.
  REQUIRE(Import(Gzip(layout.Archive()), "localhost:5000/other:2").value() ==
          Names{"localhost:5000/other:2"});
  CHECK(MustResolve("localhost:5000/other:2").chain_id == image.chain_id);

  // Its last name takes everything with it.
  CHECK(Run(store_.Remove("docker.io/library/demo:1")).ok());
  CHECK(MustResolve("localhost:5000/other:2").digest == image.digest);
  CHECK(Run(store_.Remove("localhost:5000/other:2")).ok());
  CHECK(List() == before);
  Status again = Run(store_.Remove("localhost:5000/other:2"));
  CHECK(absl::IsNotFound(again));
  CHECK(ErrorCodeOf(again) == code::kUnknownImage);
  auto gone = Run(store_.Resolve("localhost:5000/other:2"));
  CHECK(absl::IsNotFound(gone.status()));
  CHECK(absl::StrContains(gone.status().message(), "ctr image import"));
}

TEST_CASE_FIXTURE(ImageFixture, "skopeo's Docker archive of an OCI image is the same image") {
  OciLayout layout({kLayer1, kLayer2}, "demo:1");
  std::string oci = folder_ + "/oci.tar";
  std::string docker = folder_ + "/docker.tar";
  WriteWholeFile(oci, layout.Archive());
  std::string command = absl::StrCat("skopeo copy -q oci-archive:", oci, " docker-archive:", docker,
                                     ":registry.example/team/demo:9");
  REQUIRE(::system(command.c_str()) == 0);
  REQUIRE(Import(ReadWholeFile(docker)).value() == Names{"registry.example/team/demo:9"});
  ResolvedImage image = MustResolve("registry.example/team/demo:9");
  CHECK(image.chain_id == ChainIds({Sha256Digest(kLayer1), Sha256Digest(kLayer2)}).back());
  CHECK(image.config.cmd == std::vector<std::string>{"/bin/true"});
}

TEST_CASE_FIXTURE(ImageFixture, "a Docker archive's layers may be gzipped, and the archive, too") {
  std::string config = MakeConfig({kLayer1, kLayer2});
  std::string archive = MakeDockerArchive({Gzip(kLayer1), kLayer2}, config, "demo:1");
  REQUIRE(Import(Gzip(archive)).value() == Names{"docker.io/library/demo:1"});
  CHECK(MustResolve("docker.io/library/demo:1").chain_id ==
        ChainIds({Sha256Digest(kLayer1), Sha256Digest(kLayer2)}).back());
}

TEST_CASE_FIXTURE(ImageFixture, "a name moves to a newer image, and the older one is collected") {
  OciLayout older({kLayer1}, "demo:1");
  OciLayout newer({kLayer2}, "demo:1");
  REQUIRE(Import(newer.Archive()).ok());
  Kept with_newer = List();
  REQUIRE(Import(older.Archive()).ok());
  CHECK(MustResolve("docker.io/library/demo:1").digest == older.manifest_digest);
  REQUIRE(Import(newer.Archive()).ok());
  CHECK(MustResolve("docker.io/library/demo:1").digest == newer.manifest_digest);
  CHECK(List() == with_newer);
}

TEST_CASE_FIXTURE(ImageFixture, "a prune leaves what comes to be used, or anew, while it goes on") {
  std::set<std::string> used;
  for (const ImageSummary& image : Images()) used.insert(image.reference);
  for (const char* name : {"old:1", "wanted:1", "again:1"}) {
    REQUIRE(Import(OciLayout({MakeLayer("file", name)}, name).Archive()).ok());
  }
  int asked = 0;
  auto pruned = Run(store_.Prune({.used = [&] {
    ++asked;
    if (asked == 1) SetNameAgain("docker.io/library/again:1");
    if (asked == 3) used.insert("docker.io/library/wanted:1");
    return used;
  }}));
  REQUIRE_MESSAGE(pruned.ok(), pruned.status().ToString());
  CHECK(pruned->references == Names{"docker.io/library/old:1"});
  MustResolve("docker.io/library/wanted:1");
  MustResolve("docker.io/library/again:1");
}

TEST_CASE_FIXTURE(ImageFixture, "an import that finds no room takes no name, and leaves nothing") {
  OciLayout older({kLayer1}, "demo:1");
  REQUIRE(Import(older.Archive()).ok());
  const Kept before = List();
  bool asked = false;
  auto imported =
      Import(OciLayout({kLayer2}, "demo:1").Archive(), "", [&](int64_t) -> awaitable<Status> {
        asked = true;
        co_return absl::ResourceExhaustedError("no room");
      });
  CHECK(absl::IsResourceExhausted(imported.status()));
  CHECK(asked);
  CHECK(List() == before);
  CHECK(MustResolve("docker.io/library/demo:1").digest == older.manifest_digest);
}

TEST_CASE_FIXTURE(ImageFixture, "a damaged layer is refused, and nothing of the image is kept") {
  OciLayout changed({kLayer1, kLayer2}, "demo:1");
  changed.blobs[changed.layer_digests[1]].back() ^= 1;
  CheckRefused(changed.Archive(), "is damaged");

  // The layers are what the manifest says, and unpacked not what the config says.
  std::string config = MakeConfig({kLayer1, kLayer2});
  CheckRefused(MakeDockerArchive({kLayer1, MakeLayer("two", "3")}, config, "demo:1"),
               "the image's config says");

  // Also where the layer that it should be is unpacked already.
  REQUIRE(Import(MakeDockerArchive({kLayer1, kLayer2}, config, "good:1")).ok());
  CheckRefused(MakeDockerArchive({kLayer1, MakeLayer("two", "3")}, config, "demo:1"),
               "make the archive again");

  // A layer that is no tar.
  OciLayout no_tar({kLayer1, "no tar"}, "demo:1");
  Kept before = List();
  CHECK(!Import(no_tar.Archive()).ok());
  CHECK(List() == before);
}

TEST_CASE_FIXTURE(ImageFixture, "what is cut short, or no image, is refused in one line") {
  OciLayout layout({kLayer1, MakeLayer("random", std::string(3 << 20, 'x'))}, "demo:1");
  layout.blobs[Sha256Digest("large")] = std::string(3 << 20, 'y');
  std::string whole = layout.Archive();
  for (size_t size : {whole.size() / 10, whole.size() / 2, whole.size() - 1500}) {
    CAPTURE(size);
    auto cut = Import(whole.substr(0, size));
    CHECK(cut.status().code() == absl::StatusCode::kInvalidArgument);
  }
  CheckRefused(whole.substr(0, whole.size() / 2), "cut short");
  std::string packed = Gzip(whole);
  CheckRefused(packed.substr(0, packed.size() / 2), "cut short");
  CheckRefused("", "empty");
  CheckRefused("hello", "not a tar");
  CheckRefused(std::string(100000, 'x'), "not a tar");
  CheckRefused(Gzip("hello"), "not a tar");
  CheckRefused("\x28\xb5\x2f\xfdpacked", "packed with zstd: unpack it first (zstd -d)");
  CheckRefused(absl::StrCat("\xfd\x37zXZ", "packed"), "packed with xz: unpack it first (xz -d)");
  CheckRefused("BZh91AYpacked", "packed with bzip2");
  CheckRefused(MakeTar({{"README", "hello"}}), "neither index.json");
  CheckRefused(OciLayout({kLayer1}, "").Archive(), "no name");
  UniqueFd folder(::open(folder_.c_str(), O_RDONLY | O_CLOEXEC));
  auto not_regular = Run(store_.Import(std::move(folder), "", nullptr));
  CHECK(not_regular.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(!Import(layout.Archive(), "Bad Name").ok());
}

TEST_CASE_FIXTURE(ImageFixture, "a hostile archive is refused") {
  // More text than documents may have.
  std::vector<TarEntry> many = {{"index.json", R"({"manifests":[]})"}};
  for (int i = 0; i < 17; ++i) {
    many.push_back({absl::StrCat("blobs/", i), "{" + std::string((4 << 20) - 1, ' ')});
  }
  CheckRefused(MakeTar(many), "64 MiB");
  // Links in a circle, and out of the archive.
  CheckRefused(MakeTar({{"index.json", "", "manifest.json"}, {"manifest.json", "", "index.json"}}),
               "neither index.json");
  CheckRefused(MakeTar({{"index.json", "", "/etc/passwd"}}), "neither index.json");
  CheckRefused(MakeTar({{"index.json", "", "../../../etc/passwd"}}), "neither index.json");
  // Names without end.
  CheckRefused(MakeTar({{std::string(2000, 'n'), ""}}), "16 MiB of them");
  std::vector<TarEntry> named;
  for (int i = 0; i < 20000; ++i) named.push_back({absl::StrCat(i, std::string(900, 'n')), ""});
  CheckRefused(MakeTar(named), "16 MiB of them");
  // Deep nesting.
  CheckRefused(MakeTar({{"index.json", std::string(1 << 20, '[')}}), "nested");
}

TEST_CASE_FIXTURE(ImageFixture, "an import that is given up leaves nothing") {
  Kept before = List();
  OciLayout layout({kLayer1, MakeLayer("large", std::string(64 << 20, 'x'))}, "demo:1");
  std::string path = folder_ + "/archive.tar";
  WriteWholeFile(path, layout.Archive());
  asio::cancellation_signal cancel;
  std::optional<StatusOr<Names>> imported;
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  asio::co_spawn(
      io_, store_.Import(std::move(file), "", nullptr),
      asio::bind_cancellation_slot(cancel.slot(), [&](std::exception_ptr, StatusOr<Names> names) {
        imported = std::move(names);
      }));
  RunUntil([&] { return !Leases().empty(); });
  cancel.emit(asio::cancellation_type::all);
  RunUntil([&] { return imported.has_value(); });
  CHECK(absl::IsCancelled(imported->status()));
  // It takes back what it did when it notices; what only the lease held goes after the lease.
  RunUntil([&] { return List() == before; });
}

TEST_CASE("an archive that is given up is not read to its end, also within one file") {
  const std::string path = "/tmp/ctr-test-hole.tar.gz";
  WriteWholeFile(path, PackedHole(32));
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  UniqueFd same(::dup(file.get()));  // which has the same offset
  fs::remove(path);
  auto abandoned = std::make_shared<std::atomic<bool>>(false);
  StatusOr<ImageArchive> archive = ImageArchive::Open(std::move(file), abandoned);
  REQUIRE(archive.ok());
  std::thread giving_up([&] {
    while (::lseek(same.get(), 0, SEEK_CUR) < 1 << 20) std::this_thread::yield();
    abandoned->store(true);
  });
  CHECK(absl::IsCancelled(archive->Scan().status()));
  giving_up.join();
}

TEST_CASE("an archive that is too large once it is unpacked is refused") {
  const std::string path = "/tmp/ctr-test-hole.tar.gz";
  WriteWholeFile(path, PackedHole(1));
  auto nobody = std::make_shared<std::atomic<bool>>(false);
  for (int64_t most : {int64_t{1} << 29, int64_t{1} << 31}) {
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    StatusOr<ImageArchive> archive = ImageArchive::Open(std::move(file), nobody, most);
    REQUIRE(archive.ok());
    StatusOr<ArchiveContents> contents = archive->Scan();
    CHECK_MESSAGE(contents.ok() == (most > int64_t{1} << 30), contents.status().ToString());
  }
  fs::remove(path);
}

TEST_CASE_FIXTURE(ImageFixture, "an image that is given up is not unpacked") {
  auto client =
      std::make_shared<const ContainerdClient>(client_.socket(), client_.containerd_namespace());
  ImagePlan image;
  image.parsed_config.diff_ids = {Sha256Digest(kLayer1)};
  image.layers.resize(1);
  const Kept before = List();
  StatusOr<std::string> lease = Run(CreateLease(client, "import"));
  REQUIRE(lease.ok());
  auto abandoned = std::make_shared<std::atomic<bool>>(true);
  CHECK(absl::IsCancelled(Run(UnpackImage(client, *lease, image, "", abandoned)).status()));
  CHECK(Run(DeleteLease(client, *lease)).ok());
  CHECK(List() == before);
}

TEST_CASE_FIXTURE(ImageFixture, "a layer that is given up while it is unpacked is not made") {
  auto client =
      std::make_shared<const ContainerdClient>(client_.socket(), client_.containerd_namespace());
  const std::string layer = PackedHole(1);
  const std::string digest = Sha256Digest(layer);
  ImagePlan image;
  image.parsed_config.diff_ids = {Sha256Digest("known only once it is unpacked")};
  image.layers.push_back({.file = "",
                          .digest = digest,
                          .media_type = "application/vnd.oci.image.layer.v1.tar+gzip",
                          .size = static_cast<int64_t>(layer.size()),
                          .diff_id = image.parsed_config.diff_ids[0]});
  const Kept before = List();
  StatusOr<std::string> lease = Run(CreateLease(client, "import"));
  REQUIRE(lease.ok());
  REQUIRE(WriteDocument(*client, *lease, layer, {}).ok());
  auto abandoned = std::make_shared<std::atomic<bool>>(false);
  std::optional<StatusOr<std::string>> unpacked;
  asio::co_spawn(
      io_, UnpackImage(client, *lease, image, "", abandoned),
      [&](std::exception_ptr, StatusOr<std::string> result) { unpacked = std::move(result); });
  RunUntil([&] {
    return List().contains(absl::StrCat("snapshot ", *lease, " ", image.parsed_config.diff_ids[0]));
  });
  abandoned->store(true);
  RunUntil([&] { return unpacked.has_value(); });
  CHECK(absl::IsCancelled(unpacked->status()));
  CHECK(Run(DeleteLease(client, *lease)).ok());
  CHECK(List() == before);
}

TEST_CASE_FIXTURE(ImageFixture, "of a blob that is given up no folder stays in containerd") {
  const fs::path ingest =
      fs::path(options_.Paths().root) / "io.containerd.content.v1.content" / "ingest";
  auto client =
      std::make_shared<const ContainerdClient>(client_.socket(), client_.containerd_namespace());
  StatusOr<std::string> lease = Run(CreateLease(client, "import"));
  REQUIRE(lease.ok());
  const std::string piece(1 << 20, 'x');
  for (int i = 0; i < 40; ++i) {
    {
      auto writer = BlobWriter::Begin(
          client_,
          {.lease = *lease, .digest = Sha256Digest(std::to_string(i)), .size = int64_t{4} << 20});
      REQUIRE(writer.ok());
      REQUIRE((*writer)->Append(piece).ok());
      CHECK(!fs::is_empty(ingest));
    }
    CHECK(fs::is_empty(ingest));
  }
}

TEST_CASE_FIXTURE(ImageFixture, "what an agent left that was killed during an import is let go") {
  leases::CreateRequest lease;
  lease.set_id("ctr-import-01jd000000000000000000");
  REQUIRE(Run(client_.Call(&LeasesApi::Create, lease)).ok());
  lease.set_id("somebody-else");
  REQUIRE(Run(client_.Call(&LeasesApi::Create, lease)).ok());
  Reopen();
  CHECK(Leases() == std::vector<std::string>{"somebody-else"});
}

TEST_CASE_FIXTURE(ImageFixture, "one archive imported twice at once is one image") {
  OciLayout layout({kLayer1, kLayer2}, "demo:1");
  std::string path = folder_ + "/archive.tar";
  WriteWholeFile(path, layout.Archive());
  std::vector<StatusOr<Names>> results;
  for (int i = 0; i < 4; ++i) {
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    asio::co_spawn(
        io_, store_.Import(std::move(file), "", nullptr),
        [&](std::exception_ptr, StatusOr<Names> names) { results.push_back(std::move(names)); });
  }
  RunUntil([&] { return results.size() == 4; });
  for (const auto& result : results) CHECK_MESSAGE(result.ok(), result.status().ToString());
  CHECK(MustResolve("docker.io/library/demo:1").digest == layout.manifest_digest);
  CHECK(Leases().empty());
}

}  // namespace ctr
