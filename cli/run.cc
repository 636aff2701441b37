#include "cli/run.h"

#include <algorithm>
#include <utility>

#include <CLI/CLI.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/complete.h"
#include "cli/verbs.h"

namespace ctr::cli {
namespace {

void AddGlobalFlags(CLI::App& app, GlobalFlags& flags) {
  auto add = [&](const char* names, std::optional<std::string>& value, const char* help,
                 const char* type) {
    app.add_option(names, value, help)
        ->type_name(type)
        ->group("Global flags")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  };
  add("--host", flags.host, "the agent's socket (CTR_HOST)", "ADDRESS");
  add("-c,--class", flags.class_name, "the class of an ID without one (CTR_CLASS)", "CLASS");
  add("-o,--output", flags.output, "table, json, jsonl or name (CTR_OUTPUT)", "FORMAT");
  add("--timeout", flags.timeout, "how long this may take; 0 for any time", "DURATION");
}

// CLI11 takes the arguments last first.
void Parse(CLI::App& app, std::vector<std::string> args) {
  std::reverse(args.begin(), args.end());
  app.parse(std::move(args));
}

// The format that the caller asked for, for errors in arguments that cannot be read.
Output RequestedOutput(const std::vector<std::string>& args, const Environment& environment) {
  std::optional<std::string> text = Variable(environment, "CTR_OUTPUT");
  for (size_t i = 0; i < args.size() && args[i] != "--"; ++i) {
    absl::string_view arg = args[i];
    if (arg == "-o" || arg == "--output") {
      if (i + 1 < args.size()) text = args[++i];
    } else if (absl::StartsWith(arg, "--output=")) {
      text = std::string(arg.substr(9));
    } else if (absl::StartsWith(arg, "-o")) {
      text = std::string(arg.substr(2));
    }
  }
  return ParseOutput(text.value_or("")).value_or(Output::kTable);
}

// The state of one Run.
class Command {
 public:
  Command(const std::vector<std::string>& args, const Environment& environment, const Io& io)
      : args_(args), environment_(environment), io_(io) {}

  int Run() {
    // Of the shells' completion; its words are no flags of ours.
    if (!args_.empty() && args_[0] == "__complete") {
      return PrintCompletions({args_.begin() + 1, args_.end()}, environment_, io_);
    }
    bool help = false;
    bool version = false;
    CLI::App app;
    app.set_help_flag();
    app.prefix_command();
    app.add_flag("-h,--help", help);
    app.add_flag("--version", version);
    AddGlobalFlags(app, flags_);
    try {
      Parse(app, args_);
    } catch (const CLI::ParseError& error) {
      return UsageError("ctr", error.what());
    }
    if (version) return Print(absl::StrCat("ctr ", CTR_VERSION, "\n"));
    std::vector<std::string> words = app.remaining();
    if (!words.empty() && words[0] == "help") {
      help = true;
      words.erase(words.begin());
    }
    if (help && words.empty()) return Print(HelpText());
    if (words.empty()) return UsageError("ctr", "a verb is missing");
    if (help) words.push_back("--help");
    return RunVerb(words);
  }

 private:
  int RunVerb(const std::vector<std::string>& words) {
    FoundVerb found = FindVerb(words);
    if (found.verb == nullptr) return UnknownVerb(words);

    std::string name = absl::StrCat("ctr ", std::string(found.verb->words));
    CLI::App app(std::string(found.verb->summary), name);
    Action action = found.verb->define(app);
    AddGlobalFlags(app, flags_);
    app.footer(absl::StrCat("\nExample:\n  ", std::string(found.verb->example)));
    try {
      Parse(app, {words.begin() + static_cast<ptrdiff_t>(found.words), words.end()});
    } catch (const CLI::CallForHelp&) {
      return Print(app.help());
    } catch (const CLI::ParseError& error) {
      return UsageError(name, error.what());
    }
    StatusOr<Settings> settings = ResolveSettings(flags_, environment_, found.verb->timeout);
    if (!settings.ok()) {
      return Report(settings.status(), RequestedOutput(args_, environment_), io_);
    }
    Context context(*std::move(settings), environment_, io_);
    return action(context);
  }

  int UnknownVerb(const std::vector<std::string>& words) {
    const std::string& word = words[0];
    if (absl::StartsWith(word, "-")) {
      return UsageError("ctr", absl::StrCat("unknown flag ", word));
    }
    bool group = IsVerbGroup(word);
    if (group && (words.back() == "--help" || words.back() == "-h")) {
      return Print(GroupHelpText(word));
    }
    std::string command = group ? absl::StrCat("ctr ", word) : "ctr";
    if (group && words.size() == 1) return UsageError(command, "a verb is missing");
    std::string message = absl::StrCat("unknown verb \"", group ? words[1] : word, "\"");
    std::string suggestion = SuggestVerb(words);
    if (!suggestion.empty()) absl::StrAppend(&message, "; did you mean: ctr ", suggestion);
    return UsageError(command, message);
  }

  int UsageError(const std::string& command, const std::string& message) {
    return Report(Error(absl::StatusCode::kInvalidArgument, "usage",
                        absl::StrCat(message, "; see: ", command, " --help")),
                  RequestedOutput(args_, environment_), io_);
  }

  int Print(const std::string& text) {
    io_.out << text;
    io_.out.flush();
    return 0;
  }

  const std::vector<std::string>& args_;
  const Environment& environment_;
  const Io& io_;
  GlobalFlags flags_;
};

}  // namespace

int Run(const std::vector<std::string>& args, const Environment& environment, const Io& io) {
  return Command(args, environment, io).Run();
}

}  // namespace ctr::cli
