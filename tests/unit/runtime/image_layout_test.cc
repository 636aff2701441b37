#include "agent/runtime/image_layout.h"

#include <set>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "agent/runtime/sha256.h"

using nlohmann::json;

namespace ctr {
namespace {

const Platform kAmd64{"amd64", "", "SCMP_ARCH_X86_64"};
const std::string kDiffId = Sha256Digest("a layer, unpacked");
const std::string kName = "docker.io/library/demo:latest";

constexpr char kIndexType[] = "application/vnd.oci.image.index.v1+json";
constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kConfigType[] = "application/vnd.oci.image.config.v1+json";
constexpr char kLayerType[] = "application/vnd.oci.image.layer.v1.tar+gzip";

json Config(const std::string& architecture) {
  return {{"architecture", architecture},
          {"os", "linux"},
          {"config", {{"Cmd", json::array({"/bin/server"})}}},
          {"rootfs", {{"type", "layers"}, {"diff_ids", json::array({kDiffId})}}}};
}

// An OCI layout as a first reading of an archive would find it.
class Layout {
 public:
  json AddBlob(const std::string& type, const std::string& bytes) {
    std::string digest = Sha256Digest(bytes);
    std::string file = "blobs/sha256/" + digest.substr(7);
    contents.files[file] = static_cast<int64_t>(bytes.size());
    if (bytes.front() == '{') contents.documents[file] = bytes;
    return {{"mediaType", type}, {"digest", digest}, {"size", bytes.size()}};
  }

  json AddImage(const std::string& architecture, const std::string& layer = "a layer, packed",
                const std::string& own_type = "") {
    json manifest = {{"schemaVersion", 2},
                     {"mediaType", own_type},
                     {"config", AddBlob(kConfigType, Config(architecture).dump())},
                     {"layers", json::array({AddBlob(kLayerType, layer)})}};
    return AddBlob(kManifestType, manifest.dump());
  }

  json AddIndex(std::vector<json> manifests) {
    return AddBlob(kIndexType, json{{"manifests", json(std::move(manifests))}}.dump());
  }

  void SetIndex(std::vector<json> manifests) {
    SetDocument("index.json", {{"schemaVersion", 2}, {"manifests", json(std::move(manifests))}});
  }

  void SetDocument(const std::string& file, const json& document) {
    contents.documents[file] = document.dump();
    contents.files[file] = static_cast<int64_t>(contents.documents[file].size());
  }

