#pragma once

#include <string>

#include "agent/base/error.h"
#include "agent/proxy/http_head.h"

// What the ingress answers itself. Pure.
namespace ctr {

// The HTTP status of an error, by its code: 404 of unknown_class, 503 of draining …, of bad_request
// also by its detail; 500 of one that the ingress does not know.
int HttpStatusOf(const Status& error);

// How to answer; taken from the request, so far as it was read.
struct AnswerForm {
  bool json = false;  // Accept asks for application/json
  bool head = false;  // answers a HEAD: no body
  bool http10 = false;
  bool keep_alive = false;
};

// The whole answer: status, `Ctr-Error: <code>`, Retry-After with 503, and one line of text or
// {"error":{"code":…,"message":…}}.
std::string ErrorAnswer(const Status& error, AnswerForm form);

// Whether an Accept field asks for JSON by name.
bool WantsJson(const Fields& fields);

}  // namespace ctr
