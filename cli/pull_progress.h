#pragma once

#include <map>
#include <string>

#include "ctr/v1/agent.pb.h"

namespace ctr::cli {

// How far a pull is, as text for stderr. Pure: it remembers what it has shown.
class PullProgressText {
 public:
  // `on_terminal`: a bar for each layer, redrawn in place; else a line for each thing that happens.
  explicit PullProgressText(bool on_terminal) : on_terminal_(on_terminal) {}

  // What to write now; "" if there is nothing new.
  std::string Update(const v1::PullImageResponse& progress);
  // Takes the bars away.
  std::string End();

 private:
  std::string Bars(const v1::PullImageResponse& progress);
  std::string Lines(const v1::PullImageResponse& progress);

  const bool on_terminal_;
  int drawn_ = 0;                       // lines on the terminal
  std::map<std::string, bool> layers_;  // that were told of, and whether they are done
  bool unpacking_ = false;
};

}  // namespace ctr::cli
