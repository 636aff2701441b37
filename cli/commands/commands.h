#pragma once

#include <functional>

#include "cli/context.h"

namespace CLI {
class App;
}

namespace ctr::cli {

// Does what the flags say, once they are parsed: a request, its answer printed, the exit status.
using Action = std::function<int(Context&)>;

// Each declares a verb's flags and arguments on its parser, and returns what does it.
Action DefineClassApply(CLI::App& app);
Action DefineClassLs(CLI::App& app);
Action DefineClassShow(CLI::App& app);
Action DefineClassRm(CLI::App& app);
Action DefineGet(CLI::App& app);
Action DefineStart(CLI::App& app);
Action DefineStop(CLI::App& app);
Action DefineRestart(CLI::App& app);
Action DefineDestroy(CLI::App& app);
Action DefineLs(CLI::App& app);
Action DefineInspect(CLI::App& app);
Action DefineRoute(CLI::App& app);
Action DefineAutoscaleOn(CLI::App& app);
Action DefineAutoscaleOff(CLI::App& app);
Action DefineAutoscaleStatus(CLI::App& app);
Action DefineAutoscaleSimulate(CLI::App& app);
Action DefineRenew(CLI::App& app);
Action DefineWait(CLI::App& app);
Action DefineLogs(CLI::App& app);
Action DefineRun(CLI::App& app);
Action DefineWhy(CLI::App& app);
Action DefineEvents(CLI::App& app);
Action DefineStats(CLI::App& app);
Action DefineTop(CLI::App& app);
Action DefineCompletion(CLI::App& app);
Action DefineExec(CLI::App& app);
Action DefineCp(CLI::App& app);
Action DefineImageImport(CLI::App& app);
Action DefineImageLs(CLI::App& app);
Action DefineImagePrune(CLI::App& app);
Action DefineImagePull(CLI::App& app);
Action DefineImageRm(CLI::App& app);
Action DefineInfo(CLI::App& app);
Action DefineDoctor(CLI::App& app);
Action DefineVersion(CLI::App& app);

}  // namespace ctr::cli
