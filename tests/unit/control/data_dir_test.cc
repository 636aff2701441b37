#include "agent/control/data_dir.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "tests/fakes/temp_folder.h"

namespace ctr {
namespace {

// A data directory that does not exist yet, in a directory of the test's own.
class Place {
 public:
  std::string data() const { return folder_.path() / "data"; }
  bool Has(const std::string& name) const { return std::filesystem::exists(data() + "/" + name); }
  void Write(const std::string& name) const { std::ofstream(data() + "/" + name) << "x"; }

 private:
  TempFolder folder_;
};

// As an agent leaves it, whatever it was at when it ended.
void Fill(const Place& place, const DataDir& dir) {
  REQUIRE(dir.AgentId().ok());
  REQUIRE(dir.DecideContainerd("").ok());
  std::filesystem::create_directories(dir.LogDir() + "/web/alice");
  for (const char* name :
       {"state.db", "state.db-wal", "state.db-shm", "state.db.new", "state.db.damaged-20261125",
        "reserve", "logs/web/alice/1", "agent-id.new", "containerd-socket.new"}) {
    place.Write(name);
  }
}

TEST_CASE("a purge leaves nothing, and the next agent starts afresh") {
  const Place place;
  std::string first;
  {
    StatusOr<DataDir> dir = DataDir::Open(place.data());
    REQUIRE(dir.ok());
    Fill(place, *dir);
    first = *dir->AgentId();
    CHECK(dir->Purge().ok());
  }
  CHECK_FALSE(std::filesystem::exists(place.data()));
  StatusOr<DataDir> dir = DataDir::Open(place.data());
  REQUIRE(dir.ok());
  CHECK_FALSE(dir->HasAgentId());
  CHECK(*dir->AgentId() != first);
}

TEST_CASE("a purge leaves what is not ours, and the directory with it") {
  const Place place;
  StatusOr<DataDir> dir = DataDir::Open(place.data());
  REQUIRE(dir.ok());
  Fill(place, *dir);
  place.Write("notes.txt");
  CHECK(dir->Purge().ok());
  CHECK(place.Has("notes.txt"));
  CHECK_FALSE(place.Has("agent-id"));
  CHECK_FALSE(place.Has("lock"));
}

TEST_CASE("who gets the directory at the end of a purge has it alone") {
  const Place place;
  std::atomic<bool> done = false;
  std::thread purging([&] {
    while (!done) {
      StatusOr<DataDir> dir = DataDir::Open(place.data());
      if (dir.ok()) dir->Purge().IgnoreError();
    }
  });
  int had = 0;
  int shared = 0;
  while (had < 2000) {
    StatusOr<DataDir> mine = DataDir::Open(place.data());
    if (!mine.ok()) continue;
    ++had;
    shared += DataDir::Open(place.data()).ok();
  }
  done = true;
  purging.join();
  CHECK(shared == 0);
}

}  // namespace
}  // namespace ctr
