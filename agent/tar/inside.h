#pragma once

namespace ctr::tar {

// The first argument with which ctr-agent starts itself to do one copy inside a container, apart
// from everything else that it holds. Then follow:
//   pack PATH ("follow" | "-")                an archive of PATH goes to stdout
//   unpack PATH ("copy" | "extract") ("preserve" | "-")    an archive comes from stdin
// Descriptor 3 is the container's mount namespace, 4 a pidfd of its first process, with which the
// copy ends. The outcome goes to stderr, as Outcome's text.
inline constexpr char kInsideArgument[] = "--copy-inside";

// Runs it; returns the exit status. The process is this one's alone, with one thread.
int RunInside(int argc, char** argv);

}  // namespace ctr::tar
