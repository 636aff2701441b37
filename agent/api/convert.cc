#include "agent/api/convert.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "agent/base/ipv4.h"
#include "agent/base/utf8.h"
#include "agent/config/class_file.h"
#include "agent/model/reference.h"

namespace ctr {
namespace {

std::string DefaultProtocol(const ClassConfig& config) {
  const PortConfig* port = config.default_port ? config.FindPort(*config.default_port) : nullptr;
  return port != nullptr && port->protocol == Protocol::kTcp ? "tcp" : "http";
}

// The class's default port is where older instances are reached, too, if it takes requests.
std::string UrlOfInstance(const Instance& instance) {
  const ClassConfig& newest = *instance.class_state()->config;
  const uint16_t port = newest.default_port.value_or(0);
  const PortConfig* declared = instance.config().FindPort(port);
  if (declared == nullptr) declared = newest.FindPort(port);
  const bool takes_requests = declared != nullptr && declared->protocol == Protocol::kHttp;
  return UrlOf(instance.record().address, takes_requests ? newest : instance.config());
}

}  // namespace

std::string AsUtf8(std::string text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = Utf8SequenceLength(std::string_view(text).substr(at));
    if (length == 0) text[at] = '?';
    at += std::max<size_t>(length, 1);
  }
  return text;
}

int64_t UnixMilliseconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

std::string UrlOf(uint32_t address, const ClassConfig& config) {
  if (!config.default_port) return "";
  return absl::StrCat(DefaultProtocol(config), "://", FormatIpv4(address), ":",
                      *config.default_port);
}

void ToProto(const Instance& instance, v1::Instance* proto) {
  const InstanceRecord& record = instance.record();
  const Observed& observed = record.observed;
  proto->set_class_(record.name.class_name);
  proto->set_id(record.name.id);
  proto->set_state(std::string(ToString(instance.shown_state())));
  if (observed.state == State::kStopped) {
    proto->set_reason(std::string(ToString(observed.reason)));
    if (observed.exit_code) proto->set_exit_code(*observed.exit_code);
    proto->set_message(observed.message);
  }
  proto->set_address(FormatIpv4(record.address));
  proto->set_url(UrlOfInstance(instance));
  proto->set_generation(observed.generation);
  proto->set_since_ms(UnixMilliseconds(observed.since));
  proto->set_created_at_ms(UnixMilliseconds(record.created_at));
  proto->set_in_flight(instance.slot()->in_flight());
  proto->set_revision(observed.revision);
  proto->set_failures(static_cast<uint32_t>(observed.failures));
  // Who waits for room starts when there is some, not at that time.
  if (observed.next_start && !instance.AwaitsRoom())
    proto->set_next_start_at_ms(UnixMilliseconds(*observed.next_start));
  proto->set_overloaded(observed.state == State::kHealthy && instance.slot()->load().overloaded());
  proto->set_outdated(instance.Outdated());
  proto->set_old_image(instance.RunsOldImage());
  if (instance.container()) proto->set_image_digest(instance.container()->image_digest);
}

void ToProto(const Event& event, v1::Event* proto) {
  proto->set_number(event.number);
  proto->set_at_ms(UnixMilliseconds(event.at));
  proto->set_type(event.type);
  proto->set_class_(event.instance.class_name);
  proto->set_id(event.instance.id);
  proto->set_generation(event.generation);
  proto->set_message(AsUtf8(event.message));
  proto->set_cause(AsUtf8(event.cause));
  if (event.exit_code) proto->set_exit_code(*event.exit_code);
}

void ToProto(const LogRecord& record, v1::LogRecord* proto) {
  proto->set_time_ns(
      std::chrono::duration_cast<std::chrono::nanoseconds>(record.time.time_since_epoch()).count());
  proto->set_stream(record.stream == LogStream::kStdout ? v1::LogRecord::STREAM_STDOUT
                                                        : v1::LogRecord::STREAM_STDERR);
  proto->set_data(record.text);
  proto->set_partial(record.partial);
  proto->set_generation(record.generation);
  proto->set_lost_bytes(record.lost_bytes);
}

void ToProto(const ClassState& state, const InstanceCounts& instances, v1::Class* proto) {
  const ClassConfig& config = *state.config;
  proto->set_name(config.name);
  proto->set_source(state.record.source);
  StatusOr<std::string> image = NormalizeReference(config.image);
  proto->set_image(image.ok() ? *image : config.image);
  proto->set_revision(state.revision);
  proto->set_image_digest(state.image_digest);
  proto->set_outdated_instances(instances.outdated);
  proto->set_address(FormatIpv4(state.record.address));
  proto->set_default_port(config.default_port.value_or(0));
  if (config.default_port) proto->set_default_protocol(DefaultProtocol(config));
  proto->set_url(UrlOf(state.record.address, config));
  proto->set_applied_at_ms(UnixMilliseconds(state.record.applied_at));
  proto->set_instances(instances.known);
  proto->set_live_instances(static_cast<uint32_t>(state.live));
  proto->set_settings_json(SettingsJson(config));
  for (std::string& words : Loosened(config)) {
    proto->add_loosened(std::move(words));
  }
  for (const auto& [revision, count] : instances.live_revisions) {
    (*proto->mutable_live_revisions())[revision] = count;
  }
}

}  // namespace ctr
