#pragma once

#include <fcntl.h>

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/integration/runtime/image_archives.h"
#include "tests/integration/runtime/runtime_fixture.h"

namespace ctr {

// Containers of a given spec, or image, and what a shell in them says.
class SpecFixture : public RuntimeFixture {
 public:
  // What a shell in a container says.
  std::string OutputOf(ContainerSpec spec) {
    Container container = Create(std::move(spec));
    REQUIRE(Run(runtime_->Start(container.id)).ok());
    WaitExit(container.id);
    REQUIRE(Run(runtime_->Remove(container.id)).ok());
    return Output(container.id);
  }

  ContainerSpec Shell(const std::string& script) {
    return Spec({"/bin/sh", "-c", "exec 2>&1; " + script + "; exit 0"});
  }

  // Imports an image of busybox and `more` whose process is `process`.
  void Import(const std::string& name, const nlohmann::json& process,
              std::vector<TarEntry> more = {}) {
    more.insert(more.end(),
                {{"bin/busybox", ReadWholeFile("/bin/busybox"), "", 0755},
                 {"etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/home:/bin/sh\n"},
                 {"etc/group", "web:x:1001:\nextra:x:1002:app\n"}});
    std::string layer = MakeTar(more);
    nlohmann::json config = nlohmann::json::parse(MakeConfig({layer}));
    config["config"] = process;
    std::string path = folder_ + "/image.tar";
    WriteWholeFile(path, MakeDockerArchive({layer}, config.dump(), name));
    auto imported = Run(
        runtime_->ImportImages(UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), "", nullptr));
    REQUIRE_MESSAGE(imported.ok(), imported.status().ToString());
  }

  // The refusal of a start from an image, which leaves nothing.
  Status RefusalOf(const std::string& image) {
    ContainerSpec spec = Spec({"/bin/busybox"});
    spec.image = "docker.io/library/" + image;
    const std::string id = spec.id;
    const Status refused = Run(runtime_->Create(std::move(spec))).status();
    CHECK(refused.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(PartsOf(id).empty());
    return refused;
  }

  // The next container on the same disk.
  ContainerSpec Again(ContainerSpec spec, const std::string& script) {
    const ContainerSpec fresh = Shell(script);
    spec.id = fresh.id;
    spec.log = fresh.log;
    spec.entrypoint = fresh.entrypoint;
    return spec;
  }
};

}  // namespace ctr
