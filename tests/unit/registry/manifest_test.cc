#include "agent/registry/manifest.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ctr {
namespace {

const Platform kAmd64{"amd64", "", ""};

std::string DigestOf(char digit) { return "sha256:" + std::string(64, digit); }

std::string Descriptor(const std::string& type, char digit, int64_t size,
                       const std::string& more = "") {
  return absl::StrCat(R"({"mediaType":")", type, R"(","digest":")", DigestOf(digit), R"(","size":)",
                      size, more, "}");
}

std::string Entry(char digit, const std::string& os, const std::string& architecture,
                  const std::string& variant = "") {
  return Descriptor("application/vnd.oci.image.manifest.v1+json", digit, 500,
                    absl::StrCat(R"(,"platform":{"os":")", os, R"(","architecture":")",
                                 architecture, R"(","variant":")", variant, R"("})"));
}

std::string Index(const std::vector<std::string>& entries) {
  return absl::StrCat(
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[)",
      absl::StrJoin(entries, ","), "]}");
}

std::string Image(const std::string& layers) {
  return absl::StrCat(R"({"schemaVersion":2,"config":)",
                      Descriptor("application/vnd.oci.image.config.v1+json", 'c', 100),
                      R"(,"layers":[)", layers, "]}");
}

constexpr char kGzip[] = "application/vnd.oci.image.layer.v1.tar+gzip";

// The digit of the chosen digest.
char Chosen(const std::vector<std::string>& entries, const Platform& platform) {
  auto parsed = ParseManifest(Index(entries), "", platform);
  REQUIRE_MESSAGE(parsed.ok(), parsed.status().ToString());
  return std::get<ImageIndex>(*parsed).chosen.digest.back();
}

std::string RefusalOf(const std::string& text) {
  auto parsed = ParseManifest(text, "", kAmd64);
  REQUIRE(absl::IsInvalidArgument(parsed.status()));
  return std::string(parsed.status().message());
}

bool Has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("of an index, the entry for the platform is chosen") {
  CHECK(Chosen({Entry('1', "linux", "arm64"), Entry('2', "linux", "amd64"),
                Entry('3', "windows", "amd64")},
               kAmd64) == '2');
  CHECK(Chosen({Entry('1', "linux", "arm64", "v8"), Entry('2', "linux", "amd64")},
               {"arm64", "", ""}) == '1');
}

TEST_CASE("an older variant of ARM runs on a newer one, and the newest that does is taken") {
  const std::vector<std::string> entries = {Entry('5', "linux", "arm", "v5"),
                                            Entry('7', "linux", "arm", "v7"),
                                            Entry('6', "linux", "arm", "v6")};
  CHECK(Chosen(entries, {"arm", "v7", ""}) == '7');
  CHECK(Chosen(entries, {"arm", "v6", ""}) == '6');
  CHECK(Chosen({entries[0], entries[2]}, {"arm", "v7", ""}) == '6');
}

TEST_CASE("a variant that this machine may lack is not taken") {
  CHECK(Chosen({Entry('3', "linux", "amd64", "v3"), Entry('1', "linux", "amd64")}, kAmd64) == '1');
  CHECK(absl::IsNotFound(
      ParseManifest(Index({Entry('3', "linux", "amd64", "v3")}), "", kAmd64).status()));
}

TEST_CASE("where nothing is for the platform, those that there are are listed") {
  Status status =
      ParseManifest(Index({Entry('1', "linux", "arm", "v7"), Entry('2', "linux", "s390x"),
                           Entry('3', "unknown", "unknown")}),
                    "", kAmd64)
          .status();
  CHECK(absl::IsNotFound(status));
  CHECK(ErrorCodeOf(status) == "unknown_image");
  const std::string message(status.message());
  CHECK(Has(message, "linux/amd64"));
  CHECK(Has(message, "linux/arm/v7, linux/s390x"));
}

TEST_CASE("attestations are no images, and an entry without a platform is better than nothing") {
  const std::string attestation =
      Descriptor("application/vnd.oci.image.manifest.v1+json", '9', 5,
                 R"(,"annotations":{"vnd.docker.reference.type":"attestation-manifest"})");
  const std::string plain = Descriptor("application/vnd.oci.image.manifest.v1+json", '1', 5);
  CHECK(Chosen({attestation, plain}, kAmd64) == '1');
  CHECK(Chosen({attestation, plain, Entry('2', "linux", "amd64")}, kAmd64) == '2');
}

TEST_CASE("an image's manifest gives its config and its layers in order") {
  auto parsed = ParseManifest(
      Image(absl::StrCat(Descriptor(kGzip, '1', 10), ",",
                         Descriptor("application/vnd.oci.image.layer.v1.tar+zstd", '2', 20), ",",
                         Descriptor(kGzip, '1', 10))),
      "application/vnd.oci.image.manifest.v1+json; charset=utf-8", kAmd64);
  REQUIRE_MESSAGE(parsed.ok(), parsed.status().ToString());
  const auto& manifest = std::get<ImageManifest>(*parsed);
  CHECK(manifest.media_type == "application/vnd.oci.image.manifest.v1+json");
  CHECK(manifest.config.digest == DigestOf('c'));
  REQUIRE(manifest.layers.size() == 3);
  CHECK(manifest.layers[1].size == 20);
  CHECK(manifest.TotalBytes() == 130);
}

