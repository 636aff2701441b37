#pragma once

#include "agent/base/asio.h"

namespace ctr {

// Closes what may be closed already, and ends whoever waits on it.
inline void Close(asio::posix::stream_descriptor& descriptor) {
  ErrorCode ignored;
  descriptor.close(ignored);
}

}  // namespace ctr
