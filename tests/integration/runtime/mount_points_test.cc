// Where a real container's mounts land, whatever its image, or an instance in a kept disk, put in
// their way.

#include <filesystem>

#include <doctest/doctest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/runtime/spec_fixture.h"

namespace ctr {

using nlohmann::json;

TEST_CASE_FIXTURE(SpecFixture, "volumes: a folder of the host, read-only or not, and memory") {
  std::filesystem::create_directories(folder_ + "/shared/sub");
  ContainerSpec spec = Shell(
      "echo in > /shared/file; echo x > /seen/file; cat /seen/file; echo y > /mem/y && cat /mem/y; "
      "head -c 2000000 /dev/zero > /mem/big; df -k /mem | tail -n 1; mount | grep ' /mem '");
  spec.volumes = {{"/shared", folder_ + "/shared", false, 0},
                  {"/seen", folder_ + "/shared", true, 0},
                  {"/mem", "", false, 1 << 20}};
  std::string output = OutputOf(spec);
  CAPTURE(output);
  CHECK(ReadWholeFile(folder_ + "/shared/file") == "in\n");
  CHECK(absl::StrContains(output, "Read-only file system"));
  CHECK(absl::StrContains(output, "\nin\ny\n"));
  CHECK(absl::StrContains(output, " 100% /mem\n"));
  CHECK(absl::StrContains(output, "nosuid,nodev,noexec"));

  spec = Spec({"/bin/true"});
  spec.volumes = {{"/data", folder_ + "/nowhere", false, 0}};
  std::string id = spec.id;
  auto refused = Run(runtime_->Create(std::move(spec)));
  CHECK(refused.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(refused.status().message(), "/nowhere"));
  CHECK(PartsOf(id).empty());
}

TEST_CASE_FIXTURE(SpecFixture,
                  "an image's VOLUMEs can be written, have its files, and are its disk's") {
  json process = {
      {"Volumes",
       {{"/etc", json::object()}, {"/data/new/", json::object()}, {"/link", json::object()}}},
      {"Entrypoint", json::array({"/bin/busybox", "sh", "-c"})},
      {"Cmd",
       json::array({"exec 2>&1; cd /etc; echo x >> passwd; busybox wc -l < passwd; echo y >> "
                    "/data/new/y; busybox cat /data/new/y; busybox stat -c %a /data/new; "
                    "echo z > /z; echo w > /link/w; busybox ls /usr/w; exit 0"})}};
  Import("volumes:1", process, {{"link", "", "/usr", 0777}, {"usr/here", "x"}});
  for (bool read_only : {false, true}) {
    CAPTURE(read_only);
    ContainerSpec spec = Spec({});
    spec.image = "docker.io/library/volumes:1";
    spec.entrypoint.reset();
    spec.read_only = read_only;
    std::string output = OutputOf(spec);
    CAPTURE(output);
    CHECK(absl::StartsWith(output, "3\ny\n755\n"));
    CHECK(absl::StrContains(output, "/z: Read-only file system") == read_only);
    CHECK(absl::EndsWith(output, "/usr/w\n"));
  }
  ContainerSpec kept = Spec({});
  kept.image = "docker.io/library/volumes:1";
  kept.entrypoint.reset();
  kept.read_only = true;
  kept.keep_disk = true;
  CHECK(absl::StartsWith(OutputOf(kept), "3\n"));
  ContainerSpec again = kept;
  const ContainerSpec fresh = Spec({});
  again.id = fresh.id;
  again.log = fresh.log;
  CHECK(absl::StartsWith(OutputOf(again), "4\ny\ny\n"));
  CHECK(Run(runtime_->RemoveDisk(kept.name)).ok());
}

TEST_CASE_FIXTURE(SpecFixture, "memory where the image has nothing is for every user") {
  Import("tmp:1", json::object(), {{"bin/sh", "", "busybox", 0777}});
  ContainerSpec spec = Shell("echo x > /new/file && busybox stat -c %a /new");
  spec.image = "docker.io/library/tmp:1";
  spec.user = "1000:1000";
  spec.volumes = {{"/new", "", false, 1 << 20}, {"/new/inner", "", false, 1 << 20}};
  CHECK(OutputOf(spec) == "1777\n");
}

TEST_CASE_FIXTURE(SpecFixture, "no VOLUME of an image leads out of its own file system") {
  Import(
      "escape:1",
      {{"Volumes", {{"/up/../../out", json::object()}, {"/p", json::object()}}},
       {"Entrypoint", json::array({"/bin/busybox", "sh", "-c"})},
       {"Cmd", json::array({"busybox ls -d /out; busybox mount | busybox grep -c /proc; exit 0"})}},
      {{"p", "", "/proc/1", 0777}, {"up", "", "/", 0777}});
  for (bool read_only : {false, true}) {
    CAPTURE(read_only);
    ContainerSpec spec = Spec({});
    spec.image = "docker.io/library/escape:1";
    spec.entrypoint.reset();
    spec.read_only = read_only;
    std::string output = OutputOf(spec);
    CAPTURE(output);
    CHECK(absl::StartsWith(output, "/out\n"));
    CHECK(!std::filesystem::exists("/out"));
  }
}

TEST_CASE_FIXTURE(SpecFixture, "a VOLUME whose links lead on and on is refused, in bounded steps") {
  // Each link leads through a thousand folders that are not there, to the next: all of them made
  // by recursion were more than a stack holds.
  std::vector<TarEntry> links;
  const auto name = [](int i) { return "l" + std::to_string(i); };
  for (int i = 0; i < 20; ++i) {
    std::string target = "/" + name(i + 1);
    for (int k = 0; k < 1000; ++k) target += "/d";
    links.push_back({name(i), "", target, 0777});
  }
  Import("far:1", {{"Volumes", {{"/l0", json::object()}}}}, links);
  CHECK(absl::StrContains(RefusalOf("far:1").message(), "VOLUME /l0"));

  Import("loop:1", {{"Volumes", {{"/a/data", json::object()}}}},
         {{"a", "", "/b", 0777}, {"b", "", "a", 0777}});
  CHECK(absl::StrContains(RefusalOf("loop:1").message(), "VOLUME /a/data"));

  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "/d";
  Import("deep:1", {{"Volumes", {{deep, json::object()}}}});
  CHECK(absl::StrContains(RefusalOf("deep:1").message(), "too many folders"));
}

TEST_CASE_FIXTURE(SpecFixture, "below a read-only root no instance leads a VOLUME elsewhere") {
  Import("inner:1", {{"Volumes", {{"/data", json::object()}, {"/data/sub", json::object()}}}},
         {{"bin/sh", "", "busybox", 0777}});
  ContainerSpec spec = Shell("cd /data; busybox mv sub old; busybox ln -s /etc sub; echo done");
  spec.image = "docker.io/library/inner:1";
  spec.keep_disk = true;
  const InstanceName name = spec.name;
  CHECK(OutputOf(spec) == "done\n");
  // Where all can be written it is its own affair.
  CHECK(OutputOf(Again(spec, "echo x > /etc/x && echo written")) == "written\n");
  ContainerSpec read_only = Again(spec, "echo x > /etc/y && echo written");
  read_only.read_only = true;
  const Status refused = Run(runtime_->Create(read_only)).status();
  CHECK(refused.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(refused.message(), "/data/sub"));
  CHECK(Run(runtime_->RemoveDisk(name)).ok());
}

TEST_CASE_FIXTURE(SpecFixture, "what an image has at /dev, /proc, /sys or our files is replaced") {
  // runc would make its devices there, on the host.
  std::filesystem::create_directories(folder_ + "/host");
  WriteWholeFile(folder_ + "/host/ptmx", "precious\n");
  Import("links:1", json::object(),
         {{"bin/sh", "", "busybox", 0777},
          {"dev", "", folder_ + "/host", 0777},
          {"proc", "", folder_ + "/host", 0777},
          {"sys", "a file"},
          {"etc/hosts", "", "/dev/null", 0777},
          {"etc/resolv.conf", "", "../run/resolv.conf", 0777}});
  for (bool read_only : {false, true}) {
    CAPTURE(read_only);
    ContainerSpec spec = Shell(
        "cd /bin; for f in /dev /proc /sys /etc/hosts /etc/resolv.conf; do busybox stat -c %F $f; "
        "done; busybox stat -c %t:%T /dev/null; busybox grep -c localhost /etc/hosts");
    spec.image = "docker.io/library/links:1";
    spec.read_only = read_only;
    CHECK(OutputOf(spec) ==
          "directory\ndirectory\ndirectory\nregular file\nregular empty file\n1:3\n2\n");
  }
  CHECK(ReadWholeFile(folder_ + "/host/ptmx") == "precious\n");
  CHECK(std::filesystem::exists(folder_ + "/host/null") == false);
}

TEST_CASE_FIXTURE(SpecFixture, "an image's links lead a volume within it, but not over its /dev") {
  std::filesystem::create_directories(folder_ + "/shared");
  Import("led:1", json::object(),
         {{"bin/sh", "", "busybox", 0777},
          {"var/run", "", "/run", 0777},
          {"data", "", "/x/../dev", 0777},
          {"root", "", "/", 0777},
          {"null", "", "/dev/null", 0777},
          {"bytes", "", "/d\xff", 0777},
          {"d\xef\xbf\xbd", "", "/dev", 0777},  // what JSON would make of it
          {"p", "", "/proc/sys", 0777}});
  ContainerSpec spec = Shell("echo x > /run/app/file; echo y > /var/run/mem/y");
  spec.image = "docker.io/library/led:1";
  spec.volumes = {{"/var/run/app", folder_ + "/shared", false, 0},
                  {"/var/run/mem", "", false, 1 << 20}};
  CHECK(OutputOf(spec).empty());
  CHECK(ReadWholeFile(folder_ + "/shared/file") == "x\n");

  for (const char* path : {"/data", "/data/pts", "/root", "/null", "/p/kernel", "/bytes"}) {
    CAPTURE(path);
    ContainerSpec refused = Spec({"/bin/busybox"});
    refused.image = spec.image;
    refused.volumes = {{path, folder_ + "/shared", false, 0}};
    const std::string id = refused.id;
    const Status status = Run(runtime_->Create(std::move(refused))).status();
    CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(absl::StrContains(status.message(), absl::StrCat("the volume ", path, " ")));
    CHECK(PartsOf(id).empty());
  }
  ContainerSpec twice = Spec({"/bin/busybox"});
  twice.image = spec.image;
  twice.volumes = {{"/run/app", "", false, 1 << 20}, {"/var/run/app", "", false, 1 << 20}};
  CHECK(absl::StrContains(Run(runtime_->Create(std::move(twice))).status().message(),
                          "another one is there"));
  CHECK(!std::filesystem::exists(folder_ + "/shared/null"));
}

TEST_CASE_FIXTURE(SpecFixture, "no instance leads a volume over its next start's /dev") {
  // What it made of /dev/null there was its output, open for writing: any of the host's sysctls.
  std::filesystem::create_directories(folder_ + "/shared");
  ContainerSpec spec = Shell(
      "mv /srv /srv2 && mkdir /srv && ln -s /dev /srv/data; "
      "ln -s /proc/sys/net/ipv4/ip_default_ttl /srv2/data/null; echo done");
  spec.keep_disk = true;
  spec.volumes = {{"/srv/data", folder_ + "/shared", false, 0}};
  CHECK(OutputOf(spec) == "done\n");
  const Status refused = Run(runtime_->Create(Again(spec, "true"))).status();
  CHECK(refused.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(refused.message(), "the volume /srv/data can't be made"));
  CHECK(Run(runtime_->RemoveDisk(spec.name)).ok());
}

TEST_CASE_FIXTURE(SpecFixture, "a volume inside another is in it, and led nowhere by its links") {
  std::filesystem::create_directories(folder_ + "/outer/there");
  std::filesystem::create_directories(folder_ + "/inner");
  std::filesystem::create_directory_symlink("/dev", folder_ + "/outer/link");
  ContainerSpec spec = Shell("echo x > /a/there/file; echo y > /a/new/y; /bin/busybox ls /a");
  spec.volumes = {{"/a/there", folder_ + "/inner", false, 0},
                  {"/a/new", "", false, 1 << 20},
                  {"/a", folder_ + "/outer", false, 0}};
  CHECK(OutputOf(spec) == "link\nnew\nthere\n");
  CHECK(ReadWholeFile(folder_ + "/inner/file") == "x\n");

  const auto refusal = [&](std::vector<Volume> volumes) {
    ContainerSpec refused = Spec({"/bin/true"});
    refused.volumes = std::move(volumes);
    const Status status = Run(runtime_->Create(std::move(refused))).status();
    CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
    return std::string(status.message());
  };
  CHECK(absl::StrContains(
      refusal({{"/a", folder_ + "/outer", false, 0}, {"/a/link", "", false, 4096}}),
      "/a/link is a link inside another volume"));
  CHECK(absl::StrContains(
      refusal({{"/a", folder_ + "/outer", true, 0}, {"/a/none", "", false, 4096}}),
      "/a/none: Read-only file system"));
  WriteWholeFile(folder_ + "/outer/file", "");
  CHECK(absl::StrContains(refusal({{"/a", folder_ + "/outer/file", false, 0},
                                   {"/bin", folder_ + "/outer/file", false, 0}}),
                          "/bin is a folder, no file"));
  CHECK(absl::StrContains(refusal({{"/bin/busybox", folder_ + "/outer", false, 0}}),
                          "/bin/busybox is a file, no folder"));
}

TEST_CASE_FIXTURE(
    SpecFixture,
    "a volume has its own files at /etc, be they links or missing, and may be one, or in /dev") {
  std::filesystem::create_directories(folder_ + "/etc");
  std::filesystem::create_symlink("/nowhere", folder_ + "/etc/resolv.conf");
  WriteWholeFile(folder_ + "/etc/hosts", "own\n");
  ContainerSpec spec =
      Shell("busybox=/bin/busybox; $busybox ls /etc; $busybox grep -c localhost /etc/hosts");
  spec.volumes = {{"/etc", folder_ + "/etc", true, 0}};
  CHECK(OutputOf(spec) == "hosts\nresolv.conf\n2\n");
  CHECK(std::filesystem::is_symlink(folder_ + "/etc/resolv.conf"));

  ContainerSpec files =
      Shell("/bin/busybox cat /etc/hosts /dev/app/file; /bin/busybox df -k /dev/shm | tail -n 1");
  files.volumes = {{"/etc/hosts", folder_ + "/etc/hosts", true, 0},
                   {"/dev/app/file", folder_ + "/etc/hosts", true, 0},
                   {"/dev/shm", "", false, 1 << 20}};
  const std::string output = OutputOf(files);
  CAPTURE(output);
  CHECK(absl::StartsWith(output, "own\nown\n"));
  CHECK(absl::StrContains(output, " 1024 "));
}

TEST_CASE_FIXTURE(SpecFixture, "a VOLUME's name that is not UTF-8 is refused") {
  // In the spec, which is JSON, it would be another name, and its link would lead to the host.
  Import("bytes:1", {{"Volumes", {{"/v", json::object()}}}},
         {{"v", "", "/d\xff", 0777}, {"d\xef\xbf\xbd", "", folder_, 0777}});
  CHECK(absl::StrContains(RefusalOf("bytes:1").message(), "UTF-8"));
}

TEST_CASE_FIXTURE(SpecFixture, "a class's volume goes before the image's VOLUME, be it a file") {
  WriteWholeFile(folder_ + "/socket", "there\n");
  Import("sock:1",
         {{"Volumes", {{"/var/run/app.sock", json::object()}, {"/etc/hosts", json::object()}}}},
         {{"bin/sh", "", "busybox", 0777}, {"var/run", "", "/run", 0777}});
  for (bool read_only : {false, true}) {
    CAPTURE(read_only);
    ContainerSpec spec = Shell("/bin/busybox cat /run/app.sock");
    spec.image = "docker.io/library/sock:1";
    spec.read_only = read_only;
    spec.volumes = {{"/run/app.sock", folder_ + "/socket", true, 0}};
    CHECK(OutputOf(spec) == "there\n");
  }
}

TEST_CASE_FIXTURE(SpecFixture, "what an instance made of its VOLUME holds up no next start") {
  Import("own:1", {{"Volumes", {{"/data", json::object()}}}}, {{"bin/sh", "", "busybox", 0777}});
  ContainerSpec spec = Shell("cd /; busybox rmdir data; echo x > data");
  spec.image = "docker.io/library/own:1";
  spec.keep_disk = true;
  CHECK(OutputOf(spec).empty());
  CHECK(OutputOf(Again(spec, "busybox cat /data")) == "x\n");
  CHECK(Run(runtime_->RemoveDisk(spec.name)).ok());
}

TEST_CASE_FIXTURE(SpecFixture, "what an outer volume hides is in no inner one's way") {
  WriteWholeFile(folder_ + "/file", "seen\n");
  Import("hidden:1", json::object(),
         {{"bin/sh", "", "busybox", 0777}, {"cfg/app/x", "y"}, {"cfg/sub", "a file"}});
  ContainerSpec spec = Shell("/bin/busybox cat /cfg/app; echo z > /cfg/sub/z");
  spec.image = "docker.io/library/hidden:1";
  spec.volumes = {{"/cfg", "", false, 1 << 20},
                  {"/cfg/app", folder_ + "/file", true, 0},
                  {"/cfg/sub", "", false, 1 << 20}};
  CHECK(OutputOf(spec) == "seen\n");
}

}  // namespace ctr
