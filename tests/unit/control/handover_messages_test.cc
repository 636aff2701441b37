#include "agent/control/handover_messages.h"

#include <doctest/doctest.h>

namespace ctr::handover {
namespace {

MonoTime At(int64_t ticks) { return MonoTime(MonoTime::duration(ticks)); }

TEST_CASE("what one agent says the other understands") {
  StatusOr<TakeOver> take_over = DecodeTakeOver(Encode(TakeOver{.version = "1.2 beta"}));
  REQUIRE(take_over.ok());
  CHECK(take_over->protocol == kProtocol);
  CHECK(take_over->version == "1.2 beta");

  const Count count{{"web", "alice"}, 3, 2, 1, At(-7)};
  CHECK(*DecodeCount(Encode(count)) == count);

  StatusOr<Wake> wake = DecodeWake(Encode(
      Wake{9, WakeOrigin::kRoute, At(12), 700, {"web", "instance-0"}, "GET /a b from 10.0.0.1"}));
  REQUIRE(wake.ok());
  CHECK(wake->number == 9);
  CHECK(wake->origin == WakeOrigin::kRoute);
  CHECK(wake->deadline == At(12));
  CHECK(wake->bytes == 700);
  CHECK(wake->name == InstanceName{"web", "instance-0"});
  CHECK(wake->cause == "GET /a b from 10.0.0.1");

  StatusOr<Awake> awake = DecodeAwake(Encode(Awake{9, {"web", "instance-1"}, 4, true}));
  REQUIRE(awake.ok());
  CHECK(awake->name == InstanceName{"web", "instance-1"});
  CHECK(awake->number == 9);
  CHECK(awake->generation == 4);
  CHECK(awake->dial_loopback);

  CHECK(*DecodeTaken(EncodeTaken(17)) == 17);
  CHECK(DecodeDescriptors(EncodeDescriptors({"http-0", "lock-127.77.0.0/16"})) ==
        std::vector<std::string>{"http-0", "lock-127.77.0.0/16"});
}

TEST_CASE("an error comes over with its code and when to try again") {
  const Status error = WithRetryAfter(
      Error(absl::StatusCode::kAborted, code::kStartFailed, "web/a: it crashed, again"),
      std::chrono::seconds(5));
  StatusOr<Failed> failed = DecodeFailed(Encode(Failed{3, error}));
  REQUIRE(failed.ok());
  CHECK(failed->number == 3);
  CHECK(failed->status == error);
  const Status plain = Error(absl::StatusCode::kNotFound, code::kUnknownInstance, "none");
  CHECK(DecodeFailed(Encode(Failed{3, plain}))->status == plain);
}

TEST_CASE("what makes no sense is refused") {
  for (const char* message :
       {"count", "count web/a", "count web 1 1 1 1", "count web/a 1 1 x 1", "count web/a 1 1 1 "}) {
    CAPTURE(message);
    CHECK_FALSE(DecodeCount(message).ok());
  }
  CHECK_FALSE(DecodeTakeOver("take-over now").ok());
  CHECK_FALSE(DecodeWake("wake 1 0 5").ok());
  CHECK_FALSE(DecodeAwake("awake 1 2").ok());
  CHECK_FALSE(DecodeTaken("taken").ok());
  CHECK_FALSE(DecodeFailed("failed 1 2 not_found").ok());
  CHECK(DecodeDescriptors("descriptors").empty());
}

TEST_CASE("a long text is cut, so that the message can be sent") {
  const Wake wake{1, WakeOrigin::kRequest, At(0), 0, {"web", "a"}, std::string(100'000, 'x')};
  CHECK(Encode(wake).size() < 8192);
  CHECK(DecodeWake(Encode(wake))->cause.size() == 4096);
}

}  // namespace
}  // namespace ctr::handover
