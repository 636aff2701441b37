#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip_range.h"

namespace ctr {

// What a resolv.conf says.
struct ResolvConf {
  std::vector<IpRange> nameservers;  // single addresses
  std::vector<std::string> search;
  std::vector<std::string> options;
  bool is_fallback = false;  // none of the host's nameservers can be reached from inside

  bool operator==(const ResolvConf&) const = default;
};

// Reads one as the C library does: unknown lines and addresses that are none are passed over, the
// last `search` or `domain` counts.
ResolvConf ParseResolvConf(std::string_view text);

// What instances get out of the host's: the same search domains and options, and those of its
// nameservers that can be reached from inside. Loopback, link-local and unspecified ones can't, nor
// does one for which `is_own` says that it is an address of this host. If none is left, the public
// ones that Docker takes then (Google's), IPv6 ones only with `has_ipv6`.
ResolvConf ForInstances(ResolvConf host, const std::function<bool(const IpRange&)>& is_own,
                        bool has_ipv6);

std::string FormatResolvConf(const ResolvConf& conf);

// What instances have while the host's files change. Those that run are not to lose their names
// because a resolver of the host is just being restarted, or because they read the file long ago.
class FollowedResolvConf {
 public:
  // `found`: what they would get out of the host's files now, looked up once a second. Whether they
  // get another than before: a fallback is taken only once it has been all there is for a minute.
  bool Follow(ResolvConf found);

  const ResolvConf& current() const { return current_; }
  // The current nameservers, and the last of those before: who read the file once goes on asking
  // them.
  const std::vector<IpRange>& nameservers() const { return nameservers_; }

 private:
  ResolvConf current_;
  std::vector<IpRange> nameservers_;
  int fallbacks_ = 0;  // in a row
};

}  // namespace ctr
