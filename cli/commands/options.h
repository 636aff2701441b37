#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

// Options that several verbs have.
namespace ctr::cli {

inline constexpr char kInstanceHelp[] = "the instance: ID, or CLASS/ID";

inline CLI::Option* AddInstance(CLI::App& app, std::string& name) {
  return app.add_option("ID", name, kInstanceHelp)->required()->type_name("");
}

inline CLI::Option* AddClass(CLI::App& app, std::string& name) {
  return app.add_option("CLASS", name, "the class; default: as for an ID without a class")
      ->type_name("");
}

inline CLI::Option* AddInstances(CLI::App& app, std::vector<std::string>& names) {
  return app.add_option("ID", names, "instances: ID, or CLASS/ID")->required()->type_name("");
}

// An option that is given once for each value: `-e A=1 -e B=2`.
inline CLI::Option* AddRepeatable(CLI::App& app, const std::string& flags,
                                  std::vector<std::string>& values, const std::string& help,
                                  const std::string& type) {
  return app.add_option(flags, values, help)->allow_extra_args(false)->type_name(type);
}

inline CLI::Option* AddEnv(CLI::App& app, std::vector<std::string>& variables) {
  return AddRepeatable(app, "-e,--env", variables,
                       "a variable for the instance, kept with its ID; NAME alone takes the value "
                       "it has here",
                       "NAME=VALUE");
}

inline CLI::Option* AddNoWait(CLI::App& app, bool& no_wait) {
  return app.add_flag("--no-wait", no_wait, "return at once");
}

}  // namespace ctr::cli
