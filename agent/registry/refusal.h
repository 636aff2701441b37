// What an answer other than the one that was asked for says besides its status.
#pragma once

#include <string>

#include "agent/base/time.h"
#include "agent/registry/http.h"

namespace ctr {

// How long the other side asks to be left alone (Retry-After, in seconds or until a date, by its
// own clock), a day at most; zero if it does not say.
Duration AskedWait(const HttpResponse& response);

// The registry's own first error (Distribution API: {"errors": [{"code", "message"}]}) for the end
// of a message: `; it says "DENIED: no access"`, in one line of at most some 200 bytes. "" if there
// is none.
std::string ItsWords(const HttpResponse& response);

}  // namespace ctr
