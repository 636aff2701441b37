// Listeners and steering that go on in other hands, as the service manager hands them over.
#include <fcntl.h>

#include <doctest/doctest.h>

#include "tests/integration/proxy/world.h"

namespace ctr {
namespace {

UniqueFd Copy(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

std::string At(uint32_t address, uint16_t port) {
  return absl::StrCat(FormatIpv4(address), ":", port);
}

TEST_CASE("a listener that was kept goes on with the connections that wait on it") {
  auto first = Listener::Open("127.0.0.1:0", false);
  REQUIRE(first.ok());
  const std::string address = (*first)->address();
  UniqueFd kept = Copy((*first)->fd());
  first->reset();
  RawClient waiting(address);
  REQUIRE(waiting.connected());
  auto second = Listener::Resume(std::move(kept), address, false);
  REQUIRE(second.ok());
  CHECK((*second)->address() == address);
  CHECK((*second)->kind() == ListenerKind::kTrusted);
  CHECK(UniqueFd(::accept4((*second)->fd(), nullptr, nullptr, SOCK_CLOEXEC)).valid());
}

TEST_CASE("a kept listener of another address is not taken, any port is if none is asked for") {
  auto listener = Listener::Open("127.0.0.1:0", false);
  REQUIRE(listener.ok());
  const int fd = (*listener)->fd();
  for (const char* other : {"127.0.0.1:1", "127.0.0.2:0", "[::1]:0", "0.0.0.0:0"}) {
    CAPTURE(other);
    CHECK_FALSE(Listener::Resume(Copy(fd), other, false).ok());
  }
  CHECK(Listener::Resume(Copy(fd), "127.0.0.1:0", false).ok());
  CHECK_FALSE(Listener::ResumeSteered(Copy(fd), 127u << 24 | 9, 0).ok());
  (*listener)->Close();
  CHECK_FALSE(Listener::Resume(Copy(fd), "127.0.0.1:0", false).ok());
}

TEST_CASE("steering that was kept goes on with its pairs, for other ranges, too") {
  const Ipv4Range range = TestRange(0);
  const Ipv4Range other = TestRange(1);
  auto listener = Listener::OpenSteered(range.base, 0);
  REQUIRE(listener.ok());
  const std::array<Ipv4Range, 1> before = {range};
  auto first = SkLookup::Attach(before, (*listener)->fd());
  REQUIRE(first.ok());
  REQUIRE(first->Add(range.base + 2, 80).ok());
  SkLookup::Kept kept{Copy(first->pairs()), Copy(first->sockets()), Copy(first->link())};
  {
    SkLookup gone = *std::move(first);
  }
  CHECK(RawClient(At(range.base + 2, 80)).connected());
  const std::array<Ipv4Range, 2> after = {range, other};
  auto second = SkLookup::Resume(std::move(kept), after, (*listener)->fd());
  REQUIRE_MESSAGE(second.ok(), second.status().ToString());
  CHECK(second->List() == std::vector<std::pair<uint32_t, uint16_t>>{{range.base + 2, 80}});
  CHECK(RawClient(At(range.base + 2, 80)).connected());
  REQUIRE(second->Add(other.base + 3, 81).ok());
  CHECK(RawClient(At(other.base + 3, 81)).connected());
  CHECK_FALSE(RawClient(At(other.base + 3, 80)).connected());
  second->Remove(range.base + 2, 80);
  CHECK_FALSE(RawClient(At(range.base + 2, 80)).connected());
}

TEST_CASE("what is no steering is not taken for it") {
  const std::array<Ipv4Range, 1> ranges = {TestRange(0)};
  auto listener = Listener::OpenSteered(ranges[0].base, 0);
  REQUIRE(listener.ok());
  auto steering = SkLookup::Attach(ranges, (*listener)->fd());
  REQUIRE(steering.ok());
  const int fd = (*listener)->fd();
  const auto resume = [&](int pairs, int sockets, int link) {
    return SkLookup::Resume({Copy(pairs), Copy(sockets), Copy(link)}, ranges, fd).ok();
  };
  CHECK_FALSE(resume(fd, steering->sockets(), steering->link()));
  CHECK_FALSE(resume(steering->sockets(), steering->pairs(), steering->link()));
  CHECK_FALSE(resume(steering->pairs(), steering->sockets(), steering->pairs()));
  CHECK_FALSE(resume(steering->pairs(), steering->sockets(), 0));
  CHECK(resume(steering->pairs(), steering->sockets(), steering->link()));
}

}  // namespace
}  // namespace ctr
