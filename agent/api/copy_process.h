#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/runtime/runtime.h"
#include "agent/tar/pack.h"

namespace ctr {

// A process of ours that copies files inside a container (agent/tar/inside.h), and the pipes to it.
// Lives on a strand of the work pool. A process that still runs at its end sees its pipes closed,
// and is killed if that does not end it.
class CopyProcess {
 public:
  // `arguments` come after kInsideArgument. Blocks for a moment.
  static StatusOr<std::unique_ptr<CopyProcess>> Start(asio::any_io_executor strand, Clock& clock,
                                                      const ContainerFiles& files,
                                                      std::vector<std::string> arguments);
  CopyProcess(const CopyProcess&) = delete;
  ~CopyProcess();

  // Gives it the archive's next bytes, as fast as it takes them; false if it takes no more, for it
  // has failed.
  awaitable<bool> Feed(std::string bytes);
  void EndInput();
  // The archive's next bytes; "" at the end.
  awaitable<std::string> Read();
  // How it ended, once it has.
  awaitable<StatusOr<tar::Totals>> Finish();

 private:
  CopyProcess(asio::any_io_executor strand, Clock& clock);

  const asio::any_io_executor strand_;
  Clock& clock_;
  std::shared_ptr<const Pidfd> process_;
  asio::posix::stream_descriptor input_;
  asio::posix::stream_descriptor output_;
  asio::posix::stream_descriptor outcome_;
};

}  // namespace ctr
