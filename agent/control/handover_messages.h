// What an agent and the one that takes over from it tell each other, a message each. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/model/names.h"
#include "agent/proxy/waker.h"

namespace ctr::handover {

// Another protocol is another number: the two refuse each other, and the running one runs on.
inline constexpr int kProtocol = 1;

// RUN/takeover.sock.
std::string SocketPath(const std::string& run_dir);

// The kind of a message is its first word; those that are nothing else are sent as they stand.
inline constexpr std::string_view kTakeOver = "take-over";  // to the running agent
inline constexpr std::string_view kReload = "reload";       // start a new one, that takes over
inline constexpr std::string_view kCommit = "commit";       // all is well so far: leave it to me
inline constexpr std::string_view kReady = "ready";         // I serve
inline constexpr std::string_view kRefused = "refused";     // from the running agent; with why
inline constexpr std::string_view kDescriptors = "descriptors";  // with their names
inline constexpr std::string_view kYours = "yours";              // that was all of it; I hold still
inline constexpr std::string_view kCommitted = "committed";      // it is yours for good
inline constexpr std::string_view kDone = "done";                // of a reload
inline constexpr std::string_view kCount = "count";
inline constexpr std::string_view kWake = "wake";
inline constexpr std::string_view kTaken = "taken";
inline constexpr std::string_view kAwake = "awake";
inline constexpr std::string_view kFailed = "failed";

std::string_view KindOf(std::string_view message);
// What stands behind the kind: a reason, names.
std::string_view RestOf(std::string_view message);

struct TakeOver {
  int protocol = kProtocol;
  std::string version = {};
};
std::string Encode(const TakeOver& message);
StatusOr<TakeOver> DecodeTakeOver(std::string_view message);

std::string EncodeDescriptors(const std::vector<std::string>& names);
std::vector<std::string> DecodeDescriptors(std::string_view message);

// What the old agent still has in one instance.
struct Count {
  InstanceName name;
  uint64_t in_flight = 0;
  uint64_t tunnels = 0;  // of them
  uint64_t visits = 0;   // execs and copies
  MonoTime last_tunnel_activity = {};

  friend bool operator==(const Count&, const Count&) = default;
};
std::string Encode(const Count& message);
StatusOr<Count> DecodeCount(std::string_view message);

// A request of the old agent asks for its instance.
struct Wake {
  uint64_t number = 0;
  WakeOrigin origin = WakeOrigin::kRequest;
  MonoTime deadline = {};
  size_t bytes = 0;  // that it keeps in memory
  InstanceName name;
  std::string cause;
};
std::string Encode(const Wake& message);
StatusOr<Wake> DecodeWake(std::string_view message);

// It is let in, and counted until the old agent has taken it into its own count (kTaken). The
// network namespace goes along.
struct Awake {
  uint64_t number = 0;
  InstanceName name = {};  // where the class's policy has picked it, too
  uint64_t generation = 0;
  bool dial_loopback = false;
};
std::string Encode(const Awake& message);
StatusOr<Awake> DecodeAwake(std::string_view message);

std::string EncodeTaken(uint64_t number);
StatusOr<uint64_t> DecodeTaken(std::string_view message);

// It is not: `status` keeps its code, the ingress's code and when to try again.
struct Failed {
  uint64_t number = 0;
  Status status;
};
std::string Encode(const Failed& message);
StatusOr<Failed> DecodeFailed(std::string_view message);

}  // namespace ctr::handover
