#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/model/isolation.h"

namespace ctr {

enum class Protocol { kHttp, kTcp };
// Who may make new IDs: `ctr get` and the API alone, or a request at the ingress, too.
enum class CreateBy { kGet, kRequest };
// Which address of the instance the agent connects to: 169.254.77.2, or 127.0.0.1.
enum class Dial { kPrivate, kLoopback };

// Which ends of its process start an instance again.
enum class RestartPolicy { kNever, kOnFailure, kAlways };
// Whether what an instance wrote is kept when it stops.
enum class Disk { kEphemeral, kKeep };

struct PortConfig {
  uint16_t port = 0;
  Protocol protocol = Protocol::kHttp;

  bool operator==(const PortConfig&) const = default;
};

inline constexpr int64_t kDefaultDiskBytes = int64_t{10} << 30;

struct Resources {
  std::optional<double> cpus;           // cores; none: no limit
  std::optional<int64_t> memory_bytes;  // none: no limit
  int64_t pids = 512;
  // What it may write beside its volumes, where the file system has project quotas; none: no limit.
  std::optional<int64_t> disk_bytes = kDefaultDiskBytes;

  bool operator==(const Resources&) const = default;
};

// Commands on the host; an empty one is none.
struct Hooks {
  std::vector<std::string> on_start;
  std::vector<std::string> on_stop;
  std::vector<std::string> on_error;
  std::vector<std::string> on_activity_expired;  // an exit status other than 0: stay awake

  bool operator==(const Hooks&) const = default;
};

// How much of an instance's output is kept: `files` files of `max_size_bytes` each.
struct LogLimits {
  int64_t max_size_bytes = int64_t{10} << 20;
  int files = 2;

  bool operator==(const LogLimits&) const = default;
};

// How a request to the class finds its instance: one of N at random, woken if it sleeps, or the
// best that is ready.
enum class RoutePolicy { kRandom, kNearest };

// When an instance whose process runs is healthy, and when it is overloaded.
struct ReadinessConfig {
  enum class Check {
    kListening,  // every required port listens, looked at from outside
    kTcp,        // `port` takes a connection
    kHttp,       // `port` answers GET `http_path` with 2xx or 3xx
    kExec,       // the command exits with status 0
  } check = Check::kListening;
  std::string http_path;
  std::vector<std::string> exec;
  uint16_t port = 0;
  Duration interval = std::chrono::seconds(1);
  Duration timeout = std::chrono::seconds(1);
  int failures = 3;                  // in a row: no longer healthy
  int successes = 1;                 // in a row: healthy again
  std::optional<int> restart_after;  // failures in a row: it is restarted; none: never
  double max_cpu = 0.9;              // of its limit, or of the host; above either for a while:
  double max_memory = 0.95;          // overloaded

  bool operator==(const ReadinessConfig&) const = default;
};

inline constexpr double kDefaultTargetConcurrency = 50;

// [autoscale]. The words and defaults of Knative's autoscaler where it has them.
struct AutoscaleSettings {
  int min = 0;
  int max = 20;                                   // instance-0 … instance-(max-1)
  std::optional<double> target_concurrency = {};  // requests in flight in one instance, or else
  std::optional<double> target_rps = {};          // requests a second; neither: 50 in flight
  double target_utilization = 0.7;                // the part of the target to steer for
  std::optional<double> target_cpu = 0.7;  // parts of the instance's limit; none: not looked at
  std::optional<double> target_memory = 0.8;
  Duration window = std::chrono::seconds(60);
  double panic_window_percentage = 10;
  double panic_threshold = 200;
  double max_scale_up_rate = 1000;
  double max_scale_down_rate = 2;
  int activation_scale = 1;
  Duration scale_down_delay = Duration::zero();

  bool operator==(const AutoscaleSettings&) const = default;
};

// When its image is pulled: if it is missing at apply or at a start, never, or at each apply, which
// then pins what the registry has.
enum class PullPolicy { kMissing, kNever, kAlways };

// A container class as its file says, defaults filled in. A value; compared to tell whether an
// apply changes anything.
struct ClassConfig {
  std::string name;
  std::string image;  // as written; ImageReferenceOf gives the full form
  PullPolicy pull_policy = PullPolicy::kMissing;
  std::string image_digest;  // of the one digest that it runs; "": what the name means at a start
  std::optional<uint16_t> default_port;  // none and no ports: a job
  std::vector<PortConfig> ports;         // every declared port, default_port first
  std::vector<uint16_t> required_ports;  // all must listen before an instance is healthy
  std::optional<std::vector<std::string>> entrypoint;  // none: the image's
  std::optional<std::string> user;     // "name", "uid", "name:group" …; none: the image's
  std::optional<std::string> workdir;  // absolute; none: the image's
  std::map<std::string, std::string> env;
  std::map<std::string, std::string> labels;
  std::optional<Duration> sleep_after = std::chrono::minutes(10);  // none: never
  // A connection (TCP, WebSocket) keeps its instance awake until that long after its last byte;
  // none: sleep_after.
  std::optional<Duration> tcp_idle;
  bool manual_start = false;
  CreateBy create = CreateBy::kGet;
  int max_instances = 20;
  Duration start_timeout = std::chrono::seconds(20);
  std::optional<int> stop_signal;  // none: the image's, else SIGTERM
  Duration stop_grace = std::chrono::seconds(10);
  Duration drain = std::chrono::seconds(30);  // how long a stop lets in-flight requests finish
  // How long an instance may take from a request to its response's headers; none: forever.
  std::optional<Duration> response_timeout = std::chrono::minutes(5);
  RestartPolicy restart = RestartPolicy::kOnFailure;
  std::optional<double> busy_cpu;  // cores; one that uses more does not sleep; none: not looked at
  Disk disk = Disk::kEphemeral;
  Dial dial = Dial::kPrivate;
  Resources resources;
  int nofile = 1024;       // soft limit of open files
  bool read_only = false;  // the root file system
  std::vector<Volume> volumes;
  Security security;
  RoutePolicy route_policy = RoutePolicy::kRandom;
  int route_instances = 3;  // over instance-0 … instance-N-1; autoscaled: its max
  std::optional<AutoscaleSettings> autoscale;  // none: off
  bool internet = true;                        // a way out, beside `lo`, to public addresses
  ReadinessConfig readiness;
  std::optional<int> max_concurrency;  // in-flight requests an instance; none: no limit
  Hooks hooks;
  LogLimits log;

  bool IsJob() const { return ports.empty(); }
  const PortConfig* FindPort(uint16_t port) const;

  bool operator==(const ClassConfig&) const = default;
};

// What to start an instance of it from: the image's full reference, by its digest where one is
// pinned.
StatusOr<std::string> ImageReferenceOf(const ClassConfig& config);

// Identifies what an instance of this class is started with: 12 hex digits of a SHA-256 over it.
std::string RevisionOf(const ClassConfig& config);

}  // namespace ctr
