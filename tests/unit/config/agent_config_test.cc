#include "agent/config/agent_config.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "agent/config/command_line.h"

namespace ctr::agent_config_test {
namespace {

std::string Refusal(const std::string& toml) {
  StatusOr<AgentConfig> config = ParseAgentConfig(toml, "agent.toml");
  INFO(toml);
  REQUIRE(absl::IsInvalidArgument(config.status()));
  return std::string(config.status().message());
}

StatusOr<CommandLine> RunWith(std::vector<const char*> flags) {
  flags.insert(flags.begin(), "ctr-agent");
  return ParseCommandLine(static_cast<int>(flags.size()), flags.data());
}

// A configuration file that goes with the test.
class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) { std::ofstream(path_) << text; }
  ~ConfigFile() { std::filesystem::remove(path_); }

  const char* path() const { return path_.c_str(); }

 private:
  const std::string path_ = std::filesystem::temp_directory_path() /
                            ("ctr-agent-config-" + std::to_string(::getpid()) + ".toml");
};

}  // namespace

TEST_CASE("registries have mirrors, a CA or plain HTTP, and the image store a limit") {
  StatusOr<AgentConfig> config = ParseAgentConfig(R"(
[images]
max_size = "20GiB"
docker_config = "/etc/ctr/docker.json"
[[registry]]
host = "docker.io"
mirrors = ["https://mirror.example/hub/", "http://10.0.0.1:5000"]
[[registry]]
host = "registry.example:5000"
ca = "/etc/ctr/ca.pem"
[[registry]]
host = "old.example"
plain_http = true
)",
                                                  "agent.toml");
  REQUIRE_MESSAGE(config.ok(), config.status().ToString());
  const ImageSettings& images = config->images;
  CHECK(images.max_size_bytes == int64_t{20} << 30);
  CHECK(images.docker_config == "/etc/ctr/docker.json");
  REQUIRE(images.Find("docker.io") != nullptr);
  CHECK(images.Find("docker.io")->mirrors ==
        std::vector<std::string>{"https://mirror.example/hub", "http://10.0.0.1:5000"});
  CHECK(images.Find("registry.example:5000")->ca_file == "/etc/ctr/ca.pem");
  CHECK(images.Find("old.example")->plain_http);
  CHECK(images.Find("registry.example") == nullptr);
}

TEST_CASE("impossible settings of images and registries are refused by key") {
  const auto names = [](const std::string& toml, const char* key) {
    const std::string refusal = Refusal(toml);
    CHECK_MESSAGE(refusal.find(key) != std::string::npos, refusal);
  };
  names("[images]\nmax_size = \"much\"\n", "max_size");
  names("[images]\nmax_size = \"0\"\n", "max_size");
  names("[images]\ndocker_config = \"config.json\"\n", "docker_config");
  names("[[registry]]\nplain_http = true\n", "host");
  names("[[registry]]\nhost = \"https://a.example\"\n", "host");
  names("[[registry]]\nhost = \"index.docker.io\"\n", "host");
  names("[[registry]]\nhost = \"demo\"\n", "host");
  names("[[registry]]\nhost = \"a.example\"\nmirrors = [\"mirror.example\"]\n", "mirrors");
  names("[[registry]]\nhost = \"a.example\"\nca = \"/a\"\nplain_http = true\n", "ca");
  names("[[registry]]\nhost = \"a.example\"\nmirror = \"https://a\"\n", "mirror");
}

