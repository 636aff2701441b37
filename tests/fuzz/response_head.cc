// An instance's bytes up to the head that goes on to a client: read again, that says the same.
#include <string>

#include "agent/proxy/http_rewrite.h"
#include "tests/fuzz/http.h"

namespace ctr {
namespace {

// Our own fields and those of the connection come behind the instance's.
void CheckFields(const Fields& written, const Fields& read) {
  Texts mine = EndToEnd(written);
  const Texts theirs = EndToEnd(read);
  std::erase_if(mine, [](const auto& field) { return field.first == "Server-Timing"; });
  Texts expected = theirs;
  std::erase_if(expected, [](const auto& field) { return field.first == "Server-Timing"; });
  CTR_HOLDS(mine == expected);
  CTR_HOLDS(Count(written, FieldId::kHopByHop) == 0);
  CTR_HOLDS(Count(written, FieldId::kCtr) == 0);
}

void CheckSwitch(const ResponseHead& head) {
  std::string out;
  AppendSwitchResponse(out, head, {"web", "alice"}, {});
  CheckLines(out);
  const StatusOr<ResponseHead> again = ParseResponseHead(out, AnswerTo::kOther);
  CTR_HOLDS(again.ok() && again->status == 101);
  CTR_HOLDS(!again->content_length && !again->chunked);
}

void CheckInterim(const ResponseHead& head) {
  std::string out;
  AppendInterimResponse(out, head);
  CheckLines(out);
  const StatusOr<ResponseHead> again = ParseResponseHead(out, AnswerTo::kOther);
  CTR_HOLDS(again.ok());
  CTR_HOLDS(again->status == head.status && again->reason == head.reason);
  CTR_HOLDS(!again->content_length && !again->chunked);
  CheckFields(again->fields, head.fields);
}

void CheckPassedOn(const ResponseHead& head, AnswerTo answer_to, ClientSide client) {
  const ClientFraming framing = FrameForClient(head, client);
  std::string out;
  AppendClientResponse(out, head, client, framing, {"web", "alice"}, {});
  CheckLines(out);
  if (!MayGrow(head.fields)) return;
  CTR_HOLDS(ScanHead(out, LineEnds::kStrict, out.size() / 2) == out.size());
  const StatusOr<ResponseHead> again = ParseResponseHead(out, answer_to);
  CTR_HOLDS(again.ok());
  CTR_HOLDS(again->status == head.status && again->reason == head.reason);
  CTR_HOLDS(again->body.kind == framing.kind);
  if (framing.kind == BodyKind::kFixed) CTR_HOLDS(again->body.length == head.body.length);
  if (framing.kind == BodyKind::kUntilClose) CTR_HOLDS(!framing.keep_alive);
  // HTTP/1.0 knows no chunks, and keeps a connection only where that is said.
  CTR_HOLDS(!(client.http10 && again->chunked));
  CTR_HOLDS(again->keep_alive == framing.keep_alive);
  if (head.status != 426) {  // which says what to upgrade to
    CTR_HOLDS(Count(again->fields, FieldId::kConnection) == (client.http10 || !framing.keep_alive));
  }
  CTR_HOLDS(Count(again->fields, FieldId::kContentLength) +
                Count(again->fields, FieldId::kTransferEncoding) <=
            1);
  CTR_HOLDS(Count(again->fields, FieldId::kCtrInstance) == 1);
  CheckFields(again->fields, head.fields);
}

}  // namespace

void Fuzz(std::string_view input) {
  const size_t size = ScanHead(input, LineEnds::kLenient, input.size() / 2);
  if (size == 0) return;
  for (AnswerTo answer_to : {AnswerTo::kHead, AnswerTo::kOther}) {
    const StatusOr<ResponseHead> head = ParseResponseHead(input.substr(0, size), answer_to);
    if (!head.ok()) {
      CTR_HOLDS(ErrorCodeOf(head.status()) == code::kUpstreamError);
      return;
    }
    if (head->status == 101) return CheckSwitch(*head);
    if (head->status < 200) return CheckInterim(*head);
    for (bool http10 : {false, true}) {
      for (bool keep_alive : {false, true}) {
        CheckPassedOn(*head, answer_to, {.http10 = http10, .keep_alive = keep_alive});
      }
    }
  }
}

}  // namespace ctr
