#pragma once

#include <string>
#include <vector>

namespace ctr {

// Names of the files that an instance has instead of its image's.
inline constexpr char kHostsFile[] = "hosts";
inline constexpr char kHostnameFile[] = "hostname";
inline constexpr char kResolvConfFile[] = "resolv.conf";
inline constexpr const char* kEtcFiles[] = {kHostsFile, kHostnameFile, kResolvConfFile};

// What an instance is called, and how it finds others.
struct EtcFilesInput {
  std::string hostname;
  std::vector<std::string> addresses = {};  // its own, as text: the hostname leads there
};

// The texts of /etc/hosts, /etc/hostname and /etc/resolv.conf, as Docker writes them.
struct EtcFiles {
  std::string hosts;
  std::string hostname;
  std::string
      resolv_conf;  // empty: names are looked up nowhere; with a way out another takes its place
};
EtcFiles MakeEtcFiles(const EtcFilesInput& input);

}  // namespace ctr
