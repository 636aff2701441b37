#pragma once

#include <signal.h>

#include <atomic>
#include <optional>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "agent/base/fd.h"
#include "cli/terminal.h"
#include "ctr/v1/agent.grpc.pb.h"

namespace ctr::cli {

using ExecCall = grpc::ClientReaderWriter<v1::ExecRequest, v1::ExecResponse>;

// The signals that an exec passes on, held back from this thread, and from those that it makes, for
// as long as this lives.
class HeldSignals {
 public:
  HeldSignals();
  HeldSignals(const HeldSignals&) = delete;
  ~HeldSignals();
  int descriptor() const { return descriptor_.get(); }

 private:
  sigset_t before_;
  UniqueFd descriptor_;
};

// Sends an exec what comes in here: input, signals, the terminal's size. A thread of its own, which
// alone writes to the call once it runs. A signal before the command has started, and with a
// terminal any that would end a program, cancels the call instead.
class ExecSender {
 public:
  struct Options {
    int input = -1;  // -1: there is none to send
    bool terminal = false;
  };
  // All of it outlives the sender.
  ExecSender(ExecCall& call, grpc::ClientContext& context, const HeldSignals& signals,
             Options options);
  ExecSender(const ExecSender&) = delete;
  ~ExecSender();

  // From the thread that reads the answers: the command runs; so much of the input was taken.
  void Started();
  void Taken(uint64_t bytes);
  // The signal that has cancelled the call; 0 if none has.
  int ended_by() const { return ended_by_; }

 private:
  void Run();
  bool SendInput();
  bool HandleSignal();
  void Wake();

  ExecCall& call_;
  grpc::ClientContext& context_;
  const HeldSignals& signals_;
  const Options options_;
  const UniqueFd wake_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> started_ = false;
  std::atomic<uint64_t> taken_bytes_ = 0;
  std::atomic<int> ended_by_ = 0;
  // On the sender's thread.
  uint64_t sent_bytes_ = 0;
  bool input_open_;
  std::optional<RawTerminal> raw_;
  std::thread thread_;
};

}  // namespace ctr::cli
