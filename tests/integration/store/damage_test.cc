// Every way in which the state file can be lost or spoiled, from outside.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "agent/store/sqlite/database.h"
#include "tests/integration/store/store_fixture.h"

namespace ctr {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

// The files that were put aside, without their logs.
std::vector<std::string> Aside(const TemporaryFolder& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    const std::string name = entry.path().filename();
    if (name.starts_with("state.db.damaged-") && !name.ends_with("-wal") &&
        !name.ends_with("-shm")) {
      found.push_back(entry.path());
    }
  }
  return found;
}

StoredState Reopened(const std::string& path, StateFile expectation = StateFile::kExpected) {
  StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(path, expectation);
  INFO(store.status().ToString());
  REQUIRE(store.ok());
  return Load(**store);
}

constexpr int kInstances = 40;

InstanceRecord Numbered(int i) {
  InstanceRecord record = MakeInstance("id-" + std::to_string(i), 1000 + static_cast<uint32_t>(i));
  record.env = {{"NUMBER", std::to_string(i)}, {"TEXT", std::string(200, 'x')}};
  record.observed.state = State::kHealthy;
  record.observed.generation = 3;
  record.observed.container_id = "container-" + std::to_string(i);
  return record;
}

// A store's files as a kill -9 leaves them: `clean` with everything in the file itself, else in its
// log.
void MakeFiles(const TemporaryFolder& folder, bool clean) {
  TemporaryFolder original;
  {
    auto store = OpenStore(original.StatePath());
    REQUIRE(Commit(*store, {PutClass{MakeClass("web", 7, "name = \"web\"\n")}}).ok());
    for (int i = 0; i < kInstances; ++i) {
      REQUIRE(Commit(*store, {PutInstance{Numbered(i)}, PutCursors{{1000, 7}}}).ok());
    }
    if (!clean) {
      fs::copy_file(original.StatePath(), folder.StatePath());
      fs::copy_file(original.StatePath() + "-wal", folder.StatePath() + "-wal");
    }
  }
  if (clean) fs::copy_file(original.StatePath(), folder.StatePath());
}

bool Same(const InstanceRecord& a, const InstanceRecord& b) {
  return a.name == b.name && a.address == b.address && a.env == b.env && a.desired == b.desired &&
         a.entrypoint == b.entrypoint && a.command == b.command && a.created_at == b.created_at;
}

bool Same(const Observed& a, const Observed& b) {
  return a.state == b.state && a.reason == b.reason && a.exit_code == b.exit_code &&
         a.message == b.message && a.generation == b.generation &&
         a.container_id == b.container_id && a.revision == b.revision && a.since == b.since &&
         a.failures == b.failures && a.next_start == b.next_start;
}

// Whatever is loaded is as it was written; only if something was lost may anything be missing.
// Returns how many instances were loaded.
int CheckTruth(const StoredState& state) {
  const bool lost = !state.lost.empty();
  CHECK(state.classes.size() <= 1);
  for (const ClassRecord& record : state.classes) {
    CHECK(record.config.name == "web");
    CHECK(record.source == "name = \"web\"\n");
    CHECK(record.address == 7);
  }
  for (const InstanceRecord& record : state.instances) {
    const int number = std::stoi(record.name.id.substr(3));
    CHECK(Same(record, Numbered(number)));
    const bool observed = Same(record.observed, Numbered(number).observed);
    CHECK((observed || (lost && record.observed.state == State::kStopped)));
  }
  if (!lost) {
    CHECK(state.classes.size() == 1);
    CHECK(state.instances.size() == kInstances);
    CHECK(state.cursors.instance == 1000);
  }
  return static_cast<int>(state.instances.size());
}

}  // namespace

TEST_CASE("a state file that is gone although it is expected is told, until it is accepted") {
  TemporaryFolder folder;
  CHECK(Reopened(folder.StatePath(), StateFile::kMayBeNew).lost.empty());
  fs::remove(folder.StatePath());
  StoredState state = Reopened(folder.StatePath());
  CHECK(state.lost.find("was gone") != std::string::npos);
  CHECK(state.last_event == 1);
  // The agent that read this may have been killed before it rebuilt anything.
  CHECK_FALSE(Reopened(folder.StatePath()).lost.empty());
  {
    auto store = OpenStore(folder.StatePath());
    REQUIRE(Commit(*store, {AcceptLoss{}}).ok());
  }
  CHECK(Reopened(folder.StatePath()).lost.empty());
  CHECK(Aside(folder).empty());
}

TEST_CASE("an empty, a truncated and a foreign state file are put aside and told") {
  for (const char* damage : {"empty", "header", "half", "odd", "foreign"}) {
    CAPTURE(damage);
    TemporaryFolder folder;
    MakeFiles(folder, true);
    std::string text = ReadFile(folder.StatePath());
    if (damage == std::string("empty")) text.clear();
    if (damage == std::string("header")) text.resize(50);
    if (damage == std::string("half")) text.resize(text.size() / 2);
    if (damage == std::string("odd")) text.resize(text.size() - 1000);
    if (damage == std::string("foreign")) text = std::string(8192, 'x');
    WriteFile(folder.StatePath(), text);
    StoredState state = Reopened(folder.StatePath());
    CHECK_FALSE(state.lost.empty());
    CHECK(state.lost.find('\n') == std::string::npos);
    CheckTruth(state);
    REQUIRE(Aside(folder).size() == 1);
    CHECK(state.lost.find(Aside(folder)[0]) != std::string::npos);
    CHECK(ReadFile(Aside(folder)[0]) == text);
  }
}

