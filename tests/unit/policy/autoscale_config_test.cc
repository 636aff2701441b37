#include "agent/policy/autoscale_config.h"

#include <functional>
#include <limits>

#include <doctest/doctest.h>

namespace ctr::policy {
namespace {

using namespace std::chrono_literals;

TEST_CASE("what is impossible in a configuration is named") {
  const auto check = [](const std::function<void(AutoscaleConfig&)>& change) {
    AutoscaleConfig config;
    change(config);
    return CheckAutoscale(config);
  };
  CHECK(CheckAutoscale({}).empty());
  CHECK(check([](auto& c) { c.min = -1; }) == "min must be at least 0");
  CHECK(check([](auto& c) { c.max = 0; }) == "max must be at least 1");
  CHECK(check([](auto& c) { c.min = 21; }) == "min must be at most max");
  CHECK(check([](auto& c) { c.target_cpu = 0; }).starts_with("target_cpu"));
  CHECK(check([](auto& c) { c.target_memory = 1.1; }).starts_with("target_memory"));
  CHECK(check([](auto& c) { c.tolerance = 1; }).starts_with("tolerance"));
  CHECK(check([](auto& c) { c.traffic.target = 0; }).starts_with("target_concurrency"));
  CHECK(check([](auto& c) {
          c.traffic.metric = TrafficConfig::Metric::kRps;
          c.traffic.target = std::numeric_limits<double>::quiet_NaN();
        }).starts_with("target_rps"));
  CHECK(check([](auto& c) { c.traffic.target_utilization = 0; }).starts_with("target_util"));
  CHECK(check([](auto& c) { c.traffic.window = 5s; }).starts_with("window"));
  CHECK(check([](auto& c) { c.traffic.window = 6500ms; }).starts_with("window"));
  CHECK(check([](auto& c) { c.traffic.window = 2h; }).starts_with("window"));
  CHECK(check([](auto& c) { c.traffic.panic_window_percentage = 0.5; }).starts_with("panic_win"));
  CHECK(check([](auto& c) { c.traffic.panic_threshold = 100; }).starts_with("panic_threshold"));
  CHECK(check([](auto& c) { c.traffic.max_scale_up_rate = 1; }).starts_with("max_scale_up"));
  CHECK(check([](auto& c) { c.traffic.max_scale_down_rate = 1; }).starts_with("max_scale_down"));
  CHECK(check([](auto& c) { c.traffic.activation_scale = 0; }).starts_with("activation_scale"));
  CHECK(check([](auto& c) { c.traffic.scale_down_delay = -1s; }).starts_with("scale_down_delay"));
}

}  // namespace
}  // namespace ctr::policy
