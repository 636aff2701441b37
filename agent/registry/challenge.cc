#include "agent/registry/challenge.h"

#include "absl/strings/ascii.h"

namespace ctr {
namespace {

constexpr size_t kMaxChallenges = 8;
constexpr size_t kMaxParameters = 16;

bool IsTokenChar(char c) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         kOthers.find(c) != std::string_view::npos;
}

// Reads the field from left to right.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  bool AtEnd() const { return at_ >= text_.size(); }
  void SkipSpace() {
    while (!AtEnd() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  void SkipCommas() {
    while (!AtEnd() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == ',')) ++at_;
  }
  bool Take(char c) {
    if (AtEnd() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string Token() {
    const size_t start = at_;
    while (!AtEnd() && IsTokenChar(text_[at_])) ++at_;
    return std::string(text_.substr(start, at_ - start));
  }
  // What stands between quotes, or a token; false for a quote that is not closed.
  bool Value(std::string& value) {
    if (!Take('"')) {
      value = Token();
      return !value.empty();
    }
    value.clear();
    while (!AtEnd()) {
      const char c = text_[at_++];
      if (c == '"') return true;
      if (c != '\\') {
        value.push_back(c);
      } else if (!AtEnd()) {
        value.push_back(text_[at_++]);
      }
    }
    return false;
  }
  size_t position() const { return at_; }
  void GoBack(size_t position) { at_ = position; }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

// One "name=value"; goes back and gives false if it is something else.
bool ReadParameter(Scanner& scanner, Challenge& challenge) {
  const size_t start = scanner.position();
  const std::string name = absl::AsciiStrToLower(scanner.Token());
  scanner.SkipSpace();
  std::string value;
  if (name.empty() || !scanner.Take('=')) {
    scanner.GoBack(start);
    return false;
  }
  scanner.SkipSpace();
  if (!scanner.Value(value)) {
    scanner.GoBack(start);
    return false;
  }
  challenge.parameters.emplace(name, std::move(value));
  return challenge.parameters.size() <= kMaxParameters;
}

}  // namespace

const std::string& Challenge::Get(const std::string& name) const {
  static const std::string& none = *new std::string();
  auto found = parameters.find(name);
  return found == parameters.end() ? none : found->second;
}

std::vector<Challenge> ParseChallenges(std::string_view field) {
  std::vector<Challenge> challenges;
  Scanner scanner(field);
  scanner.SkipCommas();
  while (!scanner.AtEnd() && challenges.size() < kMaxChallenges) {
    Challenge challenge;
    challenge.scheme = absl::AsciiStrToLower(scanner.Token());
    if (challenge.scheme.empty()) break;
    scanner.SkipSpace();
    while (ReadParameter(scanner, challenge)) {
      scanner.SkipSpace();
      if (!scanner.Take(',')) break;
      scanner.SkipCommas();
    }
    challenges.push_back(std::move(challenge));
    scanner.SkipCommas();
  }
  return challenges;
}

const Challenge* ChooseChallenge(const std::vector<Challenge>& challenges) {
  const Challenge* basic = nullptr;
  for (const Challenge& challenge : challenges) {
    if (challenge.scheme == "bearer" && !challenge.Get("realm").empty()) return &challenge;
    if (challenge.scheme == "basic" && basic == nullptr) basic = &challenge;
  }
  return basic;
}

}  // namespace ctr
