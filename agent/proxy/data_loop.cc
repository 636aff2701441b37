#include "agent/proxy/data_loop.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "spdlog/spdlog.h"

namespace ctr {
namespace {

// How late a deadline or a vanished client may be noticed.
constexpr Duration kSweepInterval = std::chrono::milliseconds(500);
constexpr Duration kStopLimit = std::chrono::seconds(5);

// struct sched_attr of sched_setattr(2), which glibc 2.36 does not have.
struct SchedAttr {
  uint32_t size = sizeof(SchedAttr);
  uint32_t policy = SCHED_OTHER;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;
  uint64_t deadline = 0;
  uint64_t period = 0;
};

// A short time slice has the kernel let this thread run when it is woken, and not once the slice of
// whoever runs is over (EEVDF's PREEMPT_SHORT, Linux 6.12; older ones ignore it).
void AskForShortSlice() {
  SchedAttr attributes;
  if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER) return;
  attributes.runtime = 100'000;  // ns: the least there is
  ::syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace

DataLoop::DataLoop(const RoutePublisher& routes, Waker& waker, Clock& clock, SessionLimits limits,
                   size_t index, std::string access_log_path)
    : io_(std::make_unique<asio::io_context>(1)),
      sweep_(std::make_unique<asio::steady_timer>(*io_)) {
  context_ = std::make_unique<LoopContext>(*io_, routes, waker, clock, limits, index,
                                           std::move(access_log_path));
}

DataLoop::~DataLoop() { Stop(); }

void DataLoop::Start(std::function<void()> begin) {
  asio::post(*io_, [this] { Turn(); });
  thread_ = std::thread([this, begin = std::move(begin)] {
    ::pthread_setname_np(::pthread_self(), "ctr-data");
    AskForShortSlice();
    if (begin) begin();
    auto work = asio::make_work_guard(*io_);
    io_->run();
  });
}

void DataLoop::Adopt(Accepted accepted) {
  context_->connections.fetch_add(1, std::memory_order_relaxed);
  asio::post(*io_, [context = context_.get(), accepted = std::move(accepted)]() mutable {
    try {
      if (!context->stopping) std::make_shared<Session>(*context, std::move(accepted))->Start();
    } catch (const std::exception& error) {
      spdlog::error("cannot serve a connection: {}", error.what());
    }
    context->connections.fetch_sub(1, std::memory_order_release);
  });
}

void DataLoop::BeginDrain() {
  asio::post(*io_, [this] { context_->draining = true; });
}

void DataLoop::CloseIdle() {
  asio::post(*io_, [this] {
    const std::vector<Session*> sessions(context_->sessions.begin(), context_->sessions.end());
    for (Session* session : sessions) {
      if (context_->sessions.contains(session)) session->CloseIfIdle();
    }
  });
}

void DataLoop::Stop() {
  if (!thread_.joinable()) return;
  asio::post(*io_, [this] {
    context_->stopping = true;
    sweep_->cancel();
    AbortAll();
  });
  const MonoTime limit = std::chrono::steady_clock::now() + kStopLimit;
  while (connections() > 0 && std::chrono::steady_clock::now() < limit) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  io_->stop();
  thread_.join();
  sweep_.reset();
  context_->upstreams.Clear();
  if (context_->wakes > 0 || connections() > 0) {
    static auto* const kept =
        new std::vector<std::pair<std::unique_ptr<asio::io_context>, std::unique_ptr<LoopContext>>>;
    kept->emplace_back(std::move(io_), std::move(context_));
    return;
  }
  context_->poller.Stop();
  io_.reset();  // before the context: what it still holds refers to that
}

void DataLoop::Turn() {
  const MonoTime now = context_->clock.Now();
  const std::vector<Session*> sessions(context_->sessions.begin(), context_->sessions.end());
  for (Session* session : sessions) {
    // One that was aborted may have ended, and another with it.
    if (context_->sessions.contains(session)) session->Sweep(now);
  }
  context_->upstreams.Sweep(now);
  context_->refusals.Sweep(now);
  context_->access_log.Flush();
  context_->routes.Newest();  // an idle loop lets go of old tables, too
  sweep_->expires_after(kSweepInterval);
  sweep_->async_wait([this](ErrorCode error) {
    if (!error) Turn();
  });
}

void DataLoop::AbortAll() {
  const std::vector<Session*> sessions(context_->sessions.begin(), context_->sessions.end());
  for (Session* session : sessions) {
    if (context_->sessions.contains(session)) session->Abort();
  }
}

}  // namespace ctr
