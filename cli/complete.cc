#include "cli/complete.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include <CLI/CLI.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/model/event.h"
#include "cli/copy_side.h"
#include "cli/verbs.h"

namespace ctr::cli {
namespace {

using Words = std::vector<std::string>;

constexpr auto kListWithin = std::chrono::seconds(1);

// What stands before the word that is completed.
struct Line {
  GlobalFlags flags;
  Words verb;            // one or two words, so far as they were given
  std::string value_of;  // the flag whose value the word is; "" if it is none's
  bool ended = false;    // "--" was given: the rest is another program's
};

// The agent's answers, or none.
class Source {
 public:
  Source(const GlobalFlags& flags, const Environment& environment) {
    StatusOr<Settings> settings = ResolveSettings(flags, environment, kListWithin);
    if (!settings.ok()) return;
    class_name_ = settings->class_name;
    StatusOr<std::unique_ptr<Client>> client =
        Client::Connect(settings->socket_path, settings->timeout);
    if (client.ok()) client_ = *std::move(client);
  }

  Words Classes() {
    Words names;
    if (!client_) return names;
    auto response = client_->Call(&Client::Stub::ListClasses, v1::ListClassesRequest());
    if (!response.ok()) return names;
    for (const v1::Class& class_ : response->classes()) names.push_back(class_.name());
    return names;
  }

  Words Images() {
    Words names;
    if (!client_) return names;
    auto response = client_->Call(&Client::Stub::ListImages, v1::ListImagesRequest());
    if (!response.ok()) return names;
    for (const v1::Image& image : response->images()) names.push_back(image.reference());
    return names;
  }

  // As they may be written here: the ID alone where its class is given or the only one, else
  // CLASS/ID.
  Words Instances(bool with_class) {
    Words names;
    if (!client_) return names;
    v1::ListInstancesRequest request;
    request.set_all(true);
    request.set_class_(with_class ? "" : class_name_);
    auto response = client_->Call(&Client::Stub::ListInstances, request);
    if (!response.ok()) return names;
    std::set<std::string> classes;
    for (const v1::Instance& instance : response->instances()) classes.insert(instance.class_());
    const bool bare = !with_class && (!class_name_.empty() || classes.size() == 1);
    for (const v1::Instance& instance : response->instances()) {
      names.push_back(bare ? instance.id() : NameOf(instance));
    }
    return names;
  }

 private:
  std::string class_name_;
  std::unique_ptr<Client> client_;
};

void AddGlobals(CLI::App& app, GlobalFlags& flags) {
  app.add_option("--host", flags.host);
  app.add_option("-c,--class", flags.class_name);
  app.add_option("-o,--output", flags.output);
  app.add_option("--timeout", flags.timeout);
}

// "-c" and "--class" of an option, whichever `written` is; null if it is none of the app's.
const CLI::Option* FindFlag(const CLI::App& app, const std::string& written) {
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_positional() && option->check_name(written)) return option;
  }
  return nullptr;
}

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// A parser with the global flags, and the verb's if there is one. What the verb's flags point to is
// kept by `action`.
std::unique_ptr<CLI::App> ParserOf(const Verb* verb, Action& action, GlobalFlags& flags) {
  auto app = std::make_unique<CLI::App>();
  if (verb != nullptr) action = verb->define(*app);
  AddGlobals(*app, flags);
  return app;
}

void SetGlobal(GlobalFlags& flags, const std::string& flag, const std::string& value) {
  if (flag == "--host") flags.host = value;
  if (flag == "-c" || flag == "--class") flags.class_name = value;
}

// Reads `words`, the last of which is the one to be completed.
Line Read(const Words& words) {
  Line line;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (!line.value_of.empty()) {
      SetGlobal(line.flags, std::exchange(line.value_of, ""), word);
    } else if (word == "--") {
      line.ended = true;
      return line;
    } else if (absl::StartsWith(word, "-") && word.size() > 1) {
      const size_t equals = word.find('=');
      if (equals != std::string::npos) {
        SetGlobal(line.flags, word.substr(0, equals), word.substr(equals + 1));
        continue;
      }
      GlobalFlags ignored;
      Action action;
      const auto app = ParserOf(FindVerb(line.verb).verb, action, ignored);
      const CLI::Option* option = FindFlag(*app, word);
      if (option != nullptr && TakesValue(*option)) line.value_of = word;
    } else if (line.verb.empty() || (line.verb.size() == 1 && IsVerbGroup(line.verb[0]))) {
      line.verb.push_back(word);
    }
  }
  return line;
}

