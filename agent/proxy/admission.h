#pragma once

#include "agent/proxy/loop_context.h"

namespace ctr {

// Fills in which instance a route means, where the class's policy picks: one of instance-0 … N-1,
// each as likely, or the nearest that is ready; none yet (`id` stays empty) if none of them is.
// Says whose idea the instance then is.
WakeOrigin PickInstance(Route& route, MonoTime now, std::mt19937_64& random);

// Lets a request into `route`'s instance, which PickInstance has settled; wakes it first if need
// be. Errors carry the ingress's codes. A caller that is cancelled cancels the waker's wait: the
// instance then wakes for nobody.
awaitable<StatusOr<Passage>> Admit(LoopContext& loop, Route route, WakeOrigin origin,
                                   MonoTime deadline, std::string cause, size_t bytes);

// The same if it needs no waiting: an empty Passage means that Admit must be asked.
StatusOr<Passage> TryEnter(const std::shared_ptr<Slot>& slot);

}  // namespace ctr
