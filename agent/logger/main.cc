// ctr-logger: writes what one container says into its instance's log folder, stamped and rotated.
// containerd's shim starts it (stdout "binary://PATH?folder=…&max_size=…&files=…&generation=…"):
// the query's keys and values are its arguments, descriptor 3 is the container's stdout, 4 its
// stderr, and 5 is closed to say that it is ready.
//
// It outlives agent and containerd, there is one for each container, and a container whose logger
// ends dies of SIGPIPE. So it is small, allocates nothing, and never ends or stops reading because
// of a fault: what it can't write it drops and counts.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <initializer_list>
#include <new>

#include "agent/logger/recorder.h"

namespace ctr::logger {
namespace {

constexpr int kFirstStream = 3;
constexpr int kReady = 5;
constexpr int kPieceAfterMs = 100;  // a prompt without a newline is seen so much later
constexpr int64_t kDefaultMaxSize = int64_t{10} << 20;

struct Arguments {
  const char* folder = "";
  int64_t max_size_bytes = kDefaultMaxSize;
  int files = 2;
  uint64_t generation = 0;
};

// The value of `text`, or `fallback` for none above zero.
int64_t Positive(const char* text, int64_t fallback) {
  const long long value = ::strtoll(text, nullptr, 10);
  return value > 0 ? value : fallback;
}

Arguments Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const char* value = argv[i + 1];
    if (::strcmp(argv[i], "folder") == 0) arguments.folder = value;
    if (::strcmp(argv[i], "max_size") == 0)
      arguments.max_size_bytes = Positive(value, kDefaultMaxSize);
    if (::strcmp(argv[i], "files") == 0) arguments.files = static_cast<int>(Positive(value, 2));
    if (::strcmp(argv[i], "generation") == 0) arguments.generation = ::strtoull(value, nullptr, 10);
  }
  return arguments;
}

// The end of the container ends it, nothing else.
void IgnoreSignals() {
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
}

// Returns when both streams have ended.
void Pump(Recorder& recorder) {
  static char buffer[2 * log_layout::kMaxTextBytes];
  pollfd streams[kStreams] = {{kFirstStream, POLLIN, 0}, {kFirstStream + 1, POLLIN, 0}};
  while (streams[0].fd >= 0 || streams[1].fd >= 0) {
    const int ready = ::poll(streams, kStreams, recorder.HasPieces() ? kPieceAfterMs : -1);
    if (ready == 0) recorder.CutPieces();
    for (int stream = 0; stream < kStreams && ready > 0; ++stream) {
      if (streams[stream].fd < 0 || streams[stream].revents == 0) continue;
      const ssize_t size = ::read(streams[stream].fd, buffer, sizeof buffer);
      if (size > 0) recorder.Take(stream, buffer, static_cast<size_t>(size));
      if (size == 0 || (size < 0 && errno != EINTR && errno != EAGAIN)) streams[stream].fd = -1;
    }
    recorder.Flush();
  }
  recorder.CutPieces();
  recorder.Flush();
}

}  // namespace
}  // namespace ctr::logger

int main(int argc, char** argv) {
  using namespace ctr::logger;
  IgnoreSignals();
  const Arguments arguments = Parse(argc, argv);
  LogFolder folder(arguments.folder, arguments.max_size_bytes, arguments.files);
  folder.BeginWriting(arguments.generation);
  static char memory[sizeof(Recorder)] __attribute__((aligned(alignof(Recorder))));
  Recorder& recorder = *new (memory) Recorder(&folder, arguments.generation);
  ::close(kReady);
  Pump(recorder);
  folder.EndWriting();
  ::_exit(0);
}
