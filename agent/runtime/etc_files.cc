#include "agent/runtime/etc_files.h"

#include "absl/strings/str_cat.h"

namespace ctr {

EtcFiles MakeEtcFiles(const EtcFilesInput& input) {
  EtcFiles files;
  files.hosts =
      "127.0.0.1\tlocalhost\n"
      "::1\tlocalhost ip6-localhost ip6-loopback\n"
      "fe00::\tip6-localnet\n"
      "ff00::\tip6-mcastprefix\n"
      "ff02::1\tip6-allnodes\n"
      "ff02::2\tip6-allrouters\n";
  for (const std::string& address : input.addresses) {
    absl::StrAppend(&files.hosts, address, "\t", input.hostname, "\n");
  }
  files.hostname = input.hostname + "\n";
  return files;
}

}  // namespace ctr
