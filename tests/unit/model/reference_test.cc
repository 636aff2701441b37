#include "agent/model/reference.h"

#include <string>
#include <utility>

#include <doctest/doctest.h>

using ctr::NormalizeReference;

namespace {

const std::string kHex = "86e0e091d0da6bde2456dbb48306f3956bbeb2eae1b5b9a43045843f69fe4aaa";
const std::string kDigest = "@sha256:" + kHex;

void CheckNormalizes(const std::string& from, const std::string& to) {
  CAPTURE(from);
  auto reference = NormalizeReference(from);
  REQUIRE_MESSAGE(reference.ok(), reference.status().ToString());
  CHECK(*reference == to);
  // The full form is its own full form.
  CHECK(NormalizeReference(*reference).value() == to);
}

void CheckRefused(const std::string& reference) {
  CAPTURE(reference);
  auto refused = NormalizeReference(reference);
  REQUIRE(!refused.ok());
  CHECK(refused.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(refused.status().message().find('\n') == std::string::npos);
}

}  // namespace

TEST_CASE("a familiar name gets docker's host, library and the tag latest") {
  CheckNormalizes("demo", "docker.io/library/demo:latest");
  CheckNormalizes("demo:1.0", "docker.io/library/demo:1.0");
  CheckNormalizes("library/demo", "docker.io/library/demo:latest");
  CheckNormalizes("docker.io/demo", "docker.io/library/demo:latest");
  CheckNormalizes("index.docker.io/demo", "docker.io/library/demo:latest");
  CheckNormalizes("a/b", "docker.io/a/b:latest");
  CheckNormalizes("library/foo/bar", "docker.io/library/foo/bar:latest");
  CheckNormalizes("docker.io/1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a",
                  "docker.io/library/"
                  "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a:latest");
}

TEST_CASE("what stands before the first slash is a host if it has a dot, a colon, or upper case") {
  CheckNormalizes("test.com/foo", "test.com/foo:latest");
  CheckNormalizes("test_com/foo", "docker.io/test_com/foo:latest");
  CheckNormalizes("test-com:8080/foo", "test-com:8080/foo:latest");
  CheckNormalizes("localhost/foo", "localhost/foo:latest");
  CheckNormalizes("localhost:5000/x:v1", "localhost:5000/x:v1");
  CheckNormalizes("127.0.0.1:5000/library/debian", "127.0.0.1:5000/library/debian:latest");
  CheckNormalizes("xn--n3h.com:18080/foo", "xn--n3h.com:18080/foo:latest");
  CheckNormalizes("[fc00::1]:5000/docker", "[fc00::1]:5000/docker:latest");
  CheckNormalizes("[fc00::1]/docker", "[fc00::1]/docker:latest");
  CheckNormalizes("Foo/bar", "Foo/bar:latest");
  // Without a slash there is no host.
  CheckNormalizes("192.168.0.1", "docker.io/library/192.168.0.1:latest");
  CheckNormalizes("192.168.0.1:80", "docker.io/library/192.168.0.1:80");
  CheckNormalizes("localhost", "docker.io/library/localhost:latest");
}

TEST_CASE("a digest is kept and replaces the tag") {
  CheckNormalizes("demo" + kDigest, "docker.io/library/demo" + kDigest);
  CheckNormalizes("localhost:5000/x" + kDigest, "localhost:5000/x" + kDigest);
  CheckNormalizes("demo:latest" + kDigest, "docker.io/library/demo" + kDigest);
  CheckNormalizes("demo@sha512:" + kHex + kHex, "docker.io/library/demo@sha512:" + kHex + kHex);
}

TEST_CASE("separators inside a name are one dot, one or two underscores, any number of dashes") {
  CheckNormalizes("docker---rules/docker", "docker.io/docker---rules/docker:latest");
  CheckNormalizes("dock__er/docker", "docker.io/dock__er/docker:latest");
  CheckNormalizes("d/t", "docker.io/d/t:latest");
  CheckNormalizes("ubuntu-12.04-base", "docker.io/library/ubuntu-12.04-base:latest");
  for (const char* name :
       {"-docker", "docker-/docker", "____/____", "_docker/_docker", "dock..er/docker",
        "dock_.er/docker", "dock-.er/docker", "docker/", "/docker", "docker///docker", "a___b",
        "-docker.io/docker/docker", "foo/bar-", "foo bar", "foo\nbar", "f\xc3\xb6\xc3\xb6"}) {
    CheckRefused(name);
  }
}

TEST_CASE("upper case, IDs, URLs and hosts that are none are refused") {
  for (const char* name :
       {"docker/Docker", "Demo", "docker.io/docker/Docker", "https://github.com/docker/docker",
        "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a", "fc00::1:5000/debian",
        "[fe80::1%eth0]:5000/debian", "[2001:db8:3:4::192.0.2.33]:5000/debian", "[fc00::1]", "[]/x",
        "host:/x", "host:80a/x", "a..b/x", ".a/x", "", ":tag", "@", "a@b/c"}) {
    CheckRefused(name);
  }
  auto refused = NormalizeReference("docker/Docker");
  CHECK(refused.status().message().find("lower case") != std::string::npos);
}

TEST_CASE("a port that is none is refused") {
  CheckNormalizes("host:65535/x:1", "host:65535/x:1");
  for (const char* port : {"65536", "99999", "99999999999999999999"}) {
    const std::string reference = "host:" + std::string(port) + "/x:1";
    CheckRefused(reference);
    const auto refused = NormalizeReference(reference).status();
    CHECK(refused.message().find(std::string(port) + " is not a port") != std::string::npos);
  }
}

TEST_CASE("what says neither tag nor digest is kept apart from what says latest") {
  using ctr::NormalizeAsSaid;
  CHECK(NormalizeAsSaid("demo").value() == "docker.io/library/demo");
  CHECK(NormalizeAsSaid("demo:latest").value() == "docker.io/library/demo:latest");
  CHECK(NormalizeAsSaid("localhost:5000/x").value() == "localhost:5000/x");
  CHECK(NormalizeAsSaid("a/x" + kDigest).value() == "docker.io/a/x" + kDigest);
  CHECK(!NormalizeAsSaid("Demo").ok());
}

TEST_CASE("a bad tag or digest is refused") {
  for (const std::string& reference :
       {std::string("demo:"), std::string("demo:-x"), std::string("demo:.x"),
        std::string("demo:a:b"), std::string("demo:a/b"), "demo:" + std::string(129, 'a'),
        std::string("demo@"), std::string("demo@sha256:"), std::string("demo@sha256:abc"),
        "demo@md5:" + kHex, "demo@" + kHex, "demo@SHA256:" + kHex, "demo" + kDigest + "0",
        "demo" + kDigest + kDigest, "demo@sha256:" + std::string(64, 'A')}) {
    CheckRefused(reference);
  }
  CheckNormalizes("demo:" + std::string(128, 'a'),
                  "docker.io/library/demo:" + std::string(128, 'a'));
}

TEST_CASE("a name has at most 255 characters without its host") {
  std::string longest = "a/" + std::string(253, 'b');
  CheckNormalizes(longest, "docker.io/" + longest + ":latest");
  CheckNormalizes("registry.example/" + longest, "registry.example/" + longest + ":latest");
  CheckRefused(longest + "b");
}
