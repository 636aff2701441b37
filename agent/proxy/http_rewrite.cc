#include "agent/proxy/http_rewrite.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

namespace ctr {
namespace {

void Append(std::string& out, std::initializer_list<std::string_view> parts) {
  for (std::string_view part : parts) out.append(part);
}

void AppendNumber(std::string& out, uint64_t number, int base = 10) {
  char digits[24];
  auto [end, error] = std::to_chars(digits, digits + sizeof digits, number, base);
  out.append(digits, end);
}

// Milliseconds with three decimals.
void AppendMilliseconds(std::string& out, Duration duration) {
  const auto micros = std::max<int64_t>(0, duration / std::chrono::microseconds(1));
  AppendNumber(out, static_cast<uint64_t>(micros / 1000));
  const int fraction = static_cast<int>(micros % 1000);
  const char decimals[] = {'.', static_cast<char>('0' + fraction / 100),
                           static_cast<char>('0' + fraction / 10 % 10),
                           static_cast<char>('0' + fraction % 10)};
  out.append(decimals, sizeof decimals);
}

// The names that Connection lists beside close and keep-alive: fields for this hop alone.
class ListedFields {
 public:
  explicit ListedFields(const Fields& fields) {
    for (const Field& field : fields) {
      if (field.id == FieldId::kConnection && !EqualsIgnoreCase(field.value, "close") &&
          !EqualsIgnoreCase(field.value, "keep-alive")) {
        lists_.push_back(field.value);
      }
    }
  }
  bool Has(std::string_view name) const {
    return std::any_of(lists_.begin(), lists_.end(),
                       [&](std::string_view list) { return ListHas(list, name); });
  }

 private:
  absl::InlinedVector<std::string_view, 2> lists_;
};

// Whether a field is passed on just as it came.
bool IsPassedOn(FieldId id) {
  switch (id) {
    case FieldId::kOther:
    case FieldId::kAccept:
      return true;
    default:
      return false;
  }
}

void AppendOwnFields(std::string& out, const Fields& fields) {
  const ListedFields listed(fields);
  for (const Field& field : fields) {
    if (IsPassedOn(field.id) && !listed.Has(field.name)) {
      Append(out, {field.name, ": ", field.value, "\r\n"});
    }
  }
}

void AppendForwarded(std::string& out, const RequestHead& request, Forwarded forwarded,
                     std::string_view host) {
  out.append("X-Forwarded-For: ");
  for (const Field& field : request.fields) {
    if (field.id == FieldId::kForwardedFor && !field.value.empty()) {
      Append(out, {field.value, ", "});
    }
  }
  Append(out, {forwarded.client_address, "\r\nX-Forwarded-Host: ", host,
               "\r\nX-Forwarded-Proto: http\r\n"});
}

}  // namespace

void AppendUpstreamRequest(std::string& out, const RequestHead& request, Forwarded forwarded) {
  const std::string_view host = request.host.empty() ? forwarded.host_if_missing : request.host;
  Append(out, {request.method, " ", request.target, " HTTP/1.1\r\nHost: ", host, "\r\n"});
  AppendOwnFields(out, request.fields);
  AppendForwarded(out, request, forwarded, host);
  if (request.body.kind == BodyKind::kFixed) {
    out.append("Content-Length: ");
    AppendNumber(out, request.body.length);
    out.append("\r\n");
  } else if (request.body.kind == BodyKind::kChunked) {
    out.append("Transfer-Encoding: chunked\r\n");
  }
  out.append("\r\n");
}

ClientFraming FrameForClient(const ResponseHead& response, ClientSide client) {
  switch (response.body.kind) {
    case BodyKind::kNone:
    case BodyKind::kFixed:
      return {response.body.kind, client.keep_alive};
    default:
      if (client.http10) return {BodyKind::kUntilClose, false};
      return {BodyKind::kChunked, client.keep_alive};
  }
}

void AppendClientResponse(std::string& out, const ResponseHead& response, ClientSide client,
                          ClientFraming framing, const InstanceName& instance, Timings timings) {
  out.append("HTTP/1.1 ");
  AppendNumber(out, static_cast<uint64_t>(response.status));
  Append(out, {" ", response.reason, "\r\n"});
  AppendOwnFields(out, response.fields);
  // An answer to HEAD and a 304 say how long the body would be; a 204 must not.
  const bool has_length = response.content_length && response.status >= 200 &&
                          response.status != 204 && framing.kind != BodyKind::kChunked &&
                          framing.kind != BodyKind::kUntilClose;
  if (has_length) {
    Append(out, {"Content-Length: ", *response.content_length, "\r\n"});
  } else if (framing.kind == BodyKind::kChunked ||
             (response.chunked && framing.kind == BodyKind::kNone && response.status != 204 &&
              !client.http10)) {
    out.append("Transfer-Encoding: chunked\r\n");
  }
  AppendConnection(out, client.http10, framing.keep_alive);
  Append(out,
         {"Ctr-Instance: ", instance.class_name, "/", instance.id, "\r\nServer-Timing: wake;dur="});
  AppendMilliseconds(out, timings.wake);
  out.append(", route;dur=");
  AppendMilliseconds(out, timings.route);
  out.append("\r\n\r\n");
}

void AppendConnection(std::string& out, bool http10, bool keep_alive) {
  if (!keep_alive) {
    out.append("Connection: close\r\n");
  } else if (http10) {
    out.append("Connection: keep-alive\r\n");
  }
}

void AppendChunkSize(std::string& out, size_t size) {
  AppendNumber(out, size, 16);
  out.append("\r\n");
}

}  // namespace ctr
