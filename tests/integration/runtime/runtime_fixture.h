#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "agent/base/clock.h"
#include "agent/runtime/containerd/containerd_runtime.h"

namespace ctr {

// A runtime on a private containerd of its own in a temporary folder, with the image of
// runtime_image.h. The destructor purges it all, also when the test failed, and checks that nothing
// of it is left on the machine.
class RuntimeFixture {
 public:
  RuntimeFixture();
  ~RuntimeFixture();

  // Runs the loop until the coroutine is over; fails the test after a minute.
  template <typename T>
  T Run(awaitable<T> work) {
    std::optional<T> result;
    std::exception_ptr exception;
    asio::co_spawn(io_, std::move(work), [&](std::exception_ptr thrown, T value) {
      exception = thrown;
      result = std::move(value);
    });
    RunUntil([&] { return result.has_value(); });
    if (exception) std::rethrow_exception(exception);
    return *std::move(result);
  }
  // Runs the loop until the condition holds; it is looked at every few milliseconds.
  void RunUntil(const std::function<bool()>& condition);

  // Opens the runtime again, as an agent that was killed and started again does.
  void Reopen();

  // A spec that runs `arguments`, with a fresh ID.
  ContainerSpec Spec(std::vector<std::string> arguments);
  Container Create(ContainerSpec spec);
  // Creates and starts.
  Container StartNew(std::vector<std::string> arguments);
  ContainerExit WaitExit(const std::string& id);
  // What a container has written; complete once it is removed.
  std::string Output(const std::string& id) const;
  std::string LogFolder(const std::string& id) const;
  // The answer once `text` is in the container's output.
  void AwaitOutput(const std::string& id, const std::string& text);

  // What there is of a container on the machine, by its parts: "task", "record", "snapshot",
  // "cgroup", "mount", "shim socket".
  std::vector<std::string> PartsOf(const std::string& id);

  static int ParentOf(int pid);
  // The private containerd's pid; 0 if it does not run.
  int ContainerdPid() const;

  asio::io_context io_{1};
  asio::thread_pool work_{2};
  SystemClock clock_;
  ContainerdOptions options_;
  std::string folder_;
  std::unique_ptr<ContainerdRuntime> runtime_;

 private:
  void Drain();
};

std::string ReadWholeFile(const std::string& path);

}  // namespace ctr