TEST_CASE("an empty agent file gives the documented defaults") {
  StatusOr<AgentConfig> config = ParseAgentConfig("", "agent.toml");
  REQUIRE(config.ok());
  CHECK(config->data_dir == "/var/lib/ctr");
  CHECK(config->run_dir == "/run/ctr");
  CHECK(config->http.ToString() == "127.0.0.1:8080");
  CHECK(config->containerd.empty());
  CHECK(config->instance_range.ToString() == "127.77.0.0/16");
  CHECK(config->class_range.ToString() == "127.76.0.0/16");
  CHECK(config->domains == std::vector<std::string>{"localhost"});
  CHECK_FALSE(config->trust_ctr_headers);
  CHECK(config->steering == SteeringChoice::kAuto);
  CHECK(config->data_threads >= 1);
  CHECK(config->data_threads <= 4);
  CHECK_FALSE(config->network.subnet);
  CHECK(config->network.allow.empty());
  CHECK(config->log_level == "info");
  CHECK(config->drain == std::chrono::seconds(30));
  CHECK(config->header_timeout == std::chrono::seconds(30));
  CHECK(config->idle_timeout == std::chrono::seconds(75));
  CHECK(config->min_body_rate == 240);
  CHECK(config->max_connections == 0);
  CHECK(config->max_connections_per_client == 1024);
  CHECK_FALSE(config->limits_loopback);
}

TEST_CASE("the ingress's limits are read, and one for each client holds on this host, too") {
  StatusOr<AgentConfig> config = ParseAgentConfig(
      "header_timeout = \"5s\"\nidle_timeout = 10\nmin_body_rate = 0\nmax_connections = 9\n"
      "max_connections_per_client = 8\n",
      "agent.toml");
  REQUIRE(config.ok());
  CHECK(config->header_timeout == std::chrono::seconds(5));
  CHECK(config->idle_timeout == std::chrono::seconds(10));
  CHECK(config->min_body_rate == 0);
  CHECK(config->max_connections == 9);
  CHECK(config->max_connections_per_client == 8);
  CHECK(config->limits_loopback);
  CHECK(Refusal("max_connections = -1") != "");
  CHECK(Refusal("header_timeout = 0") != "");
}

TEST_CASE("the drain time of a planned stop is a duration") {
  StatusOr<AgentConfig> config = ParseAgentConfig("drain = \"1m\"\n", "agent.toml");
  REQUIRE(config.ok());
  CHECK(config->drain == std::chrono::minutes(1));
  CHECK(ParseAgentConfig("drain = 0\n", "agent.toml")->drain == Duration::zero());
  CHECK(Refusal("drain = \"soon\"\n").starts_with("agent.toml:1: drain"));
  CHECK(Refusal("drain = \"-1s\"\n").starts_with("agent.toml:1: drain"));
}

TEST_CASE("every setting of the agent file is read") {
  StatusOr<AgentConfig> config = ParseAgentConfig(R"(
data_dir = "/srv/ctr"
run_dir = "/srv/run"
http = "[::1]:0"
containerd = "unix:///run/containerd/containerd.sock"
instance_range = "127.80.0.0/20"
class_range = "127.81.0.0/28"
domains = ["Apps.Example.com", "localhost"]
trust_ctr_headers = true
steering = "bind"
data_threads = 7
log_level = "debug"
)",
                                                  "agent.toml");
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  CHECK(config->data_dir == "/srv/ctr");
  CHECK(config->run_dir == "/srv/run");
  CHECK(config->http.address == "::1");
  CHECK(config->http.port == 0);
  CHECK(config->http.ToString() == "[::1]:0");
  CHECK(config->containerd == "/run/containerd/containerd.sock");
  CHECK(config->instance_range.ToString() == "127.80.0.0/20");
  CHECK(config->class_range.ToString() == "127.81.0.0/28");
  CHECK(config->domains == std::vector<std::string>{"localhost", "apps.example.com"});
  CHECK(config->trust_ctr_headers);
  CHECK(config->steering == SteeringChoice::kBind);
  CHECK(config->data_threads == 7);
  CHECK(config->log_level == "debug");
}

TEST_CASE("metrics and an access log are off until an address and a file are given") {
  StatusOr<AgentConfig> config = ParseAgentConfig("", "agent.toml");
  REQUIRE(config.ok());
  CHECK_FALSE(config->metrics.has_value());
  CHECK(config->access_log.empty());
  config = ParseAgentConfig("metrics = \"127.0.0.1:9464\"\naccess_log = \"/var/log/a.log\"\n",
                            "agent.toml");
  REQUIRE(config.ok());
  CHECK(config->metrics->ToString() == "127.0.0.1:9464");
  CHECK(config->access_log == "/var/log/a.log");
}