  ArchiveContents contents;
};

json Named(json descriptor, const std::string& name,
           const std::string& key = "org.opencontainers.image.ref.name") {
  descriptor["annotations"][key] = name;
  return descriptor;
}

json For(json descriptor, const std::string& architecture) {
  descriptor["platform"] = {{"os", "linux"}, {"architecture", architecture}};
  return descriptor;
}

std::vector<ImagePlan> Plan(const Layout& layout, const std::string& name = "") {
  auto images = PlanImport(layout.contents, name, kAmd64);
  REQUIRE_MESSAGE(images.ok(), images.status().ToString());
  return *std::move(images);
}

void CheckRefused(const Layout& layout, const std::string& part, const std::string& name = "") {
  auto images = PlanImport(layout.contents, name, kAmd64);
  CAPTURE(part);
  REQUIRE(!images.ok());
  CAPTURE(images.status().ToString());
  CHECK(images.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(images.status().message().find(part) != std::string::npos);
  CHECK(images.status().message().find('\n') == std::string::npos);
}

Layout DockerArchive() {
  Layout layout;
  layout.SetDocument("c.json", Config("amd64"));
  layout.contents.files["l/layer.tar"] = 7;
  layout.SetDocument("manifest.json", json::array({{{"Config", "c.json"},
                                                    {"RepoTags", {"demo:latest", "a/b:2"}},
                                                    {"Layers", json::array({"l/layer.tar"})}}}));
  return layout;
}

}  // namespace

TEST_CASE("an OCI layout is planned by its index, manifest and config") {
  Layout layout;
  layout.SetIndex({Named(layout.AddImage("amd64"), "demo:latest")});
  auto images = Plan(layout);
  REQUIRE(images.size() == 1);
  CHECK(images[0].names == std::vector<std::string>{kName});
  CHECK(images[0].manifest_media_type == kManifestType);
  CHECK(images[0].parsed_config.config.cmd == std::vector<std::string>{"/bin/server"});
  REQUIRE(images[0].layers.size() == 1);
  CHECK(images[0].layers[0].digest == Sha256Digest("a layer, packed"));
  CHECK(images[0].layers[0].diff_id == kDiffId);
  CHECK(images[0].layers[0].media_type == kLayerType);
}

TEST_CASE("a manifest that calls itself by no name of one counts as OCI's") {
  const std::string docker = "application/vnd.docker.distribution.manifest.v2+json";
  const std::string long_type = "application/" + std::string(3 << 20, 'x') + "+json";
  for (const std::string& said : {docker, long_type}) {
    Layout layout;
    json image = layout.AddImage("amd64");
    image["mediaType"] = said;
    layout.SetIndex({Named(image, "demo:latest")});
    CHECK(Plan(layout)[0].manifest_media_type == (said == docker ? docker : kManifestType));

    image = layout.AddImage("amd64", "another layer, packed", said);
    layout.SetIndex({Named(image, "demo:latest")});
    CHECK(Plan(layout)[0].manifest_media_type == (said == docker ? docker : kManifestType));
  }
}

TEST_CASE("names come from containerd's annotation, then OCI's, but a tag alone is no name") {
  Layout layout;
  json image = layout.AddImage("amd64");
  json docker_save =
      Named(Named(image, "2.0"), "registry.example/x:2.0", "io.containerd.image.name");
  layout.SetIndex({docker_save, Named(image, "demo:latest"), Named(image, "demo:latest")});
  auto images = Plan(layout);
  REQUIRE(images.size() == 1);
  CHECK(images[0].names == std::vector<std::string>{"registry.example/x:2.0", kName});

  layout.SetIndex({Named(image, "latest")});
  CheckRefused(layout, "named by a tag alone (latest)");
  CHECK(Plan(layout, "docker.io/library/mine:1")[0].names ==
        std::vector<std::string>{"docker.io/library/mine:1"});
  layout.SetIndex({Named(image, "UPPER:x")});
  CheckRefused(layout, "lower case");
}

TEST_CASE("of several platforms, also in nested indexes, the host's is taken") {
  Layout layout;
  json arm = layout.AddImage("arm64");
  json ours = layout.AddImage("amd64");
  json attestation = ours;
  attestation["annotations"]["vnd.docker.reference.type"] = "attestation-manifest";
  attestation["digest"] = Sha256Digest("not there");
  attestation["platform"] = {{"os", "unknown"}, {"architecture", "unknown"}};
  json inner = layout.AddIndex({attestation, For(arm, "arm64"), For(ours, "amd64")});
  layout.SetIndex({Named(layout.AddIndex({inner}), "demo")});
  CheckRefused(layout, "a tag alone (demo)");
  layout.SetIndex({Named(layout.AddIndex({inner}), "demo:latest")});
  CHECK(Plan(layout)[0].manifest ==
        layout.contents.documents.at("blobs/sha256/" + std::string(ours["digest"]).substr(7)));
  // The same without a word about the platform but in the configs.
  layout.SetIndex({Named(layout.AddIndex({arm, ours}), "demo:latest")});
  CHECK(Plan(layout).size() == 1);
  layout.SetIndex({Named(arm, "demo:latest")});
  CheckRefused(layout, "linux/arm64");
  layout.SetIndex({Named(For(arm, "arm64"), "demo:latest")});
  CheckRefused(layout, "linux/arm64");
}

TEST_CASE("of an index that docker saved whole, only the images that it has count") {
  Layout layout;
  json ours = layout.AddImage("amd64", "our layer");
  json arm = layout.AddImage("arm64");
  Layout without = layout;
  without.contents.files.erase("blobs/sha256/" + std::string(ours["digest"]).substr(7));
  Layout only_ours = layout;
  only_ours.contents.files.erase("blobs/sha256/" + std::string(arm["digest"]).substr(7));
  json s390x = For(arm, "s390x");
  s390x["digest"] = Sha256Digest("not there");
  for (Layout* saved : {&without, &only_ours}) {
    json inner = saved->AddIndex({s390x, For(arm, "arm64"), For(ours, "amd64")});
    saved->SetIndex({Named(inner, "demo:latest")});
  }
  CheckRefused(without, "only for linux/arm64; docker save --platform linux/amd64");
  CHECK(Plan(only_ours).size() == 1);
  // Where nothing says what is for whom.
  only_ours.SetIndex({Named(only_ours.AddIndex({arm, ours}), "demo:latest")});
  CHECK(Plan(only_ours).size() == 1);
  without.SetIndex({Named(without.AddIndex({ours}), "demo:latest")});
  CheckRefused(without, "docker save --platform linux/amd64");
}

TEST_CASE("of several variants the one is taken that a pull would take") {
  const Platform arm7{"arm", "v7", ""};
  Layout layout;
  const auto variant = [&](const std::string& name) {
    json entry = For(layout.AddImage("arm", "layer of " + name), "arm");
    entry["platform"]["variant"] = name;
    return entry;
  };
  const auto planned = [&](const Platform& platform) {
    auto images = PlanImport(layout.contents, "", platform);
    REQUIRE_MESSAGE(images.ok(), images.status().ToString());
    REQUIRE(images->size() == 1);
    return images->front().layers[0].digest;
  };
  const std::vector<json> all = {variant("v5"), variant("v6"), variant("v7")};
  layout.SetIndex({Named(layout.AddIndex(all), "demo:latest")});
  CHECK(planned(arm7) == Sha256Digest("layer of v7"));
  CHECK(planned({"arm", "v6", ""}) == Sha256Digest("layer of v6"));
  // By one name side by side, too.
  layout.SetIndex({Named(all[0], "demo:1"), Named(all[2], "demo:1"), Named(all[1], "demo:1")});
  CHECK(planned(arm7) == Sha256Digest("layer of v7"));

  json fast = For(layout.AddImage("amd64"), "amd64");
  fast["platform"]["variant"] = "v3";
  layout.SetIndex({Named(layout.AddIndex({fast}), "demo:latest")});
  CheckRefused(layout, "linux/amd64/v3");
}

TEST_CASE("images of other platforms in a Docker archive are passed over") {
  Layout layout = DockerArchive();
  layout.SetDocument("arm.json", Config("arm64"));
  json list = json::parse(layout.contents.documents["manifest.json"]);
  json arm = list[0];
  arm["Config"] = "arm.json";
  arm["RepoTags"] = {"arm:1"};
  layout.SetDocument("manifest.json", json::array({arm, list[0]}));
  auto images = Plan(layout);
  REQUIRE(images.size() == 1);
  CHECK(images[0].names.front() == kName);
  layout.SetDocument("manifest.json", json::array({arm}));
  CheckRefused(layout, "only for linux/arm64");
}

TEST_CASE("what the plans of an archive take is bounded, however often it names the same") {
  // A config of a megabyte, for as many images as fit into a list of a few kilobytes.
  Layout large = DockerArchive();
  json config = Config("amd64");
  config["comment"] = std::string(1 << 20, 'x');
  large.SetDocument("c.json", config);
  const json entry = json::parse(large.contents.documents["manifest.json"])[0];
  large.SetDocument("manifest.json", json(std::vector<json>(60, entry)));
  CHECK(Plan(large).size() == 60);
  large.SetDocument("manifest.json", json(std::vector<json>(100, entry)));
  CheckRefused(large, "64 MiB of configs");

  Layout many = DockerArchive();
  many.SetDocument("manifest.json", json(std::vector<json>(257, entry)));
  CheckRefused(many, "more than 256 images");

  Layout names = DockerArchive();
  json tagged = entry;
  tagged["RepoTags"] = json::array();
  for (int i = 0; i < 300; ++i) tagged["RepoTags"].push_back(absl::StrCat("demo:", i));
  names.SetDocument("manifest.json", json::array({tagged}));
  CheckRefused(names, "more than 256 names");

  Layout links = DockerArchive();
  links.contents.links["l"] = std::string(200'000, 'n');
  links.contents.files[links.contents.links["l"]] = 7;
  json linked = entry;
  linked["Layers"] = json::array({"l"});
  links.SetDocument("manifest.json", json(std::vector<json>(100, linked)));
  CheckRefused(links, "16 MiB of names");

  // In an OCI layout: manifests that differ by a space, all with one config.
  Layout oci;
  json shared = oci.AddBlob(kConfigType, config.dump());
  json layer = oci.AddBlob(kLayerType, "a layer, packed");
  std::vector<json> entries;
  for (int i = 0; i < 100; ++i) {
    json manifest = {{"config", shared}, {"layers", json::array({layer})}};
    entries.push_back(Named(oci.AddBlob(kManifestType, manifest.dump() + std::string(i, ' ')),
                            absl::StrCat("demo:", i)));
  }
  oci.SetIndex(entries);
  CheckRefused(oci, "64 MiB of configs");
}

TEST_CASE("somebody else's words reach neither a terminal nor a log as they are") {
  Layout layout = DockerArchive();
  layout.SetDocument("c.json", Config("\x1b[31mred"));
  auto refused = PlanImport(layout.contents, "", kAmd64).status();
  CHECK(refused.message().find('\x1b') == std::string::npos);
  layout = DockerArchive();
  json list = json::parse(layout.contents.documents["manifest.json"]);
  list[0]["Layers"] = json::array({"\x1b]0;title"});
  layout.SetDocument("manifest.json", list);
  refused = PlanImport(layout.contents, "", kAmd64).status();
  CHECK(refused.message().find("layer ?]0;title is missing") != std::string::npos);
}

TEST_CASE("a name can be given to one image only") {
  Layout layout;
  json first = layout.AddImage("amd64", "layer 1");
  json second = layout.AddImage("amd64", "layer 2");
  layout.SetIndex({Named(first, "a:1"), Named(second, "b:1")});
  CHECK(Plan(layout).size() == 2);
  CheckRefused(layout, "2 images", kName);
}

TEST_CASE("a name without a tag is given to all images that have only tags") {
  Layout layout;
  json first = layout.AddImage("amd64", "layer 1");
  json second = layout.AddImage("amd64", "layer 2");
  layout.SetIndex({Named(first, "v1"), Named(second, "v2")});
  const std::string repository = "docker.io/library/u";
  const auto names = [&](const std::string& name) {
    std::set<std::string> all;
    for (const ImagePlan& image : Plan(layout, name)) {
      all.insert(image.names.begin(), image.names.end());
    }
    return all;
  };
  const std::set<std::string> both = {repository + ":v1", repository + ":v2"};
  CHECK(names(repository) == both);
  // What is refused says what would do.
  CheckRefused(layout, "named by tags alone (v1, v2): say of what, such as --name demo");
  CheckRefused(layout, "give a name without a tag, and each keeps its own (v1, v2)",
               repository + ":1");
  // Also where two of them are one image.
  layout.SetIndex({Named(first, "v1"), Named(first, "v2")});
  CHECK(names(repository) == both);
  CHECK(names(repository + ":1") == std::set<std::string>{repository + ":1"});
  // One image is what the name says.
  layout.SetIndex({Named(first, "v1")});
  CHECK(names(repository) == std::set<std::string>{repository + ":latest"});
  layout.SetIndex({Named(first, "a:1")});
  CHECK(names(repository) == std::set<std::string>{repository + ":latest"});

  layout.SetIndex({Named(first, "v1"), Named(second, "not a tag")});
  CheckRefused(layout, "a tag has", repository);
  layout.SetIndex({Named(first, "v1"), Named(second, "b:1")});
  CheckRefused(layout, "2 images", repository);
}

TEST_CASE("an image without a name is passed over beside one that has one") {
  Layout layout;
  json first = layout.AddImage("amd64", "layer 1");
  json second = layout.AddImage("amd64", "layer 2");
  layout.SetIndex({first, Named(second, "a:1")});
  for (const std::string& name : {std::string(), kName}) {
    auto images = Plan(layout, name);
    REQUIRE(images.size() == 1);
    CHECK(images[0].layers[0].digest == Sha256Digest("layer 2"));
  }
  layout.SetIndex({first, second});
  CheckRefused(layout, "no names: make an archive of each");
  CheckRefused(layout, "make an archive of each", kName);
  layout.SetIndex({first});
  CheckRefused(layout, "no name: say how to call it, such as --name demo:latest");
}

TEST_CASE("an archive whose own name is bad is imported under another") {
  const std::vector<std::string> bad = {"MyApp:1", "a:b:c", "<none>:<none>"};
  for (const std::string& name : bad) {
    CAPTURE(name);
    Layout oci;
    oci.SetIndex({Named(oci.AddImage("amd64"), name)});
    Layout docker = DockerArchive();
    json list = json::parse(docker.contents.documents["manifest.json"]);
    list[0]["RepoTags"] = {name, "good:1"};
    docker.SetDocument("manifest.json", list);
    for (const Layout& layout : {oci, docker}) {
      CHECK(Plan(layout, kName)[0].names == std::vector<std::string>{kName});
      CheckRefused(layout, "\"" + name + "\" is not an image reference");
      CheckRefused(layout, "call it otherwise: --name demo:latest");
    }
  }
  // A name can be given to one image only: nothing is advised that would be refused.
  Layout two;
  two.SetIndex({Named(two.AddImage("amd64", "layer 1"), "Bad:1"),
                Named(two.AddImage("amd64", "layer 2"), "b:1")});
  CheckRefused(two, "name it otherwise before it is saved");
}

TEST_CASE("a layout whose documents don't hold together is refused") {
  Layout layout;
  json image = layout.AddImage("amd64");
  std::string file = "blobs/sha256/" + std::string(image["digest"]).substr(7);

  json wrong_size = image;
  wrong_size["size"] = 1;
  layout.SetIndex({wrong_size});
  CheckRefused(layout, "damaged");

  layout.SetIndex({image});
  Layout changed = layout;
  changed.contents.documents[file][5] ^= 1;
  CheckRefused(changed, "damaged");

  Layout missing = layout;
  missing.contents.files.erase(file);
  CheckRefused(missing, "missing");

  Layout too_large = layout;
  too_large.contents.documents.erase(file);
  too_large.contents.files[file] = 5 << 20;
  CheckRefused(too_large, "larger than 4 MiB");

  Layout layer_gone = layout;
  layer_gone.contents.files.erase("blobs/sha256/" + Sha256Digest("a layer, packed").substr(7));
  CheckRefused(layer_gone, "layer sha256:");

  Layout layer_short = layout;
  layer_short.contents.files["blobs/sha256/" + Sha256Digest("a layer, packed").substr(7)] = 3;
  CheckRefused(layer_short, "damaged");
}

TEST_CASE("malformed documents are refused, whatever is wrong in them") {
  Layout layout;
  layout.SetIndex({json{{"digest", "sha256:../../etc/passwd"}, {"size", 1}}});
  CheckRefused(layout, "not a SHA-256");
  layout.SetIndex({json{{"digest", Sha256Digest("x")}, {"size", "1"}}});
  CheckRefused(layout, "size");
  layout.SetIndex({json(3)});
  CheckRefused(layout, "malformed");
  layout.SetIndex({});
  CheckRefused(layout, "no container image");
  layout.SetDocument("index.json", {{"manifests", 3}});
  CheckRefused(layout, "malformed");
  layout.contents.documents["index.json"] = "{";
  CheckRefused(layout, "not JSON");
  layout.contents.documents["index.json"] = std::string(100000, '[');
  CheckRefused(layout, "nested");

  json helm = {{"config", layout.AddBlob("application/vnd.cncf.helm.config.v1+json", "{}")},
               {"layers", json::array()}};
  layout.SetIndex({layout.AddBlob(kManifestType, helm.dump())});
  CheckRefused(layout, "no container image");

  json two_layers = {{"config", layout.AddBlob(kConfigType, Config("amd64").dump())},
                     {"layers", json::array()}};
  layout.SetIndex({layout.AddBlob(kManifestType, two_layers.dump())});
  CheckRefused(layout, "0 layers");

  two_layers["layers"] = json::array({layout.AddBlob("application/x-encrypted", "layer")});
  layout.SetIndex({layout.AddBlob(kManifestType, two_layers.dump())});
  CheckRefused(layout, "can't be unpacked");
}

TEST_CASE("indexes that are nested deeply, or that multiply, end") {
  Layout layout;
  json deep = layout.AddImage("arm64");
  for (int i = 0; i < 9; ++i) deep = layout.AddIndex({deep});
  layout.SetIndex({deep});
  CheckRefused(layout, "nested too deeply");
  json wide = layout.AddImage("arm64");
  for (int i = 0; i < 3; ++i) wide = layout.AddIndex(std::vector<json>(2000, wide));
  layout.SetIndex({wide});
  CheckRefused(layout, "linux/arm64");
}

TEST_CASE("a Docker archive is planned by its manifest.json") {
  auto images = Plan(DockerArchive());
  REQUIRE(images.size() == 1);
  CHECK(images[0].names == std::vector<std::string>{kName, "docker.io/a/b:2"});
  CHECK(images[0].manifest.empty());
  REQUIRE(images[0].layers.size() == 1);
  CHECK(images[0].layers[0].file == "l/layer.tar");
  CHECK(images[0].layers[0].digest.empty());
  CHECK(images[0].layers[0].size == 7);

  images[0].layers[0].digest = kDiffId;
  images[0].layers[0].media_type = "application/vnd.docker.image.rootfs.diff.tar";
  json manifest = json::parse(MakeManifest(images[0]));
  CHECK(manifest["config"]["digest"] == Sha256Digest(images[0].config));
  CHECK(manifest["layers"][0]["size"] == 7);
}

TEST_CASE("a layer of a Docker archive may be a link to another's") {
  Layout layout = DockerArchive();
  layout.contents.files["other/layer.tar"] = 9;
  layout.contents.files.erase("l/layer.tar");
  layout.contents.links["l/layer.tar"] = "other/layer.tar";
  CHECK(Plan(layout)[0].layers[0].file == "other/layer.tar");
  layout.contents.links["l/layer.tar"] = "l/layer.tar";
  CheckRefused(layout, "missing");
}

TEST_CASE("a Docker archive that is not whole is refused") {
  Layout layout = DockerArchive();
  layout.contents.files.erase("l/layer.tar");
  CheckRefused(layout, "layer l/layer.tar is missing");
  layout = DockerArchive();
  layout.contents.files.erase("c.json");
  CheckRefused(layout, "config is missing");
  layout = DockerArchive();
  layout.SetDocument("c.json", Config("s390x"));
  CheckRefused(layout, "linux/s390x");
  for (const json& bad : {json::array(), json{{"a", 1}}, json::array({1}), json::array({json()}),
                          json::array({{{"Config", 1}}}),
                          json::array({{{"Config", "c.json"}, {"Layers", json::array({1})}}}),
                          json::array({{{"Config", "c.json"}, {"Layers", 1}}})}) {
    layout = DockerArchive();
    layout.SetDocument("manifest.json", bad);
    CheckRefused(layout, "manifest.json");
  }
  layout.SetDocument("manifest.json", json::array({{{"Config", "c.json"}}}));
  CheckRefused(layout, "0 layers");
}

TEST_CASE("an archive that is both is read as an OCI layout, and one that is neither is refused") {
  Layout both = DockerArchive();
  both.SetIndex({Named(both.AddImage("amd64"), "oci:1")});
  CHECK(Plan(both)[0].names == std::vector<std::string>{"docker.io/library/oci:1"});
  CheckRefused(Layout(), "neither");
}

TEST_CASE("configs: null members are absent, wrong types are refused") {
  auto config = ParseImageConfig(R"({"config":{"Cmd":null,"Env":["A=1"],"User":"app","Volumes":
      {"/data":{}},"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGINT","WorkingDir":"/srv"}})");
  REQUIRE(config.ok());
  CHECK(config->config.env == std::vector<std::string>{"A=1"});
  CHECK(config->config.user == "app");
  CHECK(config->config.volumes == std::vector<std::string>{"/data"});
  CHECK(config->config.exposed_ports == std::vector<std::string>{"80/tcp"});
  CHECK(config->config.stop_signal == "SIGINT");
  CHECK(config->config.working_dir == "/srv");
  CHECK(IsForPlatform(*config, kAmd64));
  for (const char* bad :
       {R"({"config":{"Cmd":"x"}})", R"({"config":{"Env":[1]}})", R"({"config":[]})", "[]", "3",
        R"({"rootfs":{"diff_ids":["x"]}})", R"({"rootfs":{"diff_ids":{}}})", R"({"os":1})"}) {
    CAPTURE(bad);
    CHECK(ParseImageConfig(bad).status().code() == absl::StatusCode::kInvalidArgument);
  }
  json many = {{"rootfs", {{"diff_ids", std::vector<std::string>(128, kDiffId)}}}};
  CHECK(!ParseImageConfig(many.dump()).ok());
}

TEST_CASE("configs: more variables than a process can be given, or many VOLUMEs, are refused") {
  const auto refusal = [](const char* member, const json& value) {
    const json config = {{"config", {{member, value}}}};
    const Status status = ParseImageConfig(config.dump()).status();
    CHECK((status.ok() || status.code() == absl::StatusCode::kInvalidArgument));
    return std::string(status.message());
  };
  std::vector<std::string> variables;
  for (int i = 0; i < 500'000; ++i) variables.push_back("A=");
  CHECK(refusal("Env", variables) != "");
  variables.assign(90'000, "A=345678901234567890");
  CHECK(refusal("Env", variables).find("90000 variables") != std::string::npos);
  variables.resize(10'000);
  CHECK(refusal("Env", variables) == "");
  const std::string longest = "A=" + std::string((128 << 10) - 3, 'x');
  CHECK(refusal("Env", json::array({longest})) == "");
  CHECK(refusal("Env", json::array({longest + "x"})).find("128 KiB") != std::string::npos);

  json volumes;
  for (int i = 0; i < 128; ++i) volumes["/" + std::to_string(i)] = json::object();
  CHECK(refusal("Volumes", volumes) == "");
  volumes["/more"] = json::object();
  CHECK(refusal("Volumes", volumes).find("129 VOLUMEs") != std::string::npos);
}

TEST_CASE("chain IDs are those of the OCI specification") {
  std::string a = Sha256Digest("a");
  std::string b = Sha256Digest("b");
  CHECK(ChainIds({}).empty());
  CHECK(ChainIds({a, b}) == std::vector<std::string>{a, Sha256Digest(absl::StrCat(a, " ", b))});
  CHECK(Sha256Digest("") ==
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_CASE("names in an archive are cleaned, and never lead above its root") {
  CHECK(CleanArchiveName("./a//b/../c") == "a/c");
  CHECK(CleanArchiveName("/../../x") == "x");
  CHECK(CleanArchiveName("./") == "");
}

}  // namespace ctr
