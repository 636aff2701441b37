#pragma once

#include <string>
#include <string_view>

#include "agent/base/time.h"
#include "agent/model/names.h"
#include "agent/proxy/http_head.h"

// Writes the heads that the proxy passes on, from what it has read. Pure.
namespace ctr {

// What the request's forwarding says beside its own fields.
struct Forwarding {
  std::string_view client_address = {};
  std::string_view host_if_missing = {};  // of an HTTP/1.0 request without Host
  // What the client says of X-Forwarded-Host and -Proto is kept: it may be a proxy of ours.
  bool trusted = false;
  bool body_waits = false;  // the client may wait for a 100 before it sends all of its body
  bool upgrade = false;     // the request's Upgrade goes on
};

// Appends the head of `request` as it goes to an instance: HTTP/1.1, hop-by-hop and Ctr-* fields
// left out, Forwarded and X-Forwarded-* set. A chunked body is chunked again, a fixed one keeps its
// length.
void AppendUpstreamRequest(std::string& out, const RequestHead& request, Forwarding forwarding);

// How a response goes to the client: fixed bodies as they are, others chunked, or until the close
// to a client of HTTP/1.0.
struct ClientSide {
  bool http10 = false;
  bool keep_alive = false;  // wanted by the client, and possible from our side
};
struct ClientFraming {
  BodyKind kind = BodyKind::kNone;
  bool keep_alive = false;
};
ClientFraming FrameForClient(const ResponseHead& response, ClientSide client);

struct Timings {
  Duration wake{0};   // waited for a start or thaw
  Duration route{0};  // the rest, from the request's head read to its being handed on
};

// Appends the head of `response` as it goes to the client, with Ctr-Instance and Server-Timing.
void AppendClientResponse(std::string& out, const ResponseHead& response, ClientSide client,
                          ClientFraming framing, const InstanceName& instance, Timings timings);

// Appends the head of a 101 that answers an Upgrade, as it goes to the client.
void AppendSwitchResponse(std::string& out, const ResponseHead& response,
                          const InstanceName& instance, Timings timings);

// Appends an interim response (1xx) as it goes to the client.
void AppendInterimResponse(std::string& out, const ResponseHead& response);

// "Connection: close" or, in HTTP/1.0 where that is not understood, "Connection: keep-alive".
void AppendConnection(std::string& out, bool http10, bool keep_alive);

// Hexadecimal digits of a chunk's size and its line's end.
void AppendChunkSize(std::string& out, size_t size);

}  // namespace ctr
