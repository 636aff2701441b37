#include "agent/model/class_config.h"

#include <algorithm>

#include <openssl/sha.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/model/reference.h"

namespace ctr {
namespace {

// Length-prefixed fields: no two different configs spell the same text.
class Canonical {
 public:
  void Add(std::string_view field) {
    absl::StrAppend(&text_, field.size(), ":", std::string(field));
  }
  void Add(int64_t number) { Add(absl::StrCat(number)); }
  template <typename T>
  void AddOptional(const std::optional<T>& value) {
    Add(value.has_value() ? 1 : 0);
    if (value) Add(static_cast<int64_t>(*value));
  }
  void AddList(const std::vector<std::string>& list) {
    Add(static_cast<int64_t>(list.size()));
    for (const std::string& word : list) Add(word);
  }
  void AddMap(const std::map<std::string, std::string>& map) {
    Add(static_cast<int64_t>(map.size()));
    for (const auto& [key, value] : map) {
      Add(key);
      Add(value);
    }
  }

  void AddVolume(const Volume& volume) {
    Add("volume");
    Add(volume.path);
    Add(volume.host);
    Add(volume.read_only);
    Add(volume.size_bytes);
  }
  void AddSecurity(const Security& security) {
    Add("security");
    AddList(security.cap_add);
    AddList(security.cap_drop);
    Add(security.seccomp);
    Add(security.masked_paths);
    Add(security.no_new_privileges);
    Add(security.apparmor);
  }

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace

const PortConfig* ClassConfig::FindPort(uint16_t port) const {
  auto found =
      std::find_if(ports.begin(), ports.end(), [&](const PortConfig& p) { return p.port == port; });
  return found == ports.end() ? nullptr : &*found;
}

StatusOr<std::string> ImageReferenceOf(const ClassConfig& config) {
  CTR_ASSIGN_OR_RETURN(std::string reference, NormalizeReference(config.image));
  return config.image_digest.empty() ? reference : AtDigest(reference, config.image_digest);
}

// How many there are, who makes and starts them, and which of them a request goes to, is nothing
// that one of them is started with.
std::string RevisionOf(const ClassConfig& config) {
  Canonical c;
  c.Add(config.name);
  c.Add(config.image);
  c.AddOptional(config.default_port);
  c.Add(static_cast<int64_t>(config.ports.size()));
  for (const PortConfig& port : config.ports) {
    c.Add(port.port);
    c.Add(static_cast<int64_t>(port.protocol));
  }
  c.Add(static_cast<int64_t>(config.required_ports.size()));
  for (uint16_t port : config.required_ports) c.Add(port);
  c.Add(config.entrypoint ? static_cast<int64_t>(config.entrypoint->size()) : -1);
  for (const std::string& word : config.entrypoint.value_or(std::vector<std::string>()))
    c.Add(word);
  c.AddMap(config.env);
  c.AddMap(config.labels);
  c.Add(config.sleep_after ? config.sleep_after->count() : -1);
  c.Add(config.start_timeout.count());
  c.AddOptional(config.stop_signal);
  c.Add(config.stop_grace.count());
  c.Add(config.drain.count());
  c.Add(static_cast<int64_t>(config.dial));
  c.Add(config.resources.cpus ? absl::StrCat(*config.resources.cpus) : "none");
  c.AddOptional(config.resources.memory_bytes);
  c.Add(config.resources.pids);
  c.AddOptional(config.resources.disk_bytes);
  c.Add(config.nofile);
  c.Add(config.read_only);
  c.AddOptional(config.max_concurrency);
  c.Add(static_cast<int64_t>(config.restart));
  c.Add(config.busy_cpu ? absl::StrCat(*config.busy_cpu) : "none");
  c.Add(static_cast<int64_t>(config.disk));
  c.AddList(config.hooks.on_start);
  c.AddList(config.hooks.on_stop);
  c.AddList(config.hooks.on_error);
  c.AddList(config.hooks.on_activity_expired);
  c.Add(config.log.max_size_bytes);
  c.Add(config.log.files);
  // What came later is added only where it is set: revisions stay what they were.
  if (!config.image_digest.empty()) c.Add("image_digest " + config.image_digest);
  if (config.tcp_idle) c.Add(config.tcp_idle->count());
  if (config.response_timeout != ClassConfig().response_timeout) {
    c.Add(absl::StrCat("response_timeout ",
                       config.response_timeout.value_or(Duration::zero()).count()));
  }
  if (!config.internet) c.Add("no internet");
  if (config.readiness != ReadinessConfig()) {
    const ReadinessConfig& readiness = config.readiness;
    c.Add("readiness");
    c.Add(static_cast<int64_t>(readiness.check));
    c.Add(readiness.http_path);
    c.AddList(readiness.exec);
    c.Add(readiness.port);
    c.Add(readiness.interval.count());
    c.Add(readiness.timeout.count());
    c.Add(readiness.failures);
    c.Add(readiness.successes);
    c.AddOptional(readiness.restart_after);
    c.Add(absl::StrCat(readiness.max_cpu, " ", readiness.max_memory));
  }
  if (config.user) c.Add("user " + *config.user);
  if (config.workdir) c.Add("workdir " + *config.workdir);
  for (const Volume& volume : config.volumes) c.AddVolume(volume);
  if (config.security != Security()) c.AddSecurity(config.security);

  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(c.text().data()), c.text().size(), digest);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), 6));
}

}  // namespace ctr