TEST_CASE("what calls itself by no name of a manifest or an index counts as OCI's") {
  const auto type_of = [](std::string text, const std::string& said, const std::string& served) {
    text.insert(1, absl::StrCat(R"("mediaType":")", said, R"(",)"));
    auto parsed = ParseManifest(text, served, kAmd64);
    REQUIRE_MESSAGE(parsed.ok(), parsed.status().ToString());
    return std::visit([](const auto& document) { return document.media_type; }, *parsed);
  };
  const std::string image = Image(Descriptor(kGzip, '1', 10));
  const std::string index = absl::StrCat(R"({"manifests":[)", Entry('1', "linux", "amd64"), "]}");
  const std::string docker = "application/vnd.docker.distribution.manifest";
  const std::string oci = "application/vnd.oci.image.";
  CHECK(type_of(image, docker + ".v2+json", "") == docker + ".v2+json");
  CHECK(type_of(image, "", docker + ".v2+json") == docker + ".v2+json");
  CHECK(type_of(index, docker + ".list.v2+json", "") == docker + ".list.v2+json");
  const std::string long_type = "application/" + std::string(3 << 20, 'x') + "+json";
  for (const std::string& said : {long_type, std::string("application/json"), oci + "config"}) {
    CHECK(type_of(image, said, "") == oci + "manifest.v1+json");
    CHECK(type_of(index, "", said) == oci + "index.v1+json");
  }
  CHECK(type_of(index, docker + ".v2+json", "") == oci + "index.v1+json");
}

TEST_CASE("a foreign layer's address is not followed") {
  const std::string text =
      Image(Descriptor(kGzip, '1', 10, R"(,"urls":["https://elsewhere.example/layer"])"));
  CHECK(Has(RefusalOf(text), "foreign layer"));
  CHECK(ParseManifest(Image(Descriptor(kGzip, '1', 10, R"(,"urls":[])")), "", kAmd64).ok());
}

TEST_CASE("what is no container image says so") {
  CHECK(Has(RefusalOf(R"({"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json",)"
                      R"("digest":")" +
                      DigestOf('a') + R"(","size":1},"layers":[]})"),
            "helm"));
  CHECK(Has(RefusalOf(R"({"schemaVersion":1,"fsLayers":[]})"), "schema 1"));
  CHECK(Has(RefusalOf("{}"), "not that of a container image"));
  CHECK(Has(RefusalOf("[]"), "no JSON object"));
  CHECK(Has(RefusalOf("<html>"), "not JSON"));
  CHECK(Has(RefusalOf(Image(Descriptor("text/plain", '1', 10))), "can't be unpacked"));
}

TEST_CASE("a manifest that is an index, too, is a trap") {
  CHECK(Has(RefusalOf(R"({"manifests":[],"config":{},"layers":[]})"), "claims to be an index"));
}

TEST_CASE("impossible sizes and digests are refused") {
  for (const char* size : {"-1", "1.5", "\"1\"", "18446744073709551615", "9223372036854775807"}) {
    const std::string layer = absl::StrCat(R"({"mediaType":")", kGzip, R"(","digest":")",
                                           DigestOf('1'), R"(","size":)", size, "}");
    CHECK(Has(RefusalOf(Image(layer)), "possible size"));
  }
  CHECK(Has(RefusalOf(Image(absl::StrCat(R"({"mediaType":")", kGzip,
                                         R"(","digest":"sha256:../../x","size":1})"))),
            "digest"));
  CHECK(Has(RefusalOf(Image(Descriptor(kGzip, '1', int64_t{1} << 50))), "possible size"));
}

TEST_CASE("what is too much is refused before it is fetched") {
  std::vector<std::string> layers(200, Descriptor(kGzip, '1', 10));
  CHECK(Has(RefusalOf(Image(absl::StrJoin(layers, ","))), "more than 127"));
  CHECK(Has(RefusalOf(std::string(5 << 20, ' ') + "{}"), "4 MiB"));
  CHECK(Has(RefusalOf(std::string(1000, '[') + std::string(1000, ']')), "nested"));
  // Two bytes of text each, and some dozens in memory.
  std::string numbers = R"({"manifests":[0)";
  for (int i = 0; i < 1'000'000; ++i) numbers += ",0";
  CHECK(Has(RefusalOf(numbers + "]}"), "more than 100000 values"));
  const std::string large =
      Index({Descriptor("application/vnd.oci.image.manifest.v1+json", '1', 5 << 20)});
  CHECK(Has(RefusalOf(large), "4 MiB"));
}

TEST_CASE("platforms are written as docker writes them") {
  CHECK(PlatformName(*ParsePlatform("linux/arm64")) == "linux/arm64");
  CHECK(PlatformName(*ParsePlatform("linux/arm")) == "linux/arm/v7");
  CHECK(PlatformName(*ParsePlatform("linux/ARM/v6")) == "linux/arm/v6");
  CHECK(PlatformName(*ParsePlatform("linux/x86_64")) == "linux/amd64");
  CHECK(PlatformName(*ParsePlatform("linux/amd64/v1")) == "linux/amd64");
  CHECK(PlatformName(*ParsePlatform("linux/aarch64/v8")) == "linux/arm64");
  for (const char* text : {"", "arm64", "windows/amd64", "linux/", "linux/a/b/c", "linux/a b"}) {
    CHECK_MESSAGE(absl::IsInvalidArgument(ParsePlatform(text).status()), text);
  }
}

}  // namespace ctr
