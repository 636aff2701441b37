#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"
#include "cli/event_text.h"
#include "cli/since.h"

namespace ctr::cli {
namespace {

struct EventsFlags {
  std::string name;
  std::vector<std::string> types;
  std::optional<std::string> since;
  std::optional<std::string> limit;
  bool follow = false;
};

// How many are shown unless --since or --limit say otherwise.
constexpr uint32_t kNewest = 1000;

StatusOr<v1::ListEventsRequest> RequestOf(const EventsFlags& flags, const Context& context) {
  v1::ListEventsRequest request;
  request.set_class_(context.settings().class_name);
  CTR_RETURN_IF_ERROR(CheckUtf8(request.class_(), "the class's name"));
  if (!flags.name.empty()) {
    CTR_ASSIGN_OR_RETURN(v1::InstanceRef ref, context.Ref(flags.name));
    request.set_class_(ref.class_());
    request.set_id(ref.id());
  }
  for (const std::string& type : flags.types) {
    CTR_RETURN_IF_ERROR(CheckUtf8(type, "--type"));
    request.add_types(type);
  }
  if (flags.since) {
    CTR_ASSIGN_OR_RETURN(const int64_t since_ms,
                         ParseSince(*flags.since, std::chrono::system_clock::now()));
    request.set_since_ms(since_ms);
  }
  uint32_t limit = flags.since ? 0 : kNewest;
  if (flags.limit && !absl::SimpleAtoi(*flags.limit, &limit)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--limit: \"", *flags.limit, "\" is no number of events; write it like 100, or 0 for all"));
  }
  request.set_limit(limit);
  request.set_follow(flags.follow);
  if (flags.follow && context.settings().output == Output::kJson) {
    return absl::InvalidArgumentError(
        "-o json is an array, which -f would never end; use -o jsonl");
  }
  return request;
}

// Prints events as they come.
class Printer {
 public:
  explicit Printer(Context& context) : context_(context), lines_(context.style()) {}

  void Print(const v1::ListEventsResponse& response) {
    if (response.cut()) {
      context_.io().err << "ctr: older events are left out; all of them: -n 0\n" << std::flush;
    }
    std::string text;
    for (const v1::Event& event : response.events()) Append(event, text);
    context_.PrintText(text);
  }

  // What comes at the end, if it went well.
  void End() {
    if (context_.settings().output == Output::kJson) context_.PrintJson(array_);
    if (context_.settings().output == Output::kTable && !begun_) {
      context_.io().err << "ctr: there are no such events\n";
    }
  }

 private:
  void Append(const v1::Event& event, std::string& text) {
    switch (context_.settings().output) {
      case Output::kJson:
        array_.push_back(ToJson(event));
        break;
      case Output::kJsonLines:
        text += Compact(ToJson(event));
        break;
      case Output::kName:
        absl::StrAppend(&text, event.class_(), "/", event.id(), "\n");
        break;
      case Output::kTable:
        if (!begun_) text += lines_.Header();
        begun_ = true;
        text += lines_.Line(event);
        break;
    }
  }

  Context& context_;
  EventLines lines_;
  bool begun_ = false;
  Json array_ = Json::array();
};

Status Stream(const v1::ListEventsRequest& request, Context& context) {
  CTR_ASSIGN_OR_RETURN(Client * client, context.client());
  grpc::ClientContext call;
  client->SetDeadline(call);
  auto reader = client->stub().ListEvents(&call, request);
  Printer printer(context);
  v1::ListEventsResponse response;
  while (reader->Read(&response)) printer.Print(response);
  CTR_RETURN_IF_ERROR(client->StatusFrom(reader->Finish(), call));
  printer.End();
  return absl::OkStatus();
}

}  // namespace

Action DefineEvents(CLI::App& app) {
  auto flags = std::make_shared<EventsFlags>();
  app.add_option("ID", flags->name, "of this instance alone: ID, or CLASS/ID (-c: of a class)")
      ->type_name("");
  app.add_flag("-f,--follow", flags->follow, "go on with what happens from now on");
  app.add_option("--since", flags->since,
                 "all since then: 10m, or 2026-11-25T09:40:12Z (default: the newest 1000)")
      ->type_name("TIME");
  AddRepeatable(app, "--type", flags->types,
                "of this type alone, as in the table; may be given several times", "TYPE");
  app.add_option("-n,--limit", flags->limit, "the newest so many of what is past; 0: all")
      ->type_name("N");
  return [flags](Context& context) {
    StatusOr<v1::ListEventsRequest> request = RequestOf(*flags, context);
    if (!request.ok()) return context.Fail(request.status());
    Status status = Stream(*request, context);
    return status.ok() ? 0 : context.Fail(status);
  };
}

}  // namespace ctr::cli
