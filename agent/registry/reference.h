#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace ctr {

// A reference in its parts, as the Distribution API takes them.
struct RegistryReference {
  std::string host;        // "docker.io", "localhost:5000"
  std::string repository;  // "library/demo"
  std::string tag;         // "" if there is a digest
  std::string digest;      // "" if there is a tag

  // What stands last in the path of a manifest.
  const std::string& Wanted() const { return digest.empty() ? tag : digest; }
};

// Takes apart what NormalizeReference gives. INVALID_ARGUMENT for a digest other than a SHA-256,
// which we can't verify.
StatusOr<RegistryReference> SplitReference(std::string_view normalized);

// Where the API of a registry is served: docker.io's is elsewhere.
std::string ApiHost(const std::string& host);

// Whether a host, with or without a port, is this machine by its mere name: "localhost",
// 127.0.0.0/8, "[::1]".
bool IsLoopbackHost(std::string_view host);

// scheme, host and port of "https://host:5000/v2/…", in lower case and with the scheme's port left
// out: "https://host:5000". "" for what is no http or https URL.
std::string OriginOf(std::string_view url);
// The host of an origin, with its port.
std::string HostOf(std::string_view url);

}  // namespace ctr
