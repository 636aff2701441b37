#include "agent/store/sqlite/write_queue.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace ctr::sqlite {
namespace {

// A disk that records, and refuses what it is told to.
struct FakeDisk {
  std::vector<std::vector<std::string>> transactions;
  std::string refused;  // the class that can't be deleted
  Status error = absl::ResourceExhaustedError("full");

  WriteQueue::Write Write() {
    return [this](const std::vector<const Change*>& changes) -> Status {
      std::vector<std::string> names;
      for (const Change* change : changes) {
        if (const auto* del = std::get_if<DeleteClass>(change)) {
          if (del->name == refused) return error;
          names.push_back(del->name);
        } else if (const auto* put = std::get_if<PutObserved>(change)) {
          names.push_back(put->name.id + "@" + std::to_string(put->observed.generation));
        }
      }
      transactions.push_back(names);
      return absl::OkStatus();
    };
  }
};

Change Saw(const std::string& id, uint64_t generation) {
  Observed observed;
  observed.generation = generation;
  return PutObserved{{"web", id}, observed};
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("commits that wait together are one transaction, in their order") {
  FakeDisk disk;
  WriteQueue queue(disk.Write());
  int done = 0;
  queue.Add({DeleteClass{"a"}, DeleteClass{"b"}}, [&](Status status) { done += status.ok(); });
  queue.AddBehind({DeleteClass{"c"}});
  queue.Add({DeleteClass{"d"}}, [&](Status status) { done += status.ok(); });
  CHECK_FALSE(queue.Flush());
  CHECK(done == 2);
  CHECK(disk.transactions == std::vector<Names>{{"a", "b", "c", "d"}});
  CHECK_FALSE(queue.Flush());
  CHECK(disk.transactions.size() == 1);
}

TEST_CASE("a commit that fails does not take the others with it") {
  FakeDisk disk;
  disk.refused = "b";
  WriteQueue queue(disk.Write());
  Names outcomes;
  for (const char* name : {"a", "b", "c"}) {
    queue.Add({DeleteClass{name}}, [&, name](Status status) {
      outcomes.push_back(name + std::string(status.ok() ? " done" : " failed"));
    });
  }
  CHECK_FALSE(queue.Flush());
  CHECK(outcomes == Names{"a done", "b failed", "c done"});
  CHECK(disk.transactions == std::vector<Names>{{"a"}, {"c"}});
}

TEST_CASE("of what was observed of an instance only the last is written") {
  FakeDisk disk;
  WriteQueue queue(disk.Write());
  queue.AddBehind({Saw("x", 1), Saw("y", 1)});
  queue.AddBehind({Saw("x", 2)});
  queue.AddBehind({Saw("x", 3)});
  queue.Flush();
  CHECK(disk.transactions == std::vector<Names>{{"x@3", "y@1"}});
}

TEST_CASE("what was observed never moves before a change of another kind") {
  FakeDisk disk;
  WriteQueue queue(disk.Write());
  queue.AddBehind({Saw("x", 1), DeleteClass{"a"}, Saw("x", 2)});
  queue.Add({DeleteClass{"b"}}, [](Status) {});
  queue.AddBehind({Saw("x", 3)});
  queue.Flush();
  CHECK(disk.transactions == std::vector<Names>{{"x@1", "a", "x@2", "b", "x@3"}});
}

TEST_CASE("what could not be written behind is tried again, and does not grow") {
  FakeDisk disk;
  disk.refused = "a";
  WriteQueue queue(disk.Write());
  queue.AddBehind({DeleteClass{"a"}, Saw("x", 1)});
  CHECK(queue.Flush());
  queue.AddBehind({Saw("x", 2)});
  CHECK(queue.Flush());
  CHECK(disk.transactions.empty());
  disk.refused = "";
  CHECK_FALSE(queue.Flush());
  CHECK(disk.transactions == std::vector<Names>{{"a", "x@2"}});
}

TEST_CASE("what was observed and is tried again does not overtake what was seen of it since") {
  FakeDisk disk;
  disk.refused = "a";
  WriteQueue queue(disk.Write());
  queue.AddBehind({DeleteClass{"a"}, Saw("x", 1), Saw("y", 1)});
  queue.Add({DeleteClass{"b"}}, [](const Status&) {});
  queue.AddBehind({Saw("x", 2)});
  CHECK(queue.Flush());
  CHECK(disk.transactions == std::vector<Names>{{"b"}, {"x@2"}});
  disk.refused = "";
  CHECK_FALSE(queue.Flush());
  CHECK(disk.transactions.back() == Names{"a", "y@1"});
}

TEST_CASE("a change written behind that would be refused forever is dropped, alone") {
  FakeDisk disk;
  disk.refused = "b";
  disk.error = absl::AlreadyExistsError("taken");
  WriteQueue queue(disk.Write());
  queue.AddBehind({DeleteClass{"a"}, DeleteClass{"b"}, DeleteClass{"c"}});
  CHECK_FALSE(queue.Flush());
  CHECK(disk.transactions == std::vector<Names>{{"a"}, {"c"}});
}

}  // namespace ctr::sqlite
