#pragma once

#include <memory>

#include "agent/base/asio.h"
#include "agent/base/time.h"

namespace ctr {

// A waiting place for one coroutine: it sleeps until a time or until somebody rings. Made by a
// Clock; used on the loop of the executor that it was made with, and outlives every WaitUntil of
// it.
class Alarm {
 public:
  virtual ~Alarm() = default;

  // Returns at `time`, or as soon as Ring() was called since the last WaitUntil returned (a ring is
  // never lost).
  virtual awaitable<void> WaitUntil(MonoTime time) = 0;
  virtual void Ring() = 0;
};

// The source of time, so that tests move it by hand. Now() and Wall() may be called from any
// thread.
class Clock {
 public:
  virtual ~Clock() = default;

  virtual MonoTime Now() const = 0;
  virtual WallTime Wall() const = 0;
  virtual std::unique_ptr<Alarm> MakeAlarm(asio::any_io_executor executor) = 0;

  // Returns at `time`, on the caller's executor.
  awaitable<void> SleepUntil(MonoTime time);
};

class SystemClock final : public Clock {
 public:
  MonoTime Now() const override;
  WallTime Wall() const override;
  std::unique_ptr<Alarm> MakeAlarm(asio::any_io_executor executor) override;
};

}  // namespace ctr