TEST_CASE("what is wrong in the agent file is refused with file, line and key") {
  CHECK(Refusal("\nhtpp = \"127.0.0.1:1\"") ==
        "agent.toml:2: unknown key \"htpp\"; did you mean \"http\"?");
  CHECK(Refusal("metrics = \"9090\"").starts_with("agent.toml:1: metrics: "));
  CHECK(Refusal("access_log = \"access.log\"").starts_with("agent.toml:1: access_log: "));
  CHECK(Refusal("instance_range = \"10.0.0.0/16\"") ==
        "agent.toml:1: instance_range: \"10.0.0.0/16\" must lie in 127.0.0.0/8, as 127.77.0.0/16 "
        "does");
  for (const char* setting : {
           "data_dir = \"var/lib\"",
           "data_dir = 1",
           "run_dir = \"\"",
           "http = \"8080\"",
           "http = \":8080\"",
           "http = \"localhost:8080\"",
           "http = \"127.0.0.1:65536\"",
           "http = \"127.0.0.1:-1\"",
           "http = \"127.0.0.1:\"",
           "http = \"::1:80\"",
           "containerd = \"containerd.sock\"",
           "instance_range = \"127.77.0.0\"",
           "instance_range = \"127.77.0.1/16\"",
           "instance_range = \"127.77.0.0/29\"",
           "instance_range = \"127.0.0.0/9\"",
           "class_range = \"126.0.0.0/7\"",
           "domains = \"localhost\"",
           "domains = [\"a..b\"]",
           "domains = [\"\"]",
           "trust_ctr_headers = 1",
           "steering = \"magic\"",
           "data_threads = 0",
           "log_level = \"loud\"",
       }) {
    CHECK(Refusal(setting).starts_with("agent.toml:1: "));
  }
  CHECK(Refusal("run_dir = \"/" + std::string(80, 'x') + "\"").find("too long") !=
        std::string::npos);
}

TEST_CASE("a flag is stronger than the file, and the file than the default") {
  ConfigFile file("http = \"127.0.0.1:81\"\nrun_dir = \"/run/a\"\n");
  StatusOr<CommandLine> line =
      RunWith({"--config", file.path(), "--http", "127.0.0.1:82", "--data-dir", "/srv/x/"});
  INFO(line.status().ToString());
  REQUIRE(line.ok());
  CHECK(line->config.http.port == 82);
  CHECK(line->config.run_dir == "/run/a");
  CHECK(line->config.data_dir == "/srv/x");
  CHECK(line->config.class_range.ToString() == "127.76.0.0/16");
  CHECK_FALSE(line->purge);
}

TEST_CASE("an empty file is a file") {
  ConfigFile file("");
  CHECK(RunWith({"--config", file.path()}).ok());
}

TEST_CASE("every flag is read") {
  StatusOr<CommandLine> line =
      RunWith({"--data-dir=data", "--run-dir=/r", "--containerd=/c.sock",
               "--instance-range=127.90.0.0/16", "--class-range=127.91.0.0/16", "--purge"});
  INFO(line.status().ToString());
  REQUIRE(line.ok());
  CHECK(line->config.data_dir == (std::filesystem::current_path() / "data").string());
  CHECK(line->config.run_dir == "/r");
  CHECK(line->config.containerd == "/c.sock");
  CHECK(line->config.instance_range.ToString() == "127.90.0.0/16");
  CHECK(line->config.class_range.ToString() == "127.91.0.0/16");
  CHECK(line->purge);
}

