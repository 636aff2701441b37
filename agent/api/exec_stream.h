#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "agent/api/running_exec.h"
#include "agent/base/semaphore.h"
#include "agent/rpc/serve.h"
#include "ctr/v1/agent.pb.h"

namespace ctr {

// Moves the bytes between a client and a process, and its signals, until the process has exited and
// all of its output is with the client. Lives on a strand of the work pool, which alone may touch
// it, and crosses to control for what is done to the process. Each direction holds back who is
// faster: output is read as fast as the client takes it, input is taken up to a window.
class ExecStream : public std::enable_shared_from_this<ExecStream> {
 public:
  ExecStream(asio::any_io_executor strand, asio::any_io_executor control, Clock& clock,
             rpc::StreamReader<v1::ExecRequest>& reader,
             rpc::StreamWriter<v1::ExecResponse>& writer, std::shared_ptr<RunningExec> exec,
             ExecStreams streams);

  // Returns once the exit was sent. After it, or when it is cancelled, nothing of this touches
  // reader and writer any more.
  awaitable<Status> Run();

 private:
  class Closing;

  // Each is a coroutine of its own, and ends when the stream is over.
  void Begin(awaitable<void> task, std::function<void()> on_end);
  awaitable<void> SendOutput(asio::posix::stream_descriptor& source, bool error);
  awaitable<void> TakeRequests();
  awaitable<void> FeedInput();
  awaitable<void> AwaitExit();
  awaitable<Status> Take(v1::ExecRequest request);
  awaitable<void> Send(v1::ExecResponse response);
  template <typename T>
  awaitable<T> OnControl(awaitable<T> task);

  const asio::any_io_executor strand_;
  const asio::any_io_executor control_;
  Clock& clock_;
  rpc::StreamReader<v1::ExecRequest>& reader_;
  rpc::StreamWriter<v1::ExecResponse>& writer_;
  const std::shared_ptr<RunningExec> exec_;
  const std::unique_ptr<Alarm> changed_;
  const std::unique_ptr<Alarm> input_changed_;
  Semaphore turn_;  // of writing
  asio::posix::stream_descriptor input_;
  asio::posix::stream_descriptor output_;
  asio::posix::stream_descriptor error_;
  std::deque<std::string> queue_;  // of input
  size_t queued_bytes_ = 0;
  uint64_t taken_bytes_ = 0;
  bool input_ended_ = false;
  bool over_ = false;
  int writing_ = 0;
  int outputs_ = 0;
  MonoTime last_output_;
  Status failure_;
  std::optional<StatusOr<int>> exit_;
};

}  // namespace ctr