Words VerbWords(const Words& begun) {
  std::set<std::string> words;
  for (const Verb& verb : Verbs()) {
    const size_t space = verb.words.find(' ');
    std::string first(verb.words.substr(0, space));
    if (begun.empty()) {
      words.insert(std::move(first));
    } else if (first == begun[0] && space != std::string_view::npos) {
      words.insert(std::string(verb.words.substr(space + 1)));
    }
  }
  if (begun.empty()) words.insert("help");
  return {words.begin(), words.end()};
}

Words FlagWords(const Verb* verb) {
  GlobalFlags flags;
  Action action;
  const auto app = ParserOf(verb, action, flags);
  Words words;
  for (const CLI::Option* option : app->get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
    if (option->get_lnames().empty()) {
      for (const std::string& name : option->get_snames()) words.push_back("-" + name);
    }
  }
  if (verb == nullptr) words.insert(words.end(), {"--help", "--version"});
  return words;
}

Words ValueWords(const std::string& flag, Source& source) {
  if (flag == "-c" || flag == "--class") return source.Classes();
  if (flag == "-o" || flag == "--output") return {"table", "json", "jsonl", "name"};
  if (flag == "--for") {
    return {"stopped", "starting", "running", "healthy", "frozen", "stopping", "destroyed"};
  }
  if (flag == "--type") return Words(std::begin(event::kAll), std::end(event::kAll));
  if (flag == "-f" || flag == "--file") return {kFilesWanted};
  return {};
}

// A file here, or one in an instance: what follows the colon is not looked at.
Words CopySides(const std::string& word, Source& source) {
  const StatusOr<CopySide> side = ParseCopySide(word);
  if (!word.empty() && (!side.ok() || !side->instance.empty())) return {};
  Words words = source.Instances(absl::StrContains(word, "/"));
  for (std::string& instance : words) instance += ":";
  words.push_back(kFilesWanted);
  return words;
}

// What a verb's next argument is, by the name that the verb gives it in its help.
Words ArgumentWords(const Verb& verb, const std::string& word, Source& source) {
  const bool with_class = absl::StrContains(word, "/");
  GlobalFlags flags;
  Action action;
  const auto app = ParserOf(&verb, action, flags);
  for (const CLI::Option* option : app->get_options()) {
    if (!option->get_positional()) continue;
    const std::string name = option->get_name(/*positional=*/true);
    if (name == "ID" || name == "CLASS/ID") return source.Instances(with_class);
    if (name == "CLASS" || name == "NAME") return source.Classes();
    if (name == "IMAGE") return source.Images();
    if (name == "SHELL") return {"bash", "zsh", "fish"};
    if (name == "FILE") return {kFilesWanted};
    if (name == "SOURCE") return CopySides(word, source);
  }
  return {};
}

}  // namespace

std::vector<std::string> Complete(const std::vector<std::string>& words,
                                  const Environment& environment) {
  const std::string word = words.empty() ? "" : words.back();
  const Line line = Read(words);
  if (line.ended) return {kFilesWanted};
  const Verb* verb = FindVerb(line.verb).verb;
  const size_t equals = word.find('=');
  Words candidates;
  std::string prefix;
  if (!line.value_of.empty()) {
    Source source(line.flags, environment);
    candidates = ValueWords(line.value_of, source);
  } else if (absl::StartsWith(word, "--") && equals != std::string::npos) {
    Source source(line.flags, environment);
    prefix = word.substr(0, equals + 1);
    candidates = ValueWords(word.substr(0, equals), source);
  } else if (absl::StartsWith(word, "-")) {
    candidates = FlagWords(verb);
  } else if (verb == nullptr) {
    candidates = VerbWords(line.verb);
  } else {
    Source source(line.flags, environment);
    candidates = ArgumentWords(*verb, word, source);
  }
  Words fitting;
  for (const std::string& candidate : candidates) {
    if (candidate == kFilesWanted) {
      fitting.push_back(candidate);
    } else if (absl::StartsWith(prefix + candidate, word)) {
      fitting.push_back(prefix + candidate);
    }
  }
  return fitting;
}

int PrintCompletions(const std::vector<std::string>& words, const Environment& environment,
                     const Io& io) {
  for (const std::string& word : Complete(words, environment)) io.out << word << "\n";
  io.out.flush();
  return 0;
}

}  // namespace ctr::cli