TEST_CASE("what was put aside is never overwritten") {
  TemporaryFolder folder;
  for (int i = 0; i < 3; ++i) {
    WriteFile(folder.StatePath(), "not a database " + std::to_string(i));
    Reopened(folder.StatePath());
  }
  CHECK(Aside(folder).size() == 3);
}

TEST_CASE("a log without its state file is put aside, and not taken for another's") {
  TemporaryFolder folder;
  MakeFiles(folder, false);
  const std::string log = ReadFile(folder.StatePath() + "-wal");
  fs::remove(folder.StatePath());
  CHECK(Reopened(folder.StatePath(), StateFile::kMayBeNew).instances.empty());
  bool kept = false;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    kept = kept || (entry.path() != folder.StatePath() + "-wal" && ReadFile(entry.path()) == log);
  }
  CHECK(kept);
}

TEST_CASE("a log that ends early is a crash, and not damage") {
  TemporaryFolder folder;
  for (size_t cut : {1, 100, 4096, 30'000}) {
    MakeFiles(folder, false);
    const std::string log = ReadFile(folder.StatePath() + "-wal");
    WriteFile(folder.StatePath() + "-wal", log.substr(0, log.size() - cut));
    CHECK(Reopened(folder.StatePath()).lost.empty());
    fs::remove(folder.StatePath());
    fs::remove(folder.StatePath() + "-wal");
  }
}

TEST_CASE("a row whose content was changed behind SQLite's back is told, and the others salvaged") {
  TemporaryFolder folder;
  MakeFiles(folder, true);
  std::string text = ReadFile(folder.StatePath());
  // The middle of the value of one instance: SQLite has no way to see it.
  text[text.find(std::string(200, 'x')) + 100] = 'y';
  WriteFile(folder.StatePath(), text);
  StoredState state = Reopened(folder.StatePath());
  CHECK(state.lost.find("was altered") != std::string::npos);
  CHECK(CheckTruth(state) == kInstances - 1);
  CHECK(state.classes.size() == 1);
}

TEST_CASE("a transaction in the middle of the log that was changed is told") {
  TemporaryFolder folder;
  MakeFiles(folder, false);
  std::string log = ReadFile(folder.StatePath() + "-wal");
  log[log.size() / 2] ^= 1;
  WriteFile(folder.StatePath() + "-wal", log);
  StoredState state = Reopened(folder.StatePath());
  CHECK(state.lost.find("its log is altered") != std::string::npos);
  // All that was committed before it.
  CHECK(CheckTruth(state) > 5);
}

TEST_CASE(
    "two hundred random flips of a byte: what is loaded is as it was written, or told as lost") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  TemporaryFolder originals;
  int told = 0;
  int salvaged = 0;
  for (int round = 0; round < 200; ++round) {
    const bool clean = round % 2 == 0;
    TemporaryFolder folder;
    static const auto files = [] {
      std::array<std::pair<std::string, std::string>, 2> made;
      for (bool is_clean : {false, true}) {
        TemporaryFolder original;
        MakeFiles(original, is_clean);
        made[is_clean] = {ReadFile(original.StatePath()),
                          is_clean ? "" : ReadFile(original.StatePath() + "-wal")};
      }
      return made;
    }();
    auto [file, log] = files[clean];
    std::string& victim = clean || random() % 4 == 0 ? file : log;
    // The header of the log's last frame says whether it is one: without it the frame is torn.
    const size_t last_head = log.size() - (24 + 4096);
    size_t at = random() % victim.size();
    while (&victim == &log && at >= last_head && at < last_head + 24) at = random() % victim.size();
    const char before = victim[at];
    while (victim[at] == before) victim[at] = static_cast<char>(random());
    WriteFile(folder.StatePath(), file);
    if (!clean) WriteFile(folder.StatePath() + "-wal", log);
    CAPTURE(round);
    CAPTURE(at);
    CAPTURE(clean);
    StoredState state = Reopened(folder.StatePath());
    const int loaded = CheckTruth(state);
    if (!state.lost.empty()) {
      ++told;
      salvaged += loaded;
      REQUIRE(Aside(folder).size() == 1);
      CHECK(ReadFile(Aside(folder)[0]) == file);
    }
  }
  MESSAGE(told << " of 200 flips mattered; then " << salvaged / std::max(told, 1) << " of "
               << kInstances << " instances were salvaged on average");
  CHECK(told > 20);
}

TEST_CASE("a crash in the middle of a rebuild loses nothing that was salvaged") {
  TemporaryFolder folder;
  MakeFiles(folder, true);
  std::string text = ReadFile(folder.StatePath());
  text[text.find(std::string(200, 'x')) + 100] = 'y';
  WriteFile(folder.StatePath(), text);
  Reopened(folder.StatePath());
  // Before the last rename.
  fs::rename(folder.StatePath(), folder.StatePath() + ".new");
  StoredState state = Reopened(folder.StatePath());
  CHECK(state.instances.size() == kInstances - 1);
  CHECK_FALSE(state.lost.empty());
  // Before the first one.
  WriteFile(folder.StatePath() + ".new", "half of it");
  CHECK(Reopened(folder.StatePath()).instances.size() == kInstances - 1);
}

TEST_CASE("a version that contradicts itself is damage, and the rows are salvaged") {
  for (const char* version : {"0", "1", "2", "99", "-5", "-5; DROP TABLE about"}) {
    TemporaryFolder folder;
    MakeFiles(folder, true);
    {
      StatusOr<sqlite::Database> database = sqlite::Database::Open(folder.StatePath());
      REQUIRE(database->Execute(std::string("PRAGMA user_version = ") + version).ok());
    }
    StoredState state = Reopened(folder.StatePath());
    CHECK_FALSE(state.lost.empty());
    CHECK(CheckTruth(state) == kInstances);
  }
}

}  // namespace ctr
