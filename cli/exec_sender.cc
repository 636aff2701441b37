#include "cli/exec_sender.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <string>

namespace ctr::cli {
namespace {

constexpr size_t kInputBytes = 32 << 10;
constexpr uint64_t kWindowBytes = 1 << 20;  // agent.proto: input ahead of what was taken

sigset_t PassedOn() {
  sigset_t set;
  ::sigemptyset(&set);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGCONT}) {
    ::sigaddset(&set, signal);
  }
  return set;
}

}  // namespace

HeldSignals::HeldSignals() {
  sigset_t set = PassedOn();
  ::pthread_sigmask(SIG_BLOCK, &set, &before_);
  descriptor_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

HeldSignals::~HeldSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

ExecSender::ExecSender(ExecCall& call, grpc::ClientContext& context, const HeldSignals& signals,
                       Options options)
    : call_(call),
      context_(context),
      signals_(signals),
      options_(options),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      input_open_(options.input >= 0),
      thread_([this] { Run(); }) {}

ExecSender::~ExecSender() {
  stopping_ = true;
  Wake();
  thread_.join();
}

void ExecSender::Started() {
  started_ = true;
  Wake();
}

void ExecSender::Taken(uint64_t bytes) {
  taken_bytes_ = bytes;
  Wake();
}

void ExecSender::Wake() {
  uint64_t one = 1;
  // It can only fail where a wake is pending already.
  if (::write(wake_.get(), &one, sizeof one) < 0) return;
}

void ExecSender::Run() {
  while (!stopping_) {
    // Keys typed before the command runs stay in the terminal, and Ctrl-C is a signal until then.
    // Without input nobody would read them, and Ctrl-C stays one.
    if (started_ && options_.terminal && options_.input >= 0 && !raw_) raw_.emplace(STDIN_FILENO);
    const bool room = sent_bytes_ - taken_bytes_ + kInputBytes <= kWindowBytes;
    const bool ready = started_ && input_open_ && room;
    pollfd descriptors[3] = {
        {.fd = wake_.get(), .events = POLLIN, .revents = 0},
        {.fd = signals_.descriptor(), .events = POLLIN, .revents = 0},
        {.fd = ready ? options_.input : -1, .events = POLLIN, .revents = 0},
    };
    if (::poll(descriptors, 3, -1) < 0) continue;
    uint64_t count;
    if (descriptors[0].revents != 0 && ::read(wake_.get(), &count, sizeof count) < 0) continue;
    if (stopping_) break;
    if (descriptors[1].revents != 0 && !HandleSignal()) break;
    if (descriptors[2].revents != 0 && !SendInput()) break;
  }
  raw_.reset();
}

bool ExecSender::SendInput() {
  std::string bytes(kInputBytes, '\0');
  ssize_t count = ::read(options_.input, bytes.data(), bytes.size());
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  v1::ExecRequest request;
  if (count <= 0) {
    // A terminal that has gone reads as an error: its input is at an end, too.
    input_open_ = false;
    request.set_stdin_end(true);
  } else {
    bytes.resize(static_cast<size_t>(count));
    sent_bytes_ += bytes.size();
    *request.mutable_stdin() = std::move(bytes);
  }
  return call_.Write(request);
}

bool ExecSender::HandleSignal() {
  signalfd_siginfo info;
  if (::read(signals_.descriptor(), &info, sizeof info) != sizeof info) return true;
  const int signal = static_cast<int>(info.ssi_signo);
  v1::ExecRequest request;
  if (signal == SIGWINCH || signal == SIGCONT) {
    if (raw_ && signal == SIGCONT) raw_->Apply();
    std::optional<v1::TerminalSize> size = SizeOf({STDIN_FILENO, STDOUT_FILENO});
    if (!options_.terminal || !started_ || !size) return true;
    *request.mutable_resize() = *size;
  } else if (options_.terminal || !started_) {
    ended_by_ = signal;
    context_.TryCancel();
    return false;
  } else {
    request.set_signal(signal);
  }
  return call_.Write(request);
}

}  // namespace ctr::cli
