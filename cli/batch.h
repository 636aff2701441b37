#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/context.h"

namespace ctr::cli {

// What is done to one instance; called on several threads at once.
using InstanceCall = std::function<StatusOr<v1::Instance>(Client&, const v1::InstanceRef&)>;

// Makes `call` for each of `names`, several at a time, and prints the outcomes in the order of the
// names, each as soon as it and those before it are known. All are tried; the exit status is that
// of the first that failed. One name prints a JSON object, several an array of such.
int ForEachInstance(Context& context, const std::vector<std::string>& names,
                    const InstanceCall& call);

}  // namespace ctr::cli
