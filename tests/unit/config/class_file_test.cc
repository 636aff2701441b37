#include "agent/config/class_file.h"

#include <chrono>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

using namespace std::chrono_literals;

namespace ctr {
namespace {

constexpr char kTop[] = "name = \"web\"\nimage = \"demo:latest\"\n";

ClassConfig Parse(const std::string& toml) {
  StatusOr<ClassConfig> config = ParseClassFile(toml, "web.toml");
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  return *std::move(config);
}

// The message that a file is refused with.
std::string Refusal(const std::string& toml) {
  StatusOr<ClassConfig> config = ParseClassFile(toml, "web.toml");
  INFO(toml);
  REQUIRE(absl::IsInvalidArgument(config.status()));
  return std::string(config.status().message());
}

// The same for a setting on line 3.
std::string RefusalOf(const std::string& setting) { return Refusal(kTop + setting + "\n"); }

}  // namespace

TEST_CASE("a class file of two lines is a job with the defaults") {
  const ClassConfig config = Parse(kTop);
  ClassConfig expected;
  expected.name = "web";
  expected.image = "demo:latest";
  expected.sleep_after = std::nullopt;
  expected.restart = RestartPolicy::kNever;
  CHECK(config == expected);
  CHECK(config.IsJob());
}

TEST_CASE("a class with a port has the documented defaults") {
  const ClassConfig config = Parse(std::string(kTop) + "default_port = 8080\n");
  CHECK_FALSE(config.IsJob());
  CHECK(config.default_port == 8080);
  CHECK(config.ports == std::vector<PortConfig>{{8080, Protocol::kHttp}});
  CHECK(config.required_ports == std::vector<uint16_t>{8080});
  CHECK(config.sleep_after == Duration(10min));
  CHECK(config.start_timeout == Duration(20s));
  CHECK(config.stop_grace == Duration(10s));
  CHECK(config.drain == Duration(30s));
  CHECK(config.max_instances == 20);
  CHECK(config.resources == Resources{});
  CHECK(config.route_instances == 3);
}

TEST_CASE("every setting that is built is read") {
  const ClassConfig config = Parse(R"(
name = "web"
image = "registry.example:5000/team/demo:v1"
default_port = 8080
default_protocol = "http"
required_ports = [9090, 8080]
entrypoint = ["/bin/server", "-v"]
env = { LOG_LEVEL = "info", EMPTY = "" }
labels = { team = "a" }
sleep_after = "1h30m"
manual_start = true
create = "request"
max_instances = 7
start_timeout = 5
stop_signal = "sigint"
stop_grace = "0s"
drain = 1.5
restart = "never"
disk = "ephemeral"
dial = "loopback"
max_concurrency = 4
nofile = 4096
read_only = true
pull_policy = "never"
autoscale = false

[[port]]
port = 9090
protocol = "http"

[[port]]
port = 9091

[resources]
cpus = 2
memory = "1.5GiB"
pids = 64

[route]
policy = "random"
instances = 5

[network]
internet = false
)");
  ClassConfig expected;
  expected.name = "web";
  expected.image = "registry.example:5000/team/demo:v1";
  expected.internet = false;
  expected.default_port = 8080;
  expected.ports = {{8080, Protocol::kHttp}, {9090, Protocol::kHttp}, {9091, Protocol::kHttp}};
  expected.required_ports = {9090, 8080};
  expected.entrypoint = std::vector<std::string>{"/bin/server", "-v"};
  expected.env = {{"LOG_LEVEL", "info"}, {"EMPTY", ""}};
  expected.labels = {{"team", "a"}};
  expected.sleep_after = 90min;
  expected.manual_start = true;
  expected.create = CreateBy::kRequest;
  expected.max_instances = 7;
  expected.start_timeout = 5s;
  expected.stop_signal = 2;
  expected.stop_grace = 0s;
  expected.drain = 1500ms;
  expected.restart = RestartPolicy::kNever;
  expected.dial = Dial::kLoopback;
  expected.max_concurrency = 4;
  expected.nofile = 4096;
  expected.read_only = true;
  expected.pull_policy = PullPolicy::kNever;
  expected.resources = {2.0, int64_t{1536} << 20, 64};
  expected.route_instances = 5;
  CHECK(config == expected);
}

TEST_CASE("an error names file, line and key") {
  CHECK(RefusalOf("sleep_after = \"abc\"") ==
        "web.toml:3: sleep_after: \"abc\" is not a duration; write it like 30s, 5m, 1h30m or a "
        "number "
        "of seconds");
  CHECK(RefusalOf("default_port = \"8080\"") ==
        "web.toml:3: default_port: must be a whole number from 1 to 65535, not \"8080\"");
  CHECK(RefusalOf("\n[resources]\nmemory = 5") ==
        "web.toml:5: resources.memory: must be a string, not 5");
  CHECK(RefusalOf("env = { A = \"x\",\n B = 1 }").starts_with("web.toml:"));
}

TEST_CASE("an unknown key is refused, and the one that was meant is guessed") {
  CHECK(Refusal("name = \"web\"\nimge = \"demo\"\n") ==
        "web.toml:2: unknown key \"imge\"; did you mean \"image\"?");
  CHECK(RefusalOf("[resources]\nmemmory = \"1g\"") ==
        "web.toml:4: unknown key \"resources.memmory\"; did you mean \"resources.memory\"?");
  CHECK(RefusalOf("quite_unheard_of = 1") == "web.toml:3: unknown key \"quite_unheard_of\"");
  CHECK(RefusalOf("\"a\\nb\" = 1").find('\n') == std::string::npos);
}

TEST_CASE("a key that slipped into a table below is told where it belongs") {
  CHECK(
      RefusalOf("default_port = 1\n[[port]]\nport = 2\nsleep_after = \"5m\"") ==
      "web.toml:6: unknown key \"port.sleep_after\"; write it above the first [table]: what stands "
      "below [port] belongs to that");
}

TEST_CASE("of several mistakes the first in the file is reported") {
  CHECK(RefusalOf("default_port = 0\nmax_instances = 0\nfoo = 1").starts_with("web.toml:3:"));
  CHECK(Refusal("foo_bar_baz = 1\n").starts_with("web.toml:1: unknown key"));
  CHECK(RefusalOf("default_protocol = \"http\"\ndefault_port = 0")
            .starts_with("web.toml:4: default_port"));
  // What follows from a mistake is not reported in its place.
  CHECK(RefusalOf("required_ports = [80]\ndefault_port = \"80\"")
            .starts_with("web.toml:4: default_port"));
}

TEST_CASE("a table is read and refused alike however it is written") {
  for (const char* setting : {"resources.memory = \"1GiB\"", "resources = { memory = \"1GiB\" }",
                              "[resources]\nmemory = \"1GiB\""}) {
    CHECK(Parse(std::string(kTop) + setting + "\n").resources.memory_bytes == int64_t{1} << 30);
  }
  CHECK(RefusalOf("resources.memory = 5").starts_with("web.toml:3: resources.memory: "));
  CHECK(RefusalOf("resources = { memory = 5 }").starts_with("web.toml:3: resources.memory: "));
  CHECK(RefusalOf("resources.nothing.here = 5").starts_with("web.toml:3: unknown key"));
  CHECK(RefusalOf("\n[resources.nothing]").starts_with("web.toml:4: unknown key"));
  CHECK(RefusalOf("\n[nothing.here]").starts_with("web.toml:4: unknown key"));
}

TEST_CASE("what is no TOML is refused with its line") {
  CHECK(Refusal("name = \"web\"\nimage = \n").starts_with("web.toml:2: "));
  CHECK(Refusal("name = \"a\"\nname = \"b\"\n").starts_with("web.toml:2: "));
  CHECK(Refusal("name = \"web\"\n[resources\n").starts_with("web.toml:2: "));
  CHECK(Refusal("name = \"\xff\xfe\"\n").starts_with("web.toml:1: "));
}

TEST_CASE("name and image must be there and valid") {
  CHECK(Refusal("image = \"demo\"\n") ==
        "web.toml:1: name: is missing; write it like name = \"web\"");
  CHECK(Refusal("name = \"web\"\n") ==
        "web.toml:1: image: is missing; write it like image = \"demo:latest\"");
  CHECK(Refusal("").starts_with("web.toml:1: name: is missing"));
  for (const char* name : {"Web", "-web", "web-", "a.b", "a/b", "a_b", ""}) {
    CHECK(Refusal(std::string("name = \"") + name + "\"\nimage = \"demo\"\n").find("name") !=
          std::string::npos);
  }
  for (const char* image : {"Demo", "demo:", "", "de mo", "a//b"}) {
    CHECK(Refusal(std::string("name = \"web\"\nimage = \"") + image + "\"\n")
              .starts_with("web.toml:"));
  }
}

TEST_CASE("impossible values are refused") {
  for (const char* setting : {
           "default_port = 0",
           "default_port = 65536",
           "default_port = -1",
           "default_port = 80.5",
           "default_protocol = \"http\"",
           "default_port = 80\ndefault_protocol = \"udp\"",
           "required_ports = [80]",
           "default_port = 80\nrequired_ports = [81]",
           "default_port = 80\nrequired_ports = [80, 80]",
           "default_port = 80\nrequired_ports = 80",
           "default_port = 80\nrequired_ports = [\"80\"]",
           "default_port = 80\nport = 81",
           "entrypoint = []",
           "entrypoint = [\"\"]",
           "entrypoint = \"/bin/sh\"",
           "entrypoint = [\"a\\u0000b\"]",
           "env = [\"A=b\"]",
           "env = { A = 1 }",
           "env = { \"A=B\" = \"c\" }",
           "env = { \"\" = \"c\" }",
           "env = { \"A\\u0000\" = \"c\" }",
           "env = { A = \"\\u0000\" }",
           "env = { CTR_ID = \"me\" }",
           "labels = { \"\" = \"x\" }",
           "sleep_after = \"0s\"",
           "sleep_after = 0",
           "sleep_after = -1",
           "sleep_after = \"\"",
           "sleep_after = true",
           "sleep_after = inf",
           "sleep_after = 2026-11-23",
           "start_timeout = 0",
           "start_timeout = \"never\"",
           "stop_grace = \"-1s\"",
           "manual_start = \"yes\"",
           "create = \"never\"",
           "max_instances = 0",
           "max_instances = 9223372036854775807",
           "stop_signal = \"SIGFOO\"",
           "stop_signal = 0",
           "stop_signal = 99",
           "stop_signal = true",
           "dial = \"public\"",
           "max_concurrency = 0",
           "nofile = 3",
           "restart = \"sometimes\"",
           "disk = 1",
           "autoscale = 1",
           "resources = 1",
           "[resources]\ncpus = 0",
           "[resources]\ncpus = -0.5",
           "[resources]\ncpus = nan",
           "[resources]\ncpus = inf",
           "[resources]\nmemory = \"5MiB\"",
           "[resources]\nmemory = \"lots\"",
           "[resources]\nmemory = \"-1GiB\"",
           "[resources]\nmemory = \"99999999999PiB\"",
           "[resources]\ndisk = \"1000\"",
           "[resources]\ndisk = \"none\"",
           "[resources]\ndisk = 5",
           "[resources]\npids = 0",
           "[resources]\npids = -1",
           "[route]\ninstances = 0",
           "[route]\ninstances = 21",
           "[route]\npolicy = \"fastest\"",
           "[[port]]\nport = 80",
           "[port]\nport = 80",
           "default_port = 80\n[[port]]\nport = 80",
           "default_port = 80\n[[port]]\nprotocol = \"http\"",
       }) {
    CHECK(RefusalOf(setting).starts_with("web.toml:"));
  }
}

TEST_CASE("what an instance may write is limited, unless the class says otherwise") {
  const std::string start = "name = \"web\"\nimage = \"demo\"\n[resources]\ncpus = 1\n";
  CHECK(ParseClassFile(start, "f")->resources.disk_bytes == int64_t{10} << 30);
  CHECK(ParseClassFile(start + "disk = \"64MiB\"\n", "f")->resources.disk_bytes == 64 << 20);
  StatusOr<ClassConfig> off = ParseClassFile(start + "disk = \"off\"\n", "f");
  CHECK_FALSE(off->resources.disk_bytes);
  CHECK(SettingsJson(*off).find(R"("disk":"off"})") != std::string::npos);
}

TEST_CASE("ports may speak tcp, and idle connections have a time of their own") {
  StatusOr<ClassConfig> config = ParseClassFile(
      "name = \"db\"\nimage = \"pg\"\ndefault_port = 5432\ndefault_protocol = \"tcp\"\n"
      "tcp_idle = \"5m\"\n[[port]]\nport = 81\nprotocol = \"tcp\"\n[[port]]\nport = 82\n",
      "db.toml");
  REQUIRE(config.ok());
  CHECK(config->FindPort(5432)->protocol == Protocol::kTcp);
  CHECK(config->FindPort(81)->protocol == Protocol::kTcp);
  CHECK(config->FindPort(82)->protocol == Protocol::kHttp);
  CHECK(config->tcp_idle == std::chrono::minutes(5));
  CHECK(SettingsJson(*config).find("\"tcp_idle\":\"5m\"") != std::string::npos);
}

TEST_CASE("an instance has a way out unless its class says otherwise") {
  CHECK(Parse(kTop).internet);
  CHECK(Parse(std::string(kTop) + "[network]\ninternet = true").internet);
  const ClassConfig closed = Parse(std::string(kTop) + "[network]\ninternet = false");
  CHECK_FALSE(closed.internet);
  CHECK(RevisionOf(closed) != RevisionOf(Parse(kTop)));
  CHECK(SettingsJson(closed).find(R"("network":{"internet":false})") != std::string::npos);
  CHECK(RefusalOf("[network]\ninternet = \"no\"").find("internet") != std::string::npos);
}

TEST_CASE("a class may pull always, or run one digest") {
  const std::string digest = "sha256:" + std::string(64, 'a');
  CHECK(Parse(kTop).pull_policy == PullPolicy::kMissing);
  const ClassConfig config = Parse("image_digest = \"" + digest + "\"\n" + std::string(kTop) +
                                   "pull_policy = \"always\"\n");
  CHECK(config.pull_policy == PullPolicy::kAlways);
  CHECK(config.image_digest == digest);
  CHECK(*ImageReferenceOf(config) == "docker.io/library/demo@" + digest);
  CHECK(*ImageReferenceOf(Parse(kTop)) == "docker.io/library/demo:latest");
  CHECK(RevisionOf(config) != RevisionOf(Parse(kTop)));
  CHECK(SettingsJson(config).find("\"image_digest\":\"" + digest) != std::string::npos);
  for (const char* wrong : {"\"\"", "\"latest\"", "\"sha256:0\"", "\"sha512:0\"", "7"}) {
    CHECK(RefusalOf(std::string("image_digest = ") + wrong).find("image_digest") !=
          std::string::npos);
  }
}

TEST_CASE("autoscale = true alone routes to the nearest over as many as may live") {
  const std::string top = std::string(kTop) + "default_port = 80\nmax_instances = 7\n";
  const ClassConfig config = Parse(top + "autoscale = true\n");
  REQUIRE(config.autoscale);
  CHECK(config.autoscale->max == 7);
  CHECK(config.autoscale->min == 0);
  CHECK(config.route_policy == RoutePolicy::kNearest);
  CHECK(config.route_instances == 7);
  CHECK_FALSE(Parse(top + "autoscale = false\n").autoscale);
  CHECK(Parse(top + "[route]\npolicy = \"nearest\"\ninstances = 4\n").route_instances == 4);
}

TEST_CASE("the settings of the autoscaler are read, and shown with what they are by default") {
  const ClassConfig config = Parse(std::string(kTop) + R"(
default_port = 80
[autoscale]
min = 1
max = 5
target_rps = 20
target_cpu = "off"
target_memory = 0.5
window = "30s"
scale_down_delay = "1m"
)");
  const AutoscaleSettings& scale = *config.autoscale;
  CHECK(scale.min == 1);
  CHECK(scale.target_rps == 20.0);
  CHECK_FALSE(scale.target_concurrency);
  CHECK_FALSE(scale.target_cpu);
  CHECK(scale.target_memory == 0.5);
  CHECK(scale.window == Duration(30s));
  CHECK(scale.scale_down_delay == Duration(60s));
  CHECK(SettingsJson(config).find(
            R"("autoscale":{"min":1,"max":5,"target_rps":20.0,"target_utilization":0.7,)"
            R"("target_cpu":"off","target_memory":0.5,"window":"30s")") != std::string::npos);
}

TEST_CASE("impossible autoscaling is refused with its line and what to do") {
  const std::string top = "default_port = 80\n";
  CHECK(RefusalOf("autoscale = true") ==
        "web.toml:3: autoscale: needs a default_port: a job has no traffic to scale by");
  CHECK(RefusalOf(top + "[autoscale]\nmax = 21") ==
        "web.toml:5: autoscale.max: must be at most max_instances, which is 20");
  CHECK(RefusalOf(top + "[autoscale]\nmin = 3\nmax = 2").find("autoscale.min: must be at most") !=
        std::string::npos);
  CHECK(RefusalOf(top + "[autoscale]\ntarget_rps = 1\ntarget_concurrency = 1")
            .find("exclude each other") != std::string::npos);
  CHECK(RefusalOf(top + "[autoscale]\ntarget_cpu = 1.5").find("autoscale.target_cpu: ") !=
        std::string::npos);
  CHECK(RefusalOf(top + "[autoscale]\nwindow = \"5s\"").find("autoscale.window: ") !=
        std::string::npos);
  CHECK(RefusalOf(top + "[autoscale]\nwindow = \"6.5s\"").find("must be whole seconds") !=
        std::string::npos);
  CHECK(RefusalOf(top + "[autoscale]\nmaximum = 1").find("unknown key \"autoscale.maximum\"") !=
        std::string::npos);
  CHECK(RefusalOf(top + "autoscale = 1").find("autoscale: ") != std::string::npos);
  CHECK(RefusalOf(top + "autoscale = true\n[route]\npolicy = \"random\"")
            .find("must be \"nearest\"") != std::string::npos);
  CHECK(RefusalOf(top + "autoscale = true\n[route]\ninstances = 2").find("set max") !=
        std::string::npos);
}

TEST_CASE("a readiness check is read, with the class's port unless it says another") {
  using Check = ReadinessConfig::Check;
  const std::string top = std::string(kTop) + "default_port = 80\n";
  const ReadinessConfig http =
      Parse(top + "[readiness]\nhttp = \"/healthz\"\ninterval = \"2s\"\nfailures = 5\n").readiness;
  CHECK(http.check == Check::kHttp);
  CHECK(http.http_path == "/healthz");
  CHECK(http.port == 80);
  CHECK(http.interval == Duration(2s));
  CHECK(http.failures == 5);
  CHECK(Parse(top + "[readiness]\ntcp = true\nport = 81\n").readiness.port == 81);
  CHECK(Parse(top + "[readiness]\nexec = [\"/bin/ok\"]\nrestart_after = 3\n").readiness.exec ==
        std::vector<std::string>{"/bin/ok"});
  CHECK(Parse(top + "[readiness]\nmax_cpu = 0.5\n").readiness.check == Check::kListening);
}

TEST_CASE("impossible readiness checks are refused") {
  const std::string top = "default_port = 80\n[readiness]\n";
  CHECK(RefusalOf("[readiness]\ntcp = true") ==
        "web.toml:3: readiness: needs a port to check; the class has none");
  CHECK(RefusalOf(top + "http = \"healthz\"").find("must be a path") != std::string::npos);
  CHECK(RefusalOf(top + "http = \"/a b\"").find("must be a path") != std::string::npos);
  CHECK(RefusalOf(top + "exec = []").find("must name a program") != std::string::npos);
  CHECK(RefusalOf(top + "http = \"/\"\nexec = [\"a\"]").find("exclude each other") !=
        std::string::npos);
  CHECK(RefusalOf(top + "http = \"/\"\ntcp = true").find("leave one out") != std::string::npos);
  CHECK(RefusalOf(top + "port = 8080").find("of no use") != std::string::npos);
  CHECK(RefusalOf(top + "failures = 0").find("readiness.failures: ") != std::string::npos);
  CHECK(RefusalOf(top + "max_memory = 2").find("readiness.max_memory: ") != std::string::npos);
}

TEST_CASE("restart, disk, busy_cpu, hooks and log are read") {
  const ClassConfig config = Parse(std::string(kTop) + R"(
restart = "always"
disk = "keep"
busy_cpu = 0.05
[hooks]
on_start = ["/bin/notify", "up"]
on_activity_expired = ["/bin/may-sleep"]
[log]
max_size = "1MiB"
files = 5
)");
  CHECK(config.restart == RestartPolicy::kAlways);
  CHECK(config.disk == Disk::kKeep);
  CHECK(config.busy_cpu == 0.05);
  CHECK(config.hooks.on_start == std::vector<std::string>{"/bin/notify", "up"});
  CHECK(config.hooks.on_stop.empty());
  CHECK(config.hooks.on_activity_expired == std::vector<std::string>{"/bin/may-sleep"});
  CHECK(config.log == LogLimits{1 << 20, 5});
}

TEST_CASE("a class with a port is restarted on failure by default, a job is not") {
  CHECK(Parse(std::string(kTop) + "default_port = 80\n").restart == RestartPolicy::kOnFailure);
  CHECK(Parse(kTop).restart == RestartPolicy::kNever);
  CHECK(Parse(std::string(kTop) + "restart = \"always\"\n").restart == RestartPolicy::kAlways);
}

TEST_CASE("impossible hooks, logs and restarts are refused") {
  CHECK(RefusalOf("restart = \"sometimes\"").starts_with("web.toml:3: restart: "));
  CHECK(RefusalOf("disk = 1").starts_with("web.toml:3: disk: "));
  CHECK(RefusalOf("busy_cpu = 0").starts_with("web.toml:3: busy_cpu: "));
  CHECK(RefusalOf("[hooks]\non_start = []").starts_with("web.toml:4: hooks.on_start: must name"));
  CHECK(RefusalOf("[hooks]\non_start = \"true\"").starts_with("web.toml:4: hooks.on_start: "));
  CHECK(RefusalOf("[hooks]\non_wake = [\"a\"]")
            .starts_with("web.toml:4: unknown key \"hooks.on_wake\""));
  CHECK(RefusalOf("[log]\nmax_size = \"1KiB\"") ==
        "web.toml:4: log.max_size: must be at least 64KiB");
  CHECK(RefusalOf("[log]\nfiles = 0").starts_with("web.toml:4: log.files: "));
}

TEST_CASE("sleep_after takes never and seconds, also for a job") {
  CHECK(Parse(std::string(kTop) + "default_port = 1\nsleep_after = \"never\"\n").sleep_after ==
        std::nullopt);
  CHECK(Parse(std::string(kTop) + "sleep_after = 90\n").sleep_after == Duration(90s));
  CHECK(Parse(std::string(kTop) + "sleep_after = \"0.5\"\n").sleep_after == Duration(500ms));
}

TEST_CASE("by default routing stays within max_instances") {
  CHECK(Parse(std::string(kTop) + "max_instances = 2\n").route_instances == 2);
  CHECK(RefusalOf("max_instances = 2\n[route]\ninstances = 3") ==
        "web.toml:5: route.instances: must be at most max_instances, which is 2, or not all can be "
        "awake");
}

TEST_CASE("stop_signal takes names and numbers") {
  for (const char* text : {"\"SIGTERM\"", "\"TERM\"", "\"15\"", "15"}) {
    CHECK(Parse(std::string(kTop) + "stop_signal = " + text + "\n").stop_signal == 15);
  }
}

TEST_CASE("the settings of a job are shown with their effective values") {
  CHECK(
      SettingsJson(Parse(kTop)) ==
      R"({"name":"web","image":"demo:latest","pull_policy":"missing","image_digest":null,)"
      R"("default_port":null,)"
      R"("default_protocol":null,"required_ports":[],"entrypoint":null,"user":null,"workdir":null,)"
      R"("env":{},"labels":{},)"
      R"("sleep_after":"never","tcp_idle":"never","manual_start":false,"create":"get","max_instances":20,)"
      R"("max_concurrency":null,"start_timeout":"20s","stop_signal":null,"stop_grace":"10s",)"
      R"("drain":"30s","response_timeout":"5m","restart":"never","busy_cpu":null,"disk":"ephemeral",)"
      R"("read_only":false,"nofile":1024,)"
      R"("dial":"private","autoscale":false,)"
      R"("readiness":{"interval":"1s","timeout":"1s","failures":3,"successes":1,)"
      R"("restart_after":null,"max_cpu":0.9,"max_memory":0.95},"port":[],)"
      R"("resources":{"cpus":null,"memory":null,"pids":512,"disk":"10GiB"},)"
      R"("volume":[],"security":{"cap_add":[],"cap_drop":[],"seccomp":"default",)"
      R"("apparmor":"default","no_new_privileges":true,"systempaths":"default"},)"
      R"("hooks":{"on_start":null,"on_stop":null,"on_error":null,"on_activity_expired":null},)"
      R"("log":{"max_size":"10MiB","files":2},)"
      R"("route":{"policy":"random","instances":3},"network":{"internet":true}})");
}

TEST_CASE("the settings of a web class are shown as a class file writes them") {
  const std::string json = SettingsJson(Parse(std::string(kTop) + R"(
default_port = 8080
stop_signal = 15
sleep_after = 90
env = { A = "\"" }
[[port]]
port = 9090
[resources]
cpus = 0.5
memory = "512m"
)"));
  for (const char* part : {
           R"("default_port":8080,"default_protocol":"http","required_ports":[8080])",
           R"("env":{"A":"\""})",
           R"("sleep_after":"1m30s")",
           R"("stop_signal":"SIGTERM")",
           R"("port":[{"port":9090,"protocol":"http"}])",
           R"("resources":{"cpus":0.5,"memory":"512MiB","pids":512,"disk":"10GiB"})",
       }) {
    CHECK(json.find(part) != std::string::npos);
  }
}

TEST_CASE("a file that is no TOML is refused in one line, whatever stands in it") {
  // Each was a crash, or two lines.
  for (const char* text :
       {"[  =a", "t\xef\xbb\x9f_= 7", "a = \xef\xbb\x9f", "a = fa\nls", "a = 'b\nc'"}) {
    const std::string message = Refusal(text);
    CHECK(message.starts_with("web.toml:1: "));
    CHECK(message.find('\n') == std::string::npos);
  }
}

TEST_CASE("a file that is nested without end is refused") {
  std::string key = "a";
  for (int i = 0; i < 200'000; ++i) key += ".a";
  CHECK(Refusal(key + " = 1").find("nested") != std::string::npos);
  CHECK(Refusal("[" + key + "]").find("nested") != std::string::npos);
  CHECK(Refusal("a = " + std::string(200'000, '[')).starts_with("web.toml:1: "));
}

}  // namespace ctr
