#include "agent/base/message_channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "absl/strings/str_cat.h"
#include "agent/base/unix_socket.h"

namespace ctr {
namespace {

struct Pair {
  Pair() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    ours = UniqueFd(ends[0]);
    theirs = UniqueFd(ends[1]);
  }

  UniqueFd ours;
  UniqueFd theirs;
};

// A pipe's reading end; what is written to the other can be read from every copy.
struct Pipe {
  Pipe() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    reader = UniqueFd(ends[0]);
    writer = UniqueFd(ends[1]);
  }

  UniqueFd reader;
  UniqueFd writer;
};

constexpr Duration kPatience = std::chrono::seconds(10);

TEST_CASE("a message comes over whole, with its descriptors") {
  Pair pair;
  Pipe pipe;
  Message message{"two words"};
  message.fds.push_back(std::move(pipe.reader));
  REQUIRE(SendMessage(pair.ours.get(), message).ok());
  REQUIRE(SendMessage(pair.ours.get(), {"next"}).ok());
  StatusOr<Message> received = ReceiveMessage(pair.theirs.get(), kPatience);
  REQUIRE(received.ok());
  CHECK(received->text == "two words");
  REQUIRE(received->fds.size() == 1);
  CHECK((::fcntl(received->fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  REQUIRE(::write(pipe.writer.get(), "x", 1) == 1);
  char byte = 0;
  CHECK(::read(received->fds[0].get(), &byte, 1) == 1);
  CHECK(byte == 'x');
  CHECK(ReceiveMessage(pair.theirs.get(), kPatience)->text == "next");
}

TEST_CASE("an end that is gone, and one that says nothing, are told apart") {
  Pair pair;
  CHECK(absl::IsDeadlineExceeded(
      ReceiveMessage(pair.ours.get(), std::chrono::milliseconds(1)).status()));
  pair.theirs.Reset();
  CHECK(absl::IsUnavailable(ReceiveMessage(pair.ours.get(), kPatience).status()));
  CHECK(absl::IsUnavailable(SendMessage(pair.ours.get(), {"x"})));
}

TEST_CASE("a channel sends more than the socket holds, in order, to a slow reader") {
  asio::io_context io;
  Pair pair;
  auto writer = std::make_shared<MessageChannel>(io.get_executor(), std::move(pair.ours));
  auto reader = std::make_shared<MessageChannel>(io.get_executor(), std::move(pair.theirs));
  constexpr int kCount = 200;
  for (int n = 0; n < kCount; ++n) {
    writer->Send({absl::StrCat(n, std::string(8000, ' '))});
  }
  int seen = 0;
  bool ended = false;
  const auto read = [](std::shared_ptr<MessageChannel> from, int* next,
                       bool* end) -> awaitable<void> {
    while (std::optional<Message> message = co_await from->Read()) {
      CHECK(message->text.starts_with(absl::StrCat(*next, " ")));
      ++*next;
    }
    *end = true;
  };
  asio::co_spawn(io, read(reader, &seen, &ended), asio::detached);
  asio::co_spawn(
      io,
      [](std::shared_ptr<MessageChannel> from) -> awaitable<void> {
        co_await from->Flush();
        from->Close();
      }(writer),
      asio::detached);
  io.run();
  CHECK(seen == kCount);
  CHECK(ended);
}

TEST_CASE("who connects to a socket of messages is known, and only its owner may") {
  const std::string path = absl::StrCat("/tmp/ctr-messages-", ::getpid());
  CHECK(absl::IsNotFound(ConnectForMessages(path).status()));
  StatusOr<UniqueFd> listener = ListenForMessages(path);
  REQUIRE(listener.ok());
  CHECK(std::filesystem::status(path).permissions() ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
  StatusOr<UniqueFd> client = ConnectForMessages(path);
  REQUIRE(client.ok());
  UniqueFd accepted(::accept(listener->get(), nullptr, nullptr));
  StatusOr<ucred> peer = UnixPeerOf(accepted.get());
  REQUIRE(peer.ok());
  CHECK(peer->pid == ::getpid());
  CHECK(peer->uid == ::geteuid());
  listener->Reset();
  CHECK(absl::IsNotFound(ConnectForMessages(path).status()));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace ctr
