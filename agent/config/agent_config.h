#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip_range.h"
#include "agent/base/ipv4.h"
#include "agent/base/time.h"
#include "agent/model/image_settings.h"

namespace ctr {

// How connections to instance addresses reach the agent: by its sk_lookup program, by a listener
// for each address, or by whichever of the two works.
enum class SteeringChoice { kAuto, kSkLookup, kBind };

// Where the ingress listens. `address` is an IPv4 or IPv6 address; port 0 takes a free one.
struct HttpAddress {
  std::string address = "127.0.0.1";
  uint16_t port = 8080;

  // "127.0.0.1:8080", "[::1]:8080".
  std::string ToString() const;
};

// [network]: the way out of instances with `internet = true`.
struct NetworkConfig {
  std::optional<IpRange> subnet;  // of their addresses; none: a free one is chosen
  std::vector<IpRange> allow;     // not public, and may be reached all the same
};

// What the agent is told by its file and its command line. A value; read once, at the start.
struct AgentConfig {
  std::string data_dir = "/var/lib/ctr";  // absolute
  std::string run_dir = "/run/ctr";       // absolute
  HttpAddress http;
  std::string containerd;  // path of its socket; "" for a private one
  Ipv4Range instance_range = {0x7F4D0000, 16};
  Ipv4Range class_range = {0x7F4C0000, 16};
  std::vector<std::string> domains = {"localhost"};  // of the ingress's names, lower case
  bool trust_ctr_headers = false;                    // also on listeners that are not loopback
  SteeringChoice steering = SteeringChoice::kAuto;
  // How long a planned stop waits for requests in flight.
  Duration drain = std::chrono::seconds(30);
  // Of the ingress.
  Duration header_timeout = std::chrono::seconds(30);  // for all of a request's header
  Duration idle_timeout = std::chrono::seconds(75);    // of a connection between two requests
  int64_t min_body_rate = 240;                         // bytes a second of a request's body; 0: any
  int64_t max_connections = 0;                         // 0: as many as there are file descriptors
  // 0: any number. By default clients on this host are exempt.
  int64_t max_connections_per_client = 1024;
  bool limits_loopback = false;
  int data_threads;                    // by default one for each core, at most four
  std::optional<HttpAddress> metrics;  // where /metrics is served; none: nowhere
  NetworkConfig network;
  std::string access_log;          // a file, absolute; "": none
  std::string log_level = "info";  // as spdlog names them
  ImageSettings images;
  // Of the disk that instances write to; none: policy::FloorOf's; 0: no floor.
  std::optional<int64_t> min_free_bytes;

  AgentConfig();
};

// Reads the agent's file (TOML). `file_name` is for messages only. INVALID_ARGUMENT "FILE:LINE:
// key: what is wrong" for the first thing that is wrong in it.
StatusOr<AgentConfig> ParseAgentConfig(std::string_view toml, std::string_view file_name);

// The parts that the command line gives, too. INVALID_ARGUMENT says what form is wanted.
StatusOr<HttpAddress> ParseHttpAddress(std::string_view text);
StatusOr<Ipv4Range> ParseLoopbackRange(std::string_view text);
// "/run/x.sock" or "unix:///run/x.sock".
StatusOr<std::string> ParseSocketPath(std::string_view text);
Status CheckRunDir(std::string_view path);

// What must fit together, whichever way it was given.
Status CheckAgentConfig(const AgentConfig& config);

}  // namespace ctr
