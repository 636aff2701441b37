// A client's bytes up to the head that goes on to an instance: read again, that says the same.
#include <string>

#include "agent/proxy/http_rewrite.h"
#include "tests/fuzz/http.h"

namespace ctr {
namespace {

void CheckForwarded(const RequestHead& head, Forwarding forwarding) {
  std::string out;
  AppendUpstreamRequest(out, head, forwarding);
  CheckLines(out);
  if (!MayGrow(head.fields)) return;
  CTR_HOLDS(ScanHead(out, LineEnds::kStrict, out.size() / 2) == out.size());
  const StatusOr<RequestHead> again = ParseRequestHead(out);
  CTR_HOLDS(again.ok());
  CTR_HOLDS(again->method == head.method);
  CTR_HOLDS(again->target == head.target);
  CTR_HOLDS(again->host == (head.host.empty() ? forwarding.host_if_missing : head.host));
  CTR_HOLDS(!again->http10 && again->keep_alive);
  CTR_HOLDS(again->body.kind == head.body.kind);
  CTR_HOLDS(again->body.length == head.body.length);
  CTR_HOLDS(again->expects_continue == (head.expects_continue && forwarding.body_waits));
  const Fields& fields = again->fields;
  CTR_HOLDS(Count(fields, FieldId::kHost) == 1);
  CTR_HOLDS(Count(fields, FieldId::kContentLength) == (head.body.kind == BodyKind::kFixed));
  CTR_HOLDS(Count(fields, FieldId::kTransferEncoding) == (head.body.kind == BodyKind::kChunked));
  for (FieldId mine : {FieldId::kForwarded, FieldId::kForwardedFor, FieldId::kForwardedHost,
                       FieldId::kForwardedProto}) {
    CTR_HOLDS(Count(fields, mine) == 1);
  }
  CTR_HOLDS(again->upgrade == forwarding.upgrade);
  CTR_HOLDS(Count(fields, FieldId::kUpgrade) == forwarding.upgrade);
  CTR_HOLDS(Count(fields, FieldId::kTe) == (head.takes_trailers && !forwarding.upgrade));
  CTR_HOLDS(Count(fields, FieldId::kConnection) == (forwarding.upgrade || head.takes_trailers));
  for (FieldId gone : {FieldId::kHopByHop, FieldId::kCtr, FieldId::kCtrClass, FieldId::kCtrInstance,
                       FieldId::kCtrPort}) {
    CTR_HOLDS(Count(fields, gone) == 0);
  }
  CTR_HOLDS(EndToEnd(fields) == EndToEnd(head.fields));
}

}  // namespace

void Fuzz(std::string_view input) {
  const size_t size = ScanHead(input, LineEnds::kStrict, input.size() / 2);
  if (size == 0) return;
  const StatusOr<RequestHead> head = ParseRequestHead(input.substr(0, size));
  if (!head.ok()) {
    CTR_HOLDS(ErrorCodeOf(head.status()) == code::kBadRequest);
    return;
  }
  CheckForwarded(*head, {.client_address = "10.0.0.9", .host_if_missing = "127.77.0.2:80"});
  CheckForwarded(*head, {.client_address = "2001:db8::1",
                         .host_if_missing = "127.77.0.2:80",
                         .trusted = true,
                         .body_waits = true,
                         .upgrade = head->upgrade});
}

}  // namespace ctr
