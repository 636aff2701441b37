#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "agent/control/instance.h"
#include "agent/control/log_record.h"
#include "ctr/v1/agent.pb.h"

namespace ctr {

int64_t UnixMilliseconds(WallTime time);

// Writes an instance as it is now.
void ToProto(const Instance& instance, v1::Instance* proto);

void ToProto(const Event& event, v1::Event* proto);

// The API carries UTF-8 alone, and a client's request line may be anything: each byte that is not
// part of a character is shown as '?'.
std::string AsUtf8(std::string text);

void ToProto(const LogRecord& record, v1::LogRecord* proto);

// What there is of a class.
struct InstanceCounts {
  uint32_t known = 0;                              // IDs
  uint32_t outdated = 0;                           // live instances that are Outdated()
  std::map<std::string, uint32_t> live_revisions;  // live instances, by what they were started with
};

void ToProto(const ClassState& state, const InstanceCounts& instances, v1::Class* proto);

// "http://127.77.0.2:8080", or "" if the class has no default port.
std::string UrlOf(uint32_t address, const ClassConfig& config);

}  // namespace ctr
