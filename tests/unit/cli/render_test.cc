#include "cli/render.h"

#include <doctest/doctest.h>

namespace ctr::cli {
namespace {

using namespace std::chrono_literals;

constexpr int64_t kNowMs = 1'795'467'600'250;  // 2026-11-23T21:00:00.250Z
const WallTime kNow{std::chrono::milliseconds(kNowMs)};

v1::Instance Alice() {
  v1::Instance instance;
  instance.set_class_("web");
  instance.set_id("alice");
  instance.set_state("healthy");
  instance.set_address("127.77.0.2");
  instance.set_url("http://127.77.0.2:8080");
  instance.set_generation(3);
  instance.set_since_ms(kNowMs - 12'000);
  instance.set_created_at_ms(kNowMs - 3'600'000);
  instance.set_in_flight(2);
  instance.set_revision("abc");
  return instance;
}

v1::Instance Job(const std::string& id, const std::string& reason, int exit_code) {
  v1::Instance instance;
  instance.set_class_("batch");
  instance.set_id(id);
  instance.set_state("stopped");
  instance.set_reason(reason);
  instance.set_exit_code(exit_code);
  instance.set_since_ms(kNowMs - 2 * 86'400'000);
  return instance;
}

TEST_CASE("an instance has every key, null where there is nothing to say") {
  CHECK(ToJson(Alice()).dump() ==
        R"({"class":"web","id":"alice","state":"healthy","reason":null,"exit_code":null,)"
        R"("url":"http://127.77.0.2:8080","address":"127.77.0.2","generation":3,)"
        R"("since":"2026-11-23T20:59:48.250Z","created_at":"2026-11-23T20:00:00.250Z",)"
        R"("in_flight":2,"message":null,"revision":"abc","outdated":false,"image_digest":null,)"
        R"("failures":0,"next_start":null,"overloaded":false})");
  Json job = ToJson(Job("j", "exited", 0));
  CHECK(job["exit_code"] == 0);
  CHECK(job["reason"] == "exited");
  CHECK(job["url"].is_null());
  CHECK(job["address"].is_null());
  CHECK(job["created_at"].is_null());
  CHECK(job.size() == ToJson(Alice()).size());
}

TEST_CASE("what inspect tells comes after the instance's own keys") {
  v1::InspectInstanceResponse inspected;
  *inspected.mutable_instance() = Alice();
  inspected.set_pid(42);
  (*inspected.mutable_env())["B"] = "2";
  (*inspected.mutable_env())["A"] = "1";
  inspected.set_sleeps_at_ms(kNowMs);
  Json json = ToJson(inspected);
  CHECK(json["id"] == "alice");
  CHECK(json["pid"] == 42);
  CHECK(json["env"].dump() == R"({"A":"1","B":"2"})");
  CHECK(json["entrypoint"].is_null());
  CHECK(json["sleeps_at"] == "2026-11-23T21:00:00.250Z");
  CHECK(json["last_activity"].is_null());
  inspected.add_entrypoint("/bin/x");
  CHECK(ToJson(inspected)["entrypoint"].dump() == R"(["/bin/x"])");
}

TEST_CASE("a class lists its ports, the default one first") {
  v1::Class class_;
  class_.set_name("web");
  class_.set_image("docker.io/library/demo:latest");
  class_.set_default_port(8080);
  class_.set_default_protocol("http");
  class_.set_settings_json(R"({"sleep_after":"10m","port":[{"port":5432,"protocol":"tcp"}]})");
  class_.set_source("name = \"web\"\n");
  CHECK(ToJson(class_)["ports"].dump() ==
        R"([{"port":8080,"protocol":"http"},{"port":5432,"protocol":"tcp"}])");
  CHECK(!ToJson(class_).contains("source"));
  CHECK(ToDetailedJson(class_)["settings"]["sleep_after"] == "10m");
  CHECK(ToDetailedJson(class_)["source"] == "name = \"web\"\n");
}

TEST_CASE("a job has no ports, and settings that cannot be read are null") {
  v1::Class class_;
  class_.set_name("batch");
  class_.set_settings_json("not JSON");
  Json json = ToDetailedJson(class_);
  CHECK(json["default_port"].is_null());
  CHECK(json["default_protocol"].is_null());
  CHECK(json["ports"].dump() == "[]");
  CHECK(json["url"].is_null());
  CHECK(json["settings"].is_null());
}

TEST_CASE("an error is an object with code and message") {
  Status error = Error(absl::StatusCode::kNotFound, "unknown_instance", "no \"x\"");
  CHECK(Compact(ToJson(error)) ==
        "{\"error\":{\"code\":\"unknown_instance\",\"message\":\"no \\\"x\\\"\"}}\n");
  CHECK(ToJson(absl::InternalError("boom"))["error"]["code"] == "internal");
}

TEST_CASE("JSON is written for bytes that are no text, too") {
  CHECK(Compact(Json{{"a", "\xff"}}) == "{\"a\":\"\xEF\xBF\xBD\"}\n");
}

TEST_CASE("the table of instances is aligned, two spaces between columns") {
  google::protobuf::RepeatedPtrField<v1::Instance> instances;
  *instances.Add() = Alice();
  *instances.Add() = Job("nightly", "exited", 3);
  *instances.Add() = Job("n", "slept", 0);
  CHECK(InstanceTable(instances, kNow, Style::kPlain) ==
        "INSTANCE       STATE    REASON      AGE  URL                     STARTS  IN-FLIGHT  "
        "REVISION\n"
        "web/alice      healthy  -           12s  http://127.77.0.2:8080  3       2          abc\n"
        "batch/nightly  stopped  exited (3)  2d   -                       0       0          -\n"
        "batch/n        stopped  slept       2d   -                       0       0          -\n");
}

TEST_CASE("the table says who runs another revision than the class has now") {
  google::protobuf::RepeatedPtrField<v1::Instance> instances;
  *instances.Add() = Alice();
  instances[0].set_outdated(true);
  CHECK(InstanceTable(instances, kNow, Style::kPlain).find("  abc (old)\n") != std::string::npos);
  instances[0].set_old_image(true);
  CHECK(InstanceTable(instances, kNow, Style::kPlain).find("  abc (old image)\n") !=
        std::string::npos);
}

TEST_CASE("a class says how many run which revision, and what loosens its isolation") {
  v1::Class class_;
  class_.set_name("web");
  CHECK(ToJson(class_)["live_revisions"].dump() == "{}");
  CHECK(ToJson(class_)["loosened"].dump() == "[]");
  (*class_.mutable_live_revisions())["b"] = 2;
  (*class_.mutable_live_revisions())["a"] = 1;
  class_.add_loosened("no system call is filtered (seccomp)");
  CHECK(ToJson(class_)["live_revisions"].dump() == R"({"a":1,"b":2})");
  CHECK(ToJson(class_)["loosened"][0] == "no system call is filtered (seccomp)");
}

TEST_CASE("the table shows a crash loop, and when the next start is due") {
  google::protobuf::RepeatedPtrField<v1::Instance> instances;
  *instances.Add() = Job("a", "exited", 1);
  instances[0].set_failures(3);
  instances[0].set_next_start_at_ms(kNowMs + 11'500);
  *instances.Add() = Job("b", "exited", 1);
  instances[1].set_failures(1);
  instances[1].set_next_start_at_ms(kNowMs + 500);
  *instances.Add() = Job("c", "oom_killed", 137);
  const std::string table = InstanceTable(instances, kNow, Style::kPlain);
  CHECK(table.find("  crash loop: exited (1), next start in 12s  ") != std::string::npos);
  CHECK(table.find("  exited (1), next start in 1s  ") != std::string::npos);
  CHECK(table.find("  oom_killed  ") != std::string::npos);
  Json json = ToJson(instances[0]);
  CHECK(json["failures"] == 3);
  CHECK(json["next_start"] == "2026-11-23T21:00:11.750Z");
}

TEST_CASE("a table without rows is its header") {
  CHECK(ImageTable({}, kNow, Style::kPlain) == "IMAGE  DIGEST  SIZE  AGE  CLASSES\n");
}

TEST_CASE("images and classes have tables of their own") {
  google::protobuf::RepeatedPtrField<v1::Image> images;
  v1::Image& image = *images.Add();
  image.set_reference("docker.io/library/demo:latest");
  image.set_digest("sha256:12");
  image.set_size_bytes(2'200'000);
  image.set_created_at_ms(kNowMs - 60'000);
  image.add_classes("a");
  image.add_classes("b");
  CHECK(ImageTable(images, kNow, Style::kPlain) ==
        "IMAGE                          DIGEST     SIZE    AGE  CLASSES\n"
        "docker.io/library/demo:latest  sha256:12  2.1MiB  1m   a,b\n");

  google::protobuf::RepeatedPtrField<v1::Class> classes;
  v1::Class& class_ = *classes.Add();
  class_.set_name("web");
  class_.set_image("demo");
  class_.set_instances(4);
  class_.set_live_instances(1);
  CHECK(ClassTable(classes, kNow, Style::kPlain) ==
        "CLASS  IMAGE  URL  INSTANCES  LIVE  AGE\n"
        "web    demo   -    4          1     -\n");
}

TEST_CASE("colours surround the text and do not count as its width") {
  Table table({"A", "B"});
  table.Add({{"x", Colour::kGreen}, {"y"}});
  table.Add({{"long"}, {"z", Colour::kRed}});
  CHECK(table.Render(Style::kColoured) ==
        "\x1b[1mA\x1b[0m     \x1b[1mB\x1b[0m\n"
        "\x1b[32mx\x1b[0m     y\n"
        "long  \x1b[31mz\x1b[0m\n");
  CHECK(table.Render(Style::kPlain) == "A     B\nx     y\nlong  z\n");
}

TEST_CASE("a table's columns are as wide as their characters, not bytes") {
  Table table({"A", "B"});
  table.Add({{"\xC3\xA4\xC3\xA4"}, {"y"}});
  CHECK(table.Render(Style::kPlain) == "A   B\n\xC3\xA4\xC3\xA4  y\n");
}

TEST_CASE("control characters do not reach the terminal") {
  CHECK(Printable("a\x1b[31mb\nc\td\x7f") == "a?[31mb c d?");
  CHECK(Printable("\xC3\xA4") == "\xC3\xA4");
}

TEST_CASE("keys and values stand in two columns") {
  Json json = {{"name", "web"}, {"port", 8080}, {"labels", {{"team", "a"}}}, {"url", nullptr}};
  CHECK(KeyValues(json) ==
        "name:   web\n"
        "port:   8080\n"
        "labels: {\"team\":\"a\"}\n"
        "url:    -\n");
}

TEST_CASE("times are RFC 3339 in UTC with milliseconds") {
  CHECK(FormatTime(kNowMs) == "2026-11-23T21:00:00.250Z");
  CHECK(FormatTime(0) == "1970-01-01T00:00:00.000Z");
  CHECK(FormatTime(-1) == "1969-12-31T23:59:59.999Z");
}

TEST_CASE("ages are whole units, rounded down") {
  auto age = [](std::chrono::milliseconds before) {
    return FormatAge(kNowMs - before.count(), kNow);
  };
  CHECK(age(999ms) == "0s");
  CHECK(age(59'999ms) == "59s");
  CHECK(age(60s) == "1m");
  CHECK(age(3599s) == "59m");
  CHECK(age(47h) == "1d");
  CHECK(age(23h) == "23h");
  CHECK(age(-5s) == "0s");
  CHECK(FormatAge(0, kNow) == "");
}

}  // namespace
}  // namespace ctr::cli
