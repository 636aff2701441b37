#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace ctr::cli {

// The line by which Complete asks the shell to offer names of files, too. After a word that ends in
// a colon no space is wanted.
inline constexpr char kFilesWanted[] = ":files";

// What the last of `words`, which follow "ctr" on the command line and end at the cursor, may
// become: verbs, flags, and what the agent knows. It is asked for a second at most, and whatever
// fails gives nothing.
std::vector<std::string> Complete(const std::vector<std::string>& words,
                                  const Environment& environment);

// `ctr __complete WORDS…`, which the shells' scripts call: one line each.
int PrintCompletions(const std::vector<std::string>& words, const Environment& environment,
                     const Io& io);

}  // namespace ctr::cli
