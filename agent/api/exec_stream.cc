#include "agent/api/exec_stream.h"

#include <utility>

#include "agent/api/requests.h"
#include "agent/base/close.h"
#include "agent/base/work.h"

namespace ctr {
namespace {

constexpr size_t kReadBytes = 32 << 10;
constexpr size_t kInputWindow = 1 << 20;  // agent.proto tells clients
// A process may leave others behind that hold its output open, for ever. What it wrote itself has
// passed the shim long before this.
constexpr Duration kLinger = std::chrono::milliseconds(500);

}  // namespace

// Ends every coroutine of the stream, whatever way Run is left.
class ExecStream::Closing {
 public:
  explicit Closing(ExecStream* stream) : stream_(stream) {}
  Closing(const Closing&) = delete;
  ~Closing() {
    stream_->over_ = true;
    Close(stream_->input_);
    Close(stream_->output_);
    Close(stream_->error_);
    stream_->input_changed_->Ring();
    asio::post(stream_->control_, [exec = stream_->exec_] { exec->End(); });
  }

 private:
  ExecStream* const stream_;
};

ExecStream::ExecStream(asio::any_io_executor strand, asio::any_io_executor control, Clock& clock,
                       rpc::StreamReader<v1::ExecRequest>& reader,
                       rpc::StreamWriter<v1::ExecResponse>& writer,
                       std::shared_ptr<RunningExec> exec, ExecStreams streams)
    : strand_(strand),
      control_(std::move(control)),
      clock_(clock),
      reader_(reader),
      writer_(writer),
      exec_(std::move(exec)),
      changed_(clock.MakeAlarm(strand)),
      input_changed_(clock.MakeAlarm(strand)),
      turn_(strand, clock, 1),
      input_(strand),
      output_(strand),
      error_(strand),
      last_output_(clock.Now()) {
  if (streams.input.valid()) input_.assign(streams.input.Release());
  if (streams.output.valid()) output_.assign(streams.output.Release());
  if (streams.error.valid()) error_.assign(streams.error.Release());
}

template <typename T>
awaitable<T> ExecStream::OnControl(awaitable<T> task) {
  co_return co_await asio::co_spawn(control_, std::move(task), use_awaitable);
}

void ExecStream::Begin(awaitable<void> task, std::function<void()> on_end) {
  // What a coroutine throws is that its descriptor was closed or the client went away: Run notices.
  asio::co_spawn(strand_, std::move(task),
                 [self = shared_from_this(), on_end = std::move(on_end)](std::exception_ptr) {
                   on_end();
                   self->changed_->Ring();
                 });
}

awaitable<Status> ExecStream::Run() {
  auto self = shared_from_this();
  Closing closing(this);
  v1::ExecResponse started;
  started.set_started(true);
  co_await Send(std::move(started));
  for (auto* source : {&output_, &error_}) {
    if (!source->is_open()) continue;
    ++outputs_;
    Begin(SendOutput(*source, source == &error_), [this] { --outputs_; });
  }
  Begin(TakeRequests(), [] {});
  Begin(FeedInput(), [] {});
  Begin(AwaitExit(), [] {});
  while (failure_.ok() && !(exit_ && outputs_ == 0)) {
    MonoTime until = MonoTime::max();
    if (exit_ && writing_ == 0) {
      until = last_output_ + kLinger;
      if (clock_.Now() >= until) break;
    }
    co_await changed_->WaitUntil(until);
  }
  CTR_CO_RETURN_IF_ERROR(failure_);
  CTR_CO_RETURN_IF_ERROR(exit_->status());
  v1::ExecResponse ended;
  ended.set_exit_code(**exit_);
  co_await Send(std::move(ended));
  co_return absl::OkStatus();
}

awaitable<void> ExecStream::AwaitExit() {
  auto self = shared_from_this();
  StatusOr<int> exit = co_await OnControl(exec_->WaitExit());
  last_output_ = clock_.Now();
  exit_ = std::move(exit);
}

awaitable<void> ExecStream::SendOutput(asio::posix::stream_descriptor& source, bool error) {
  auto self = shared_from_this();
  std::string buffer(kReadBytes, '\0');
  while (!over_) {
    size_t count = co_await source.async_read_some(asio::buffer(buffer), use_awaitable);
    v1::ExecResponse response;
    std::string* bytes = error ? response.mutable_stderr() : response.mutable_stdout();
    bytes->assign(buffer, 0, count);
    co_await Send(std::move(response));
    last_output_ = clock_.Now();
    changed_->Ring();
  }
}

awaitable<void> ExecStream::Send(v1::ExecResponse response) {
  auto self = shared_from_this();
  ++writing_;
  struct Counted {
    int& count;
    ~Counted() { --count; }
  } counted{writing_};
  Semaphore::Permit permit = co_await turn_.Acquire();
  if (!over_) co_await writer_.Write(std::move(response));
}

awaitable<void> ExecStream::TakeRequests() {
  auto self = shared_from_this();
  while (!over_) {
    std::optional<v1::ExecRequest> request = co_await reader_.Read();
    if (over_) co_return;
    if (!request) break;
    Status taken = co_await Take(*std::move(request));
    if (!taken.ok()) {
      failure_ = taken;
      co_return;
    }
  }
  input_ended_ = true;
  input_changed_->Ring();
}

awaitable<Status> ExecStream::Take(v1::ExecRequest request) {
  switch (request.message_case()) {
    case v1::ExecRequest::kStdin:
      if (input_ended_) co_return BadRequest("input after its end");
      queued_bytes_ += request.stdin().size();
      if (queued_bytes_ > kInputWindow) co_return BadRequest("more input than the window holds");
      queue_.push_back(std::move(*request.mutable_stdin()));
      input_changed_->Ring();
      break;
    case v1::ExecRequest::kStdinEnd:
      input_ended_ = true;
      input_changed_->Ring();
      break;
    case v1::ExecRequest::kResize: {
      TerminalSize size{static_cast<uint16_t>(request.resize().rows()),
                        static_cast<uint16_t>(request.resize().columns())};
      // A process that has just exited needs neither size nor signal.
      (co_await OnControl(exec_->Resize(size))).IgnoreError();
      break;
    }
    case v1::ExecRequest::kSignal: {
      if (request.signal() < 1 || request.signal() > 64) co_return BadRequest("no such signal");
      (co_await OnControl(exec_->Signal(request.signal()))).IgnoreError();
      break;
    }
    default:
      co_return BadRequest("a message that is neither input, its end, a size nor a signal");
  }
  co_return absl::OkStatus();
}

awaitable<void> ExecStream::FeedInput() {
  auto self = shared_from_this();
  while (!over_) {
    if (queue_.empty()) {
      if (input_ended_) break;
      co_await input_changed_->WaitUntil(MonoTime::max());
      continue;
    }
    std::string bytes = std::move(queue_.front());
    queue_.pop_front();
    // A process that reads no more is no error: what is left is dropped.
    ErrorCode ignored;
    if (input_.is_open()) {
      co_await asio::async_write(input_, asio::buffer(bytes),
                                 asio::redirect_error(use_awaitable, ignored));
    }
    if (over_) co_return;
    queued_bytes_ -= bytes.size();
    taken_bytes_ += bytes.size();
    v1::ExecResponse taken;
    taken.set_stdin_taken(taken_bytes_);
    co_await Send(std::move(taken));
    changed_->Ring();
  }
  if (over_ || !input_.is_open()) co_return;
  Close(input_);
  (co_await OnControl(exec_->CloseInput())).IgnoreError();
}

}  // namespace ctr
