#include "agent/control/handover_messages.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace ctr::handover {
namespace {

// Takes a message apart, word after word. A word that is not there, or no number where one has to
// be, makes it broken.
class Words {
 public:
  explicit Words(std::string_view message) : rest_(RestOf(message)) {}

  std::string_view Next() {
    broken_ |= rest_.empty();
    const size_t end = std::min(rest_.find(' '), rest_.size());
    const std::string_view word = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    return word;
  }
  template <typename Number>
  Number NextNumber() {
    Number number = 0;
    broken_ |= !absl::SimpleAtoi(std::string(Next()), &number);
    return number;
  }
  MonoTime NextTime() { return MonoTime(MonoTime::duration(NextNumber<int64_t>())); }
  InstanceName NextName() {
    const std::string_view word = Next();
    const size_t slash = word.find('/');
    broken_ |= slash == std::string_view::npos;
    if (broken_) return {};
    return {std::string(word.substr(0, slash)), std::string(word.substr(slash + 1))};
  }
  std::string_view rest() const { return rest_; }

  template <typename Decoded>
  StatusOr<Decoded> Checked(Decoded decoded) const {
    if (broken_) return absl::InvalidArgumentError("a message of a hand-over that makes no sense");
    return decoded;
  }

 private:
  std::string_view rest_;
  bool broken_ = false;
};

// Of a text that may be long: the path of a request, say.
constexpr size_t kMaxText = 4096;

std::string KindWith(std::string_view kind) { return absl::StrCat(std::string(kind), " "); }
int64_t Ticks(MonoTime time) { return time.time_since_epoch().count(); }

}  // namespace

std::string SocketPath(const std::string& run_dir) { return run_dir + "/takeover.sock"; }

std::string_view KindOf(std::string_view message) { return message.substr(0, message.find(' ')); }

std::string_view RestOf(std::string_view message) {
  const size_t end = message.find(' ');
  return end == std::string_view::npos ? std::string_view() : message.substr(end + 1);
}

std::string Encode(const TakeOver& message) {
  return absl::StrCat(KindWith(kTakeOver), message.protocol, " ", message.version);
}

StatusOr<TakeOver> DecodeTakeOver(std::string_view message) {
  Words words(message);
  TakeOver decoded;
  decoded.protocol = words.NextNumber<int>();
  decoded.version = words.rest();
  return words.Checked(std::move(decoded));
}

std::string EncodeDescriptors(const std::vector<std::string>& names) {
  return KindWith(kDescriptors) + absl::StrJoin(names, " ");
}

std::vector<std::string> DecodeDescriptors(std::string_view message) {
  return absl::StrSplit(std::string(RestOf(message)), ' ', absl::SkipEmpty());
}

std::string Encode(const Count& message) {
  return absl::StrCat(KindWith(kCount), message.name.ToString(), " ", message.in_flight, " ",
                      message.tunnels, " ", message.visits, " ",
                      Ticks(message.last_tunnel_activity));
}

StatusOr<Count> DecodeCount(std::string_view message) {
  Words words(message);
  Count decoded;
  decoded.name = words.NextName();
  decoded.in_flight = words.NextNumber<uint64_t>();
  decoded.tunnels = words.NextNumber<uint64_t>();
  decoded.visits = words.NextNumber<uint64_t>();
  decoded.last_tunnel_activity = words.NextTime();
  return words.Checked(std::move(decoded));
}

std::string Encode(const Wake& message) {
  return absl::StrCat(KindWith(kWake), message.number, " ",
                      message.origin == WakeOrigin::kRoute ? 1 : 0, " ", Ticks(message.deadline),
                      " ", message.bytes, " ", message.name.ToString(), " ",
                      message.cause.substr(0, kMaxText));
}

StatusOr<Wake> DecodeWake(std::string_view message) {
  Words words(message);
  Wake decoded;
  decoded.number = words.NextNumber<uint64_t>();
  decoded.origin = words.NextNumber<int>() == 1 ? WakeOrigin::kRoute : WakeOrigin::kRequest;
  decoded.deadline = words.NextTime();
  decoded.bytes = words.NextNumber<uint64_t>();
  decoded.name = words.NextName();
  decoded.cause = words.rest();
  return words.Checked(std::move(decoded));
}

std::string Encode(const Awake& message) {
  return absl::StrCat(KindWith(kAwake), message.number, " ", message.name.ToString(), " ",
                      message.generation, " ", message.dial_loopback ? 1 : 0);
}

StatusOr<Awake> DecodeAwake(std::string_view message) {
  Words words(message);
  Awake decoded;
  decoded.number = words.NextNumber<uint64_t>();
  decoded.name = words.NextName();
  decoded.generation = words.NextNumber<uint64_t>();
  decoded.dial_loopback = words.NextNumber<int>() == 1;
  return words.Checked(std::move(decoded));
}

std::string EncodeTaken(uint64_t number) { return absl::StrCat(KindWith(kTaken), number); }

StatusOr<uint64_t> DecodeTaken(std::string_view message) {
  Words words(message);
  const auto number = words.NextNumber<uint64_t>();
  return words.Checked(number);
}

std::string Encode(const Failed& message) {
  const int64_t retry_after = RetryAfterOf(message.status).value_or(Duration(-1)).count();
  return absl::StrCat(KindWith(kFailed), message.number, " ",
                      static_cast<int>(message.status.code()), " ", ErrorCodeOf(message.status),
                      " ", retry_after, " ", message.status.message().substr(0, kMaxText));
}

StatusOr<Failed> DecodeFailed(std::string_view message) {
  Words words(message);
  Failed decoded;
  decoded.number = words.NextNumber<uint64_t>();
  const auto code = static_cast<absl::StatusCode>(words.NextNumber<int>());
  const std::string_view error_code = words.Next();
  const Duration retry_after(words.NextNumber<int64_t>());
  decoded.status = Error(code, error_code, words.rest());
  if (retry_after >= Duration::zero()) {
    decoded.status = WithRetryAfter(std::move(decoded.status), retry_after);
  }
  return words.Checked(std::move(decoded));
}

}  // namespace ctr::handover
