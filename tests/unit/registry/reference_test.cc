#include "agent/registry/reference.h"

#include <doctest/doctest.h>

#include "agent/model/reference.h"
#include "agent/registry/backoff.h"

namespace ctr {
namespace {

RegistryReference PartsOf(const char* text) {
  StatusOr<std::string> normalized = NormalizeReference(text);
  REQUIRE(normalized.ok());
  StatusOr<RegistryReference> parts = SplitReference(*normalized);
  REQUIRE_MESSAGE(parts.ok(), parts.status().ToString());
  return *std::move(parts);
}

const std::string kDigest = "sha256:" + std::string(64, 'a');

}  // namespace

TEST_CASE("a short name is an official image on the Hub, whose API has a host of its own") {
  const RegistryReference parts = PartsOf("nginx");
  CHECK(parts.host == "docker.io");
  CHECK(parts.repository == "library/nginx");
  CHECK(parts.Wanted() == "latest");
  CHECK(ApiHost(parts.host) == "registry-1.docker.io");
  CHECK(ApiHost("quay.io") == "quay.io");
}

TEST_CASE("a host with a port keeps both, and its repository any depth") {
  const RegistryReference parts = PartsOf("localhost:5000/team/app/web:1.2");
  CHECK(parts.host == "localhost:5000");
  CHECK(parts.repository == "team/app/web");
  CHECK(parts.tag == "1.2");
}

TEST_CASE("a digest is what is asked for, and a tag beside it says nothing") {
  const RegistryReference parts = PartsOf(("registry.example/a/b:1@" + kDigest).c_str());
  CHECK(parts.repository == "a/b");
  CHECK(parts.tag.empty());
  CHECK(parts.Wanted() == kDigest);
}

TEST_CASE("a digest that can't be verified is refused") {
  const std::string reference = "docker.io/library/a@sha512:" + std::string(128, 'a');
  CHECK(absl::IsInvalidArgument(SplitReference(reference).status()));
}

TEST_CASE("an image by its digest has neither its tag nor another digest") {
  CHECK(AtDigest("localhost:5000/a:1", kDigest) == "localhost:5000/a@" + kDigest);
  CHECK(AtDigest("localhost:5000/a@sha256:0", kDigest) == "localhost:5000/a@" + kDigest);
  CHECK(AtDigest("docker.io/library/a:latest", kDigest) == "docker.io/library/a@" + kDigest);
}

TEST_CASE("this machine is known by its names alone") {
  for (const char* host :
       {"localhost", "localhost:5000", "127.0.0.1", "127.9.8.7:80", "[::1]:5000"})
    CHECK_MESSAGE(IsLoopbackHost(host), host);
  for (const char* host :
       {"localhost.example", "128.0.0.1", "127.0.0.1.example", "[::2]", "[::1]x"})
    CHECK_FALSE_MESSAGE(IsLoopbackHost(host), host);
}

TEST_CASE("the origin of a URL is its scheme, host and port, whatever else it has") {
  CHECK(OriginOf("https://Registry.Example/v2/") == "https://registry.example");
  CHECK(OriginOf("https://registry.example:443/x?y#z") == "https://registry.example");
  CHECK(OriginOf("http://a:5000") == "http://a:5000");
  CHECK(OriginOf("https://good.example@evil.example/") == "https://evil.example");
  CHECK(OriginOf("https://good.example\\.evil.example/") == "https://good.example");
  CHECK(OriginOf("ftp://a/").empty());
  CHECK(OriginOf("//a/").empty());
  CHECK(OriginOf("https://").empty());
  CHECK(HostOf("https://a:5000/v2/") == "a:5000");
}

TEST_CASE("the wait before another attempt doubles, and ends at ten seconds") {
  using std::chrono::milliseconds;
  CHECK(PullBackoff(1, 1) == milliseconds(200));
  CHECK(PullBackoff(2, 1) == milliseconds(400));
  CHECK(PullBackoff(2, 0.5) == milliseconds(200));
  CHECK(PullBackoff(100, 1) == milliseconds(10'000));
}

TEST_CASE("a registry that names a time to wait gets it, half a minute at most") {
  CHECK(PullBackoff(1, 1, std::chrono::seconds(5)) == std::chrono::seconds(5));
  CHECK(PullBackoff(1, 1, std::chrono::hours(5)) == std::chrono::seconds(30));
}

}  // namespace ctr
