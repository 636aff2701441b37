#include "cli/verbs.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/view.h"

namespace ctr::cli {
namespace {

constexpr char kInstances[] = "Instances";
constexpr char kRouting[] = "Routing";
constexpr char kClasses[] = "Classes and images";
constexpr char kHost[] = "The agent";

constexpr char kGlobalHelp[] =
    R"(Global flags, before or after the verb:
      --host ADDRESS      the agent's socket (CTR_HOST; default unix:///run/ctr/agent.sock)
  -c, --class CLASS       the class of an ID without one (CTR_CLASS; default: the only class)
  -o, --output FORMAT     table, json, jsonl or name (CTR_OUTPUT; default table)
      --timeout DURATION  30s, 5m, a number of seconds; 0 for none (default 60s; none for what waits or follows)
  -h, --help              of ctr, or of a verb
      --version           of this program alone

An instance is named ID, or CLASS/ID. NO_COLOR turns colours off.
Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 the agent cannot be reached,
124 timed out.
)";

// What people write who know other tools.
constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kSynonyms = {{
    {"list", "ls"},
    {"delete", "destroy"},
    {"remove", "destroy"},
    {"kill", "stop"},
    {"sleep", "stop"},
    {"wake", "start"},
    {"apply", "class apply"},
    {"classes", "class ls"},
    {"images", "image ls"},
    {"import", "image import"},
    {"pull", "image pull"},
}};

// Edits (insert, delete, replace a character) from one word to the other.
size_t Distance(std::string_view from, std::string_view to) {
  std::vector<size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < from.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < to.size(); ++j) {
      size_t replaced = diagonal + (from[i] == to[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

// Whether `written` may be a slip for `meant`: one edit, and another for every three characters
// more.
bool IsNear(std::string_view written, std::string_view meant) {
  return Distance(written, meant) <= std::max<size_t>(1, meant.size() / 3);
}

std::string Line(const Verb& verb) {
  std::string words(verb.words);
  if (!verb.alias.empty()) absl::StrAppend(&words, ", ", View(verb.alias));
  words.resize(std::max<size_t>(words.size(), 14), ' ');
  return absl::StrCat("  ", words, "  ", View(verb.summary), "\n");
}

std::vector<Verb> MakeVerbs() {
  constexpr auto kNever = std::nullopt;
  // Big archives take longer to send and unpack than an answer may.
  constexpr auto kImport = std::chrono::minutes(10);
  constexpr auto kPull = std::chrono::minutes(30);
  return {
      {"get", "", kInstances,
       "the instance with this ID, made and started if need be; prints its URL",
       "curl \"$(ctr get web/alice)\"", DefineGet},
      {"start", "", kInstances, "start instances, whatever manual_start says",
       "ctr start web/alice -e LOG_LEVEL=debug", DefineStart},
      {"stop", "", kInstances, "drain and stop instances; the next request wakes them",
       "ctr stop web/alice web/bob -t 5s", DefineStop},
      {"restart", "", kInstances, "stop and start instances, with their class's newest settings",
       "ctr restart web/alice", DefineRestart},
      {"destroy", "rm", kInstances, "kill instances, and forget them and their disks",
       "ctr destroy web/alice", DefineDestroy},
      {"ls", "ps", kInstances,
       "list the live instances (-c: of one class); AGE is that of the state",
       "ctr ls -a -o jsonl | jq -r 'select(.reason == \"exited\") | .id'", DefineLs},
      {"inspect", "", kInstances, "everything known about an instance, as JSON",
       "ctr inspect web/alice | jq .sleeps_at", DefineInspect},
      {"wait", "", kInstances, "wait until an instance is in a state",
       "ctr wait web/alice --for healthy --timeout 30s", DefineWait, kNever},
      {"why", "", kInstances, "why an instance is in its state, and what led there",
       "ctr why web/alice", DefineWhy},
      {"events", "", kInstances, "what has happened, and by whom or what (-f: goes on)",
       "ctr events -f --type exited -o jsonl", DefineEvents, kNever},
      {"stats", "", kInstances, "what instances use: CPU, memory, requests", "ctr stats web/alice",
       DefineStats},
      {"top", "", kInstances, "the same, live and the busiest first; q quits", "ctr top -c web",
       DefineTop, kNever},
      {"run", "", kInstances, "run a job: start it, pass its output on, and exit with its status",
       "ctr run jobs/nightly -e DAY=monday -- /bin/report --all", DefineRun, kNever},
      {"logs", "", kInstances, "what an instance wrote; stderr on stderr",
       "ctr logs -f --since 10m web/alice", DefineLogs, kNever},
      {"renew", "", kInstances, "restart an instance's idle timer", "ctr renew web/alice",
       DefineRenew},
      {"exec", "", kInstances, "run a command in an instance, which it wakes and keeps awake",
       "ctr exec -it web/alice -- sh", DefineExec, kNever},
      {"cp", "", kInstances, "copy files into an instance, or out of it",
       "ctr cp ./site web/alice:/srv", DefineCp, kNever},
      {"route", "", kRouting,
       "choose an instance as the ingress would, and wake it; prints its URL",
       "curl \"$(ctr route web --random=3)\"", DefineRoute},
      {"autoscale on", "", kRouting,
       "have a class scale itself, and route to the nearest ready instance",
       "ctr autoscale on web --max 10 --target-concurrency 20", DefineAutoscaleOn},
      {"autoscale off", "", kRouting, "have it no longer do so", "ctr autoscale off web",
       DefineAutoscaleOff},
      {"autoscale status", "", kRouting,
       "how many instances a class is to have, and why: each signal, the last decisions",
       "ctr autoscale status web", DefineAutoscaleStatus},
      {"autoscale simulate", "", kRouting,
       "run recorded traffic against a policy, in virtual time; changes nothing",
       "ctr autoscale simulate web --trace day.jsonl --target-concurrency 20",
       DefineAutoscaleSimulate, std::chrono::minutes(5)},
      {"class apply", "", kClasses,
       "create or change a class from its file; gets its image, if need be",
       "ctr class apply -f web.toml", DefineClassApply, kPull},
      {"class ls", "", kClasses, "list the classes", "ctr class ls", DefineClassLs},
      {"class show", "", kClasses, "a class's settings", "ctr class show web -o json",
       DefineClassShow},
      {"class rm", "", kClasses, "forget a class", "ctr class rm web --force", DefineClassRm},
      {"image import", "", kClasses, "load a Docker or OCI archive (10 minutes at most by default)",
       "docker save demo:latest | ctr image import -", DefineImageImport, kImport},
      {"image pull", "", kClasses, "get an image from its registry (30 minutes at most by default)",
       "ctr image pull registry.example/team/app:1.2", DefineImagePull, kPull},
      {"image prune", "", kClasses, "remove the images that no class uses", "ctr image prune",
       DefineImagePrune, kImport},
      {"image ls", "", kClasses, "list the images", "ctr image ls", DefineImageLs},
      {"image rm", "", kClasses, "remove an image", "ctr image rm demo:latest", DefineImageRm},
      {"info", "", kHost, "what the agent is and where it keeps things", "ctr info -o json",
       DefineInfo},
      {"doctor", "", kHost, "what this machine lacks for ctr, and what to do about it",
       "ctr doctor -o json | jq '.findings[] | select(.outcome != \"ok\")'", DefineDoctor},
      {"completion", "", kHost, "a script that completes verbs, flags, IDs, classes and images",
       "source <(ctr completion bash)", DefineCompletion},
      {"version", "", kHost, "versions of ctr and of the agent", "ctr version", DefineVersion},
  };
}

}  // namespace

const std::vector<Verb>& Verbs() {
  static const auto& verbs = *new std::vector<Verb>(MakeVerbs());
  return verbs;
}

FoundVerb FindVerb(const std::vector<std::string>& words) {
  if (words.empty()) return {};
  std::string two = words.size() > 1 ? absl::StrCat(words[0], " ", words[1]) : words[0];
  for (const Verb& verb : Verbs()) {
    if (verb.words == words[0] || (!verb.alias.empty() && verb.alias == words[0])) {
      return {&verb, 1};
    }
    if (verb.words == two) return {&verb, 2};
  }
  return {};
}

bool IsVerbGroup(std::string_view word) {
  return std::any_of(Verbs().begin(), Verbs().end(), [&](const Verb& verb) {
    return verb.words.size() > word.size() && verb.words.starts_with(word) &&
           verb.words[word.size()] == ' ';
  });
}

std::string SuggestVerb(const std::vector<std::string>& words) {
  if (words.empty()) return "";
  if (words.size() > 1 && IsVerbGroup(words[0])) {
    for (const Verb& verb : Verbs()) {
      std::string_view second = verb.words;
      if (!second.starts_with(words[0] + " ")) continue;
      second.remove_prefix(words[0].size() + 1);
      if (IsNear(words[1], second)) return std::string(verb.words);
    }
    return "";
  }
  for (const auto& [written, meant] : kSynonyms) {
    if (words[0] == written) return std::string(meant);
  }
  for (const Verb& verb : Verbs()) {
    if (IsNear(words[0], verb.words) || (!verb.alias.empty() && IsNear(words[0], verb.alias))) {
      return std::string(verb.words);
    }
  }
  return "";
}

std::string HelpText() {
  std::string text =
      "ctr runs container classes on your own hosts: an instance has an ID, starts when it is "
      "first\n"
      "asked for, sleeps when idle, and wakes on the next request.\n\n"
      "Usage: ctr [FLAGS] VERB ...        ctr VERB --help tells more\n";
  std::string_view group;
  for (const Verb& verb : Verbs()) {
    if (verb.group != group) absl::StrAppend(&text, "\n", View(verb.group), ":\n");
    group = verb.group;
    text += Line(verb);
  }
  return absl::StrCat(text, "\n", kGlobalHelp);
}

std::string GroupHelpText(std::string_view word) {
  std::string text = absl::StrCat("Usage: ctr ", View(word), " VERB ...\n\n");
  for (const Verb& verb : Verbs()) {
    if (verb.words.starts_with(std::string(word) + " ")) text += Line(verb);
  }
  return text;
}

}  // namespace ctr::cli
