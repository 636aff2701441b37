#pragma once

namespace ctr::rpc {

// Keeps the threads of gRPC's callback API for the life of the process; from the first call on,
// once. gRPC 1.51 ends them when the last channel that used them goes, and it may go on one of
// those very threads, when a finished call lets go of it: the thread then joins itself and goes on
// with a queue that was freed ("assertion failed: prior > 0").
void KeepCallbackThreads();

}  // namespace ctr::rpc