TEST_CASE("a wrong command line is refused with the flag's name") {
  const auto refusal = [](std::vector<const char*> flags) {
    StatusOr<CommandLine> line = RunWith(std::move(flags));
    REQUIRE_FALSE(line.ok());
    return std::string(line.status().message());
  };
  CHECK(refusal({"--nonsense"}).find("--nonsense") != std::string::npos);
  CHECK(refusal({"stray"}).find("stray") != std::string::npos);
  CHECK(refusal({"--http"}).find("--http") != std::string::npos);
  CHECK(refusal({"--http", "x"}).starts_with("--http: \"x\" is no address"));
  CHECK(refusal({"--data-dir", ""}).starts_with("--data-dir: "));
  CHECK(refusal({"--config", "/nonexistent/agent.toml"}) ==
        "--config: there is no file /nonexistent/agent.toml");
  CHECK(refusal({"--config", "/proc"}).find("directory") != std::string::npos);
  CHECK(refusal({"--instance-range", "127.76.0.0/24"}).find("overlap") != std::string::npos);
  CHECK(refusal({"--http", "127.77.0.1:80"}).find("range") != std::string::npos);
}

TEST_CASE("help and version are asked for without reading the file") {
  StatusOr<CommandLine> help = RunWith({"--help", "--config", "/nonexistent"});
  REQUIRE(help.ok());
  CHECK(help->help.find("--instance-range") != std::string::npos);
  StatusOr<CommandLine> version = RunWith({"--version", "--config", "/nonexistent"});
  REQUIRE(version.ok());
  CHECK(version->version);
}

TEST_CASE("the doctor looks at where the agent keeps its data") {
  ConfigFile file("data_dir = \"/srv/file\"\n");
  StatusOr<CommandLine> line = RunWith({"--doctor", "--config", file.path()});
  REQUIRE(line.ok());
  CHECK(line->doctor);
  CHECK(line->config.data_dir == "/srv/file");
  line = RunWith({"--doctor", "--config", file.path(), "--data-dir", "/srv/flag"});
  REQUIRE(line.ok());
  CHECK(line->config.data_dir == "/srv/flag");
}

TEST_CASE("the network of instances with a way out") {
  StatusOr<AgentConfig> config = ParseAgentConfig(R"(
[network]
subnet = "172.30.0.0/20"
allow = ["10.1.0.0/16", "192.168.7.7", "fd00:1::/64"]
)",
                                                  "agent.toml");
  REQUIRE(config.ok());
  CHECK(config->network.subnet->ToString() == "172.30.0.0/20");
  REQUIRE(config->network.allow.size() == 3);
  CHECK(config->network.allow[2].ToString() == "fd00:1::/64");

  CHECK(Refusal("[network]\nsubnet = \"fd00::/64\"").find("IPv4") != std::string::npos);
  CHECK(Refusal("[network]\nsubnet = \"127.0.0.0/16\"").find("private") != std::string::npos);
  CHECK(Refusal("[network]\nsubnet = \"10.0.0.0/30\"").find("8 to 28") != std::string::npos);
  CHECK(Refusal("[network]\nallow = [\"10.1.0.1/16\"]").find("agent.toml:2") == 0);
  CHECK(Refusal("[network]\nallows = []").find("allows") != std::string::npos);
}

TEST_CASE("how much of the disk is to stay free") {
  CHECK_FALSE(ParseAgentConfig("", "agent.toml")->min_free_bytes);
  CHECK(ParseAgentConfig("[disk]\nmin_free = \"5GiB\"\n", "agent.toml")->min_free_bytes ==
        int64_t{5} << 30);
  CHECK(ParseAgentConfig("[disk]\nmin_free = \"0\"\n", "agent.toml")->min_free_bytes == 0);
  CHECK(Refusal("[disk]\nmin_free = \"much\"\n").starts_with("agent.toml:2: "));
  CHECK(Refusal("[disk]\nminimum = \"1GiB\"\n").find("minimum") != std::string::npos);
}

TEST_CASE("an address or a path with a zero in it is refused") {
  CHECK(Refusal("http = \"127.0.0.1\\u0000x:80\"\n").starts_with("agent.toml:1: http"));
  CHECK(Refusal("instance_range = \"127.77.0.0\\u0000x/16\"\n").starts_with("agent.toml:1: "));
  CHECK(Refusal("data_dir = \"/var\\u0000x\"\n").starts_with("agent.toml:1: data_dir"));
}

}  // namespace ctr::agent_config_test
