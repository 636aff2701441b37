#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include <doctest/doctest.h>

#include "agent/base/fd.h"
#include "cli/pull_progress.h"
#include "tests/unit/cli/command_line.h"

// The verbs about classes, images and the agent, and what is common to all.
namespace ctr::cli {
namespace {

v1::Class Web() {
  v1::Class class_;
  class_.set_name("web");
  class_.set_image("docker.io/library/demo:latest");
  class_.set_address("127.76.0.1");
  class_.set_url("http://127.76.0.1:8080");
  class_.set_default_port(8080);
  class_.set_default_protocol("http");
  class_.set_revision("abc");
  class_.set_source("name = \"web\"\n");
  class_.set_settings_json(R"({"name":"web","sleep_after":"10m","env":{"A":"1"}})");
  return class_;
}

std::string WriteFile(const TempDir& dir, const std::string& name, const std::string& text) {
  std::string path = dir.Path(name);
  std::ofstream(path) << text;
  return path;
}

TEST_CASE("class apply sends the file and says what came of it") {
  FakeAgent agent;
  TempDir dir;
  std::string path = WriteFile(dir, "web.toml", "name = \"web\"\n");
  *agent.applied.mutable_class_() = Web();
  agent.applied.set_result(v1::ApplyClassResponse::RESULT_CREATED);
  CHECK(RunCtr(agent, {"class", "apply", "-f", path}).out == "class/web created\n");
  CHECK(agent.Last() == "source: \"name = \\\"web\\\"\\n\" file_name: \"" + path + "\"");
  agent.applied.set_result(v1::ApplyClassResponse::RESULT_CONFIGURED);
  CHECK(RunCtr(agent, {"class", "apply", "-f", path}).out == "class/web configured\n");
  agent.applied.set_result(v1::ApplyClassResponse::RESULT_UNCHANGED);
  CHECK(RunCtr(agent, {"class", "apply", "-f", path}).out == "class/web unchanged\n");
  CHECK(RunCtr(agent, {"class", "apply", "-f", path, "-o", "name"}).out == "class/web\n");
  Json json = Json::parse(RunCtr(agent, {"class", "apply", "-f", path, "-o", "json"}).out);
  CHECK(json["name"] == "web");
  CHECK(json["address"] == "127.76.0.1");
  CHECK(json["result"] == "unchanged");
}

TEST_CASE("class apply passes on what the agent has to say about it, on stderr") {
  FakeAgent agent;
  TempDir dir;
  *agent.applied.mutable_class_() = Web();
  agent.applied.set_result(v1::ApplyClassResponse::RESULT_CONFIGURED);
  agent.applied.set_note("1 instance has a kept disk");
  Outcome outcome = RunCtr(agent, {"class", "apply", "-f", WriteFile(dir, "web.toml", "")});
  CHECK(outcome.out == "class/web configured\n");
  CHECK(outcome.err == "ctr: class web: 1 instance has a kept disk\n");
}

TEST_CASE("class apply reads standard input") {
  FakeAgent agent;
  TempDir dir;
  UniqueFd input(::open(WriteFile(dir, "f", "name = 1").c_str(), O_RDONLY));
  RunCtr(agent, {"class", "apply", "-f", "-"}, {}, input.get());
  CHECK(agent.Last() == "source: \"name = 1\" file_name: \"<stdin>\"");
}

TEST_CASE("a bad class file is a usage error in the agent's words") {
  FakeAgent agent;
  TempDir dir;
  std::string path = WriteFile(dir, "web.toml", "x = 1\n");
  agent.FailOn(path, grpc::StatusCode::INVALID_ARGUMENT, "bad_request",
               "web.toml:1: unknown key x");
  Outcome outcome = RunCtr(agent, {"class", "apply", "-f", path});
  CHECK(outcome.exit_status == 2);
  CHECK(outcome.err == "ctr: web.toml:1: unknown key x\n");
  path = WriteFile(dir, "binary", "\xff\xfe");
  CHECK(RunCtr(agent, {"class", "apply", "-f", path}).err ==
        "ctr: " + path + " is not UTF-8 text\n");
}

TEST_CASE("a class file that cannot be read is exit 1, also without an agent") {
  Outcome outcome = RunCtr({"class", "apply", "-f", "/nonexistent.toml"}, {});
  CHECK(outcome.exit_status == 1);
  CHECK(outcome.err == "ctr: cannot read /nonexistent.toml: No such file or directory\n");
}

TEST_CASE("class ls prints a table, names or an array") {
  FakeAgent agent;
  *agent.classes.add_classes() = Web();
  CHECK(RunCtr(agent, {"class", "ls"}).out ==
        "CLASS  IMAGE                          URL                     INSTANCES  LIVE  AGE\n"
        "web    docker.io/library/demo:latest  http://127.76.0.1:8080  0          0     -\n");
  CHECK(RunCtr(agent, {"class", "ls", "-o", "name"}).out == "class/web\n");
  CHECK(Json::parse(RunCtr(agent, {"class", "ls", "-o", "json"}).out)[0]["url"] ==
        "http://127.76.0.1:8080");
}

TEST_CASE("class show prints the settings as lines, or everything as JSON") {
  FakeAgent agent;
  *agent.classes.add_classes() = Web();
  std::string text = RunCtr(agent, {"class", "show", "web"}).out;
  CHECK(text.find("sleep_after:        10m\n") != std::string::npos);
  CHECK(text.find("env:                {\"A\":\"1\"}\n") != std::string::npos);
  CHECK(text.find("source") == std::string::npos);
  Json json = Json::parse(RunCtr(agent, {"class", "show", "web", "-o", "json"}).out);
  CHECK(json["source"] == "name = \"web\"\n");
  CHECK(json["settings"]["env"]["A"] == "1");
}

TEST_CASE("class rm says so, and is refused while there are instances") {
  FakeAgent agent;
  CHECK(RunCtr(agent, {"class", "rm", "web", "--force"}).out == "class/web removed\n");
  CHECK(agent.Last() == R"(name: "web" force: true)");
  CHECK(RunCtr(agent, {"class", "rm", "web", "-o", "name"}).out == "class/web\n");
  agent.FailOn("web", grpc::StatusCode::FAILED_PRECONDITION, "in_use", "web has 2 instances");
  CHECK(RunCtr(agent, {"class", "rm", "web"}).exit_status == 4);
}

TEST_CASE("image import streams an archive in pieces of a mebibyte") {
  FakeAgent agent;
  TempDir dir;
  std::string archive;
  for (int i = 0; archive.size() < 3'500'000; ++i) archive += std::to_string(i) + "\n";
  std::string path = WriteFile(dir, "demo.tar", archive);
  Outcome outcome = RunCtr(agent, {"image", "import", path, "--name", "demo:v1"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out == "demo:v1\n");
  CHECK(outcome.err == "");
  CHECK(agent.Last() == R"(name: "demo:v1")");
  CHECK(agent.archive() == archive);
  CHECK(agent.largest_piece() == size_t{1} << 20);
}

TEST_CASE("image import reads standard input and prints the archive's own names") {
  FakeAgent agent;
  TempDir dir;
  UniqueFd input(::open(WriteFile(dir, "f", "bytes").c_str(), O_RDONLY));
  Outcome outcome = RunCtr(agent, {"image", "import", "-", "-o", "jsonl"}, {}, input.get());
  CHECK(outcome.out == "{\"reference\":\"docker.io/library/demo:latest\"}\n");
  CHECK(agent.archive() == "bytes");
}

TEST_CASE("an empty --name is refused, and not taken for none") {
  FakeAgent agent;
  TempDir dir;
  const std::string path = WriteFile(dir, "demo.tar", "bytes");
  Outcome outcome = RunCtr(agent, {"image", "import", path, "--name", ""});
  CHECK(outcome.exit_status == 2);
  CHECK(outcome.err ==
        "ctr: --name is empty: give a name such as demo:latest, or leave --name out to take the "
        "archive's own\n");
}

TEST_CASE("an archive that the agent refuses is told, though not all of it was sent") {
  FakeAgent agent;
  agent.refuse_import = true;
  TempDir dir;
  std::string path = WriteFile(dir, "demo.tar", std::string(8 << 20, 'x'));
  Outcome outcome = RunCtr(agent, {"image", "import", path});
  CHECK(outcome.exit_status == 2);
  CHECK(outcome.err == "ctr: this is no archive\n");
}

TEST_CASE("an archive that cannot be read to its end is cancelled, not taken for whole") {
  FakeAgent agent;
  agent.expect_cancel = true;
  int sockets[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
  UniqueFd input(sockets[0]);
  UniqueFd peer(sockets[1]);
  REQUIRE(::write(peer.get(), "half an archive", 15) == 15);
  // A peer that closes with something unread makes the next read fail.
  REQUIRE(::write(input.get(), "unread", 6) == 6);
  std::jthread closer([&] {
    agent.ImportHasBegun();
    peer.Reset();
  });
  Outcome outcome = RunCtr(agent, {"image", "import", "-"}, {}, input.get());
  CHECK(outcome.exit_status == 1);
  CHECK(outcome.err == "ctr: cannot read standard input: Connection reset by peer\n");
  CHECK(agent.ImportWasCancelled());
}

TEST_CASE("an archive that is missing or a directory is exit 1, also without an agent") {
  Outcome outcome = RunCtr({"image", "import", "/nonexistent.tar"}, {});
  CHECK(outcome.exit_status == 1);
  CHECK(outcome.err == "ctr: cannot read /nonexistent.tar: No such file or directory\n");
  CHECK(RunCtr({"image", "import", "/"}, {}).err == "ctr: cannot read /: Is a directory\n");
}

TEST_CASE("image pull prints what it pulled, and off a terminal a line for what happens") {
  FakeAgent agent;
  Outcome outcome = RunCtr(agent, {"image", "pull", "demo:1", "--platform", "linux/arm64"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out == "docker.io/library/demo:1\n");
  CHECK(outcome.err == "0123456789ab: 2.0KiB to get\n0123456789ab: here\nunpacking\n");
  CHECK(agent.Last().find("linux/arm64") != std::string::npos);
  CHECK(Json::parse(RunCtr(agent, {"image", "pull", "demo:1", "-o", "json"}).out) ==
        Json{{"reference", "docker.io/library/demo:1"}, {"digest", "sha256:1"}});
  agent.FailOn("gone", grpc::StatusCode::NOT_FOUND, "unknown_image", "no image gone");
  CHECK(RunCtr(agent, {"image", "pull", "gone"}).exit_status == 3);
}

TEST_CASE("on a terminal a pull shows a bar for each layer, in place") {
  v1::PullImageResponse progress;
  v1::PulledLayer& layer = *progress.add_layers();
  layer.set_digest("sha256:0123456789abcdef");
  layer.set_size_bytes(4096);
  layer.set_done_bytes(2048);
  PullProgressText text(true);
  const std::string first = text.Update(progress);
  CHECK(first ==
        "0123456789ab [" + std::string(15, '=') + std::string(15, ' ') + "] 2.0KiB of 4.0KiB\n");
  CHECK(text.Update(progress) == "\x1b[1A\r\x1b[J" + first);
  for (int i = 0; i < 100; ++i) progress.add_layers()->set_size_bytes(10);
  std::string many = text.Update(progress);
  CHECK(std::count(many.begin(), many.end(), '\n') < 20);
  CHECK(text.End().find("\x1b[") == 0);
  CHECK(text.End() == "");
}

TEST_CASE("image prune names what it removed, and says what that freed") {
  FakeAgent agent;
  Outcome outcome = RunCtr(agent, {"image", "prune"});
  CHECK(outcome.out == "old:1\n");
  CHECK(outcome.err == "ctr: 3.0MiB freed\n");
}

TEST_CASE("image ls and rm name images by their references") {
  FakeAgent agent;
  v1::Image& image = *agent.images.add_images();
  image.set_reference("docker.io/library/demo:latest");
  image.set_size_bytes(5);
  CHECK(RunCtr(agent, {"image", "ls", "-o", "name"}).out == "docker.io/library/demo:latest\n");
  CHECK(Json::parse(RunCtr(agent, {"image", "ls", "-o", "json"}).out)[0]["size_bytes"] == 5);
  CHECK(RunCtr(agent, {"image", "rm", "demo"}).out == "demo\n");
  agent.FailOn("demo", grpc::StatusCode::NOT_FOUND, "unknown_image", "no image demo");
  CHECK(RunCtr(agent, {"image", "rm", "demo"}).exit_status == 3);
}

TEST_CASE("info tells where the agent keeps things") {
  FakeAgent agent;
  agent.info.set_data_dir("/var/lib/ctr");
  CHECK(RunCtr(agent, {"info"}).out.find("data_dir:             /var/lib/ctr\n") !=
        std::string::npos);
  CHECK(Json::parse(RunCtr(agent, {"info", "-o", "json"}).out)["data_dir"] == "/var/lib/ctr");
}

TEST_CASE("doctor shows what was found, and fails if ctr can't do without something") {
  FakeAgent agent;
  v1::Finding& runc = *agent.diagnosis.add_findings();
  runc.set_check("runc");
  runc.set_outcome(v1::Finding::OUTCOME_OK);
  runc.set_detail("/usr/sbin/runc");
  v1::Finding& nft = *agent.diagnosis.add_findings();
  nft.set_check("packet filter");
  nft.set_outcome(v1::Finding::OUTCOME_WARNING);
  nft.set_detail("no nft");
  nft.set_advice("install nftables");
  Outcome outcome = RunCtr(agent, {"doctor"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out ==
        "ok       runc           /usr/sbin/runc\n"
        "warning  packet filter  no nft\n"
        "                        -> install nftables\n");
  runc.set_outcome(v1::Finding::OUTCOME_MISSING);
  outcome = RunCtr(agent, {"doctor", "-o", "json"});
  CHECK(outcome.exit_status == 1);
  const Json json = Json::parse(outcome.out);
  CHECK(json["ok"] == false);
  CHECK(json["findings"][0]["outcome"] == "missing");
  CHECK(json["findings"][1]["advice"] == "install nftables");
}

TEST_CASE("version tells both versions, and its own without an agent") {
  FakeAgent agent;
  agent.info.set_version("9.8.7");
  Outcome outcome = RunCtr(agent, {"version"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out.find("agent:  9.8.7\n") != std::string::npos);
  CHECK(Json::parse(RunCtr(agent, {"version", "-o", "json"}).out)["agent"] == "9.8.7");

  outcome = RunCtr({"version"}, {{"CTR_HOST", "/nonexistent.sock"}});
  CHECK(outcome.exit_status == 5);
  CHECK(outcome.out.starts_with("client: "));
  CHECK(outcome.err.find("no such socket") != std::string::npos);
  outcome = RunCtr({"version", "-o", "json"}, {{"CTR_HOST", "/nonexistent.sock"}});
  CHECK(Json::parse(outcome.out)["agent"].is_null());
  CHECK(Json::parse(outcome.out)["error"]["code"] == "agent_unreachable");
  outcome = RunCtr({"--version"}, {});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.out.starts_with("ctr "));
}

TEST_CASE("usage errors are exit 2, one line that names the help to read") {
  struct Case {
    std::vector<std::string> args;
    const char* message;
  };
  for (const Case& usage : std::vector<Case>{
           {{}, "ctr: a verb is missing; see: ctr --help\n"},
           {{"gett"}, "ctr: unknown verb \"gett\"; did you mean: ctr get; see: ctr --help\n"},
           {{"class"}, "ctr: a verb is missing; see: ctr class --help\n"},
           {{"--bogus", "ls"}, "ctr: unknown flag --bogus; see: ctr --help\n"},
           {{"get"}, "ctr: ID is required; see: ctr get --help\n"},
           {{"-o", "yaml", "ls"},
            "ctr: --output: \"yaml\" is no format; use table, json, jsonl or name\n"}}) {
    Outcome outcome = RunCtr(usage.args, {});
    CHECK(outcome.exit_status == 2);
    CHECK(outcome.out == "");
    CHECK(outcome.err == usage.message);
  }
  CHECK(RunCtr({"ls", "extra"}, {}).exit_status == 2);
  CHECK(RunCtr({"ls", "--bogus"}, {}).exit_status == 2);
  CHECK(RunCtr({"get", ""}, {}).exit_status == 2);
}

TEST_CASE("usage errors are JSON, too, wherever -o stands") {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"-o", "json", "gett"},
                                             {"gett", "-ojson"},
                                             {"get", "--output=json"},
                                             {"get", "--output", "json", "--bogus", "x"}}) {
    Outcome outcome = RunCtr(args, {});
    CHECK(outcome.exit_status == 2);
    CHECK(outcome.err == "");
    CHECK(Json::parse(outcome.out)["error"]["code"] == "usage");
  }
  CHECK(Json::parse(RunCtr({"gett"}, {{"CTR_OUTPUT", "json"}}).out).contains("error"));
}

TEST_CASE("every verb has help with an example, and needs no agent for it") {
  for (const std::vector<std::string>& verb :
       std::vector<std::vector<std::string>>{{"class", "apply"},
                                             {"class", "ls"},
                                             {"class", "show"},
                                             {"class", "rm"},
                                             {"get"},
                                             {"start"},
                                             {"stop"},
                                             {"restart"},
                                             {"destroy"},
                                             {"rm"},
                                             {"ls"},
                                             {"ps"},
                                             {"inspect"},
                                             {"route"},
                                             {"renew"},
                                             {"wait"},
                                             {"image", "import"},
                                             {"image", "ls"},
                                             {"image", "pull"},
                                             {"image", "prune"},
                                             {"image", "rm"},
                                             {"info"},
                                             {"doctor"},
                                             {"version"}}) {
    std::vector<std::string> args = verb;
    args.push_back("--help");
    Outcome outcome = RunCtr(args, {});
    CHECK(outcome.exit_status == 0);
    CHECK(outcome.err == "");
    CHECK(outcome.out.find("Example:\n") != std::string::npos);
    args.insert(args.begin(), "help");
    args.pop_back();
    CHECK(RunCtr(args, {}).out == outcome.out);
  }
  CHECK(RunCtr({"--help"}, {}).out.find("class apply") != std::string::npos);
  CHECK(RunCtr({"image", "--help"}, {}).out.find("image import") != std::string::npos);
}

}  // namespace
}  // namespace ctr::cli
