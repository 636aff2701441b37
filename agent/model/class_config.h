#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/time.h"

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

struct Resources {
  std::optional<double> cpus;           // cores; none: no limit
  std::optional<int64_t> memory_bytes;  // none: no limit
  int64_t pids = 512;

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

// A container class as its file says, defaults filled in. A value; compared to tell whether an
// apply changes anything.
struct ClassConfig {
  std::string name;
  std::string image;                     // as written; NormalizeReference gives the full form
  std::optional<uint16_t> default_port;  // none and no ports: a job
  std::vector<PortConfig> ports;         // every declared port, default_port first
  std::vector<uint16_t> required_ports;  // all must listen before an instance is healthy
  std::optional<std::vector<std::string>> entrypoint;  // none: the image's
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
  RestartPolicy restart = RestartPolicy::kOnFailure;
  std::optional<double> busy_cpu;  // cores; one that uses more does not sleep; none: not looked at
  Disk disk = Disk::kEphemeral;
  Dial dial = Dial::kPrivate;
  Resources resources;
  int nofile = 1024;                   // soft limit of open files
  bool read_only = false;              // the root file system
  int route_instances = 3;             // random: over instance-0 … instance-N-1
  std::optional<int> max_concurrency;  // in-flight requests an instance; none: no limit
  Hooks hooks;
  LogLimits log;

  bool IsJob() const { return ports.empty(); }
  const PortConfig* FindPort(uint16_t port) const;

  bool operator==(const ClassConfig&) const = default;
};

// Identifies what an instance of this class is started with: 12 hex digits of a SHA-256 over every
// field.
std::string RevisionOf(const ClassConfig& config);

}  // namespace ctr
