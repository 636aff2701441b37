#include "agent/config/autoscale_edit.h"

#include <doctest/doctest.h>

#include "agent/config/class_file.h"

namespace ctr {
namespace {

constexpr char kWeb[] = R"(# our web
name = "web"      # of the shop
image = "demo:latest"
default_port = 8080

[resources]
cpus = 0.5
)";

AutoscaleSettings Settings(const std::string& source) {
  StatusOr<ClassConfig> config = ParseClassFile(source, "f");
  INFO(source);
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  REQUIRE(config->autoscale);
  return *config->autoscale;
}

TEST_CASE("autoscale is turned on in a class file, and the rest of its text stays") {
  StatusOr<std::string> on = WithAutoscale(kWeb, true, {{"min", "1"}, {"window", "30s"}});
  REQUIRE(on.ok());
  CHECK(on->starts_with(kWeb));
  CHECK(Settings(*on).min == 1);
  CHECK(Settings(*on).window == std::chrono::seconds(30));
  StatusOr<std::string> off = WithAutoscale(*on, false, {});
  REQUIRE(off.ok());
  CHECK(*off == kWeb);
}

TEST_CASE("settings go over those that the file has, and one target over the other") {
  const std::string file = std::string(kWeb) + "[autoscale]\nmin = 2\ntarget_concurrency = 5\n";
  const AutoscaleSettings settings = Settings(*WithAutoscale(file, true, {{"target_rps", "7.5"}}));
  CHECK(settings.min == 2);
  CHECK(settings.target_rps == 7.5);
  CHECK_FALSE(settings.target_concurrency);
  CHECK_FALSE(Settings(*WithAutoscale(file, true, {{"target_cpu", "off"}})).target_cpu);
}

TEST_CASE("autoscale = true in the file is replaced by a table") {
  const std::string file = "autoscale = true\n" + std::string(kWeb);
  CHECK(Settings(*WithAutoscale(file, true, {{"max", "3"}})).max == 3);
  CHECK_FALSE(ParseClassFile(*WithAutoscale(file, false, {}), "f")->autoscale);
}

TEST_CASE("what is impossible is refused by its key") {
  CHECK(WithAutoscale(kWeb, true, {{"max", "1000"}}).status().message() ==
        "max: must be at most max_instances, which is 20");
  CHECK(WithAutoscale(kWeb, true, {{"min", "x"}}).status().message().find("min: ") == 0);
  CHECK(WithAutoscale(kWeb, true, {{"nonsense", "1"}}).status().message().find("nonsense") !=
        std::string::npos);
  for (const char* key : {"a]", "a\nb", "", "a = 1\n[x]"}) {
    CHECK_FALSE(WithAutoscale(kWeb, true, {{key, "1"}}).ok());
  }
  CHECK_FALSE(WithAutoscale(kWeb, true, {{"window", "30s\"\n[x]\ny = \"1"}}).ok());
}

TEST_CASE("a file that writes it in another way is left as it is") {
  const std::string inline_table = "autoscale = { min = 1,\n max = 2 }\n" + std::string(kWeb);
  if (ParseClassFile(inline_table, "f").ok()) {
    CHECK_FALSE(WithAutoscale(inline_table, false, {}).ok());
  }
  const std::string quoted = "\"autoscale\" = true\n" + std::string(kWeb);
  CHECK(WithAutoscale(quoted, false, {}).status().message().find("change it there") !=
        std::string::npos);
  const std::string in_text = std::string(kWeb) + "[labels]\nx = \"\"\"\n[autoscale]\n\"\"\"\n";
  StatusOr<std::string> edited = WithAutoscale(in_text, true, {});
  if (edited.ok()) CHECK(ParseClassFile(*edited, "f")->labels.at("x") == "[autoscale]\n");
}

}  // namespace
}  // namespace ctr
