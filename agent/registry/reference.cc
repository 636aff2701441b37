#include "agent/registry/reference.h"

#include <arpa/inet.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "agent/base/ipv4.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

constexpr Ipv4Range kLoopbackRange = {0x7F000000, 8};

}  // namespace

StatusOr<RegistryReference> SplitReference(std::string_view normalized) {
  RegistryReference reference;
  const size_t slash = normalized.find('/');
  if (slash == std::string_view::npos) {
    return absl::InternalError("a reference without a registry");
  }
  reference.host = normalized.substr(0, slash);
  std::string_view rest = normalized.substr(slash + 1);
  if (const size_t at = rest.find('@'); at != std::string_view::npos) {
    reference.repository = rest.substr(0, at);
    reference.digest = rest.substr(at + 1);
    if (!IsSha256Digest(reference.digest)) {
      return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
                   absl::StrCat(std::string(normalized),
                                ": only SHA-256 digests can be verified; pull it by tag"));
    }
    return reference;
  }
  const size_t colon = rest.rfind(':');
  reference.repository = rest.substr(0, colon);
  if (colon != std::string_view::npos) reference.tag = rest.substr(colon + 1);
  return reference;
}

std::string ApiHost(const std::string& host) {
  return host == "docker.io" ? "registry-1.docker.io" : host;
}

bool IsLoopbackHost(std::string_view host) {
  if (host.starts_with("[::1]")) return host.size() == 5 || host[5] == ':';
  host = host.substr(0, host.find(':'));
  if (host == "localhost") return true;
  in_addr address;
  return ::inet_pton(AF_INET, std::string(host).c_str(), &address) == 1 &&
         kLoopbackRange.Contains(ntohl(address.s_addr));
}

std::string OriginOf(std::string_view url) {
  std::string text = absl::AsciiStrToLower(absl::string_view(url.data(), url.size()));
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string::npos) return "";
  const std::string scheme = text.substr(0, scheme_end);
  if (scheme != "http" && scheme != "https") return "";
  std::string host = text.substr(scheme_end + 3);
  host = host.substr(0, host.find_first_of("/?#\\"));
  if (const size_t at = host.rfind('@'); at != std::string::npos) host = host.substr(at + 1);
  const std::string usual = scheme == "http" ? ":80" : ":443";
  if (host.ends_with(usual)) host.resize(host.size() - usual.size());
  return host.empty() ? "" : absl::StrCat(scheme, "://", host);
}

std::string HostOf(std::string_view url) {
  const std::string origin = OriginOf(url);
  return origin.empty() ? "" : origin.substr(origin.find("://") + 3);
}

}  // namespace ctr
