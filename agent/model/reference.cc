#include "agent/model/reference.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ctr {
namespace {

using absl::string_view;

constexpr char kDefaultDomain[] = "docker.io";
constexpr char kLegacyDomain[] = "index.docker.io";
constexpr char kOfficialPrefix[] = "library/";
constexpr char kDefaultTag[] = "latest";
constexpr size_t kMaxRepositoryLength = 255;
constexpr size_t kMaxTagLength = 128;

bool IsLowerHex(char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); }
bool IsLowerAlnum(char c) { return absl::ascii_isdigit(c) || absl::ascii_islower(c); }

template <typename Predicate>
bool All(string_view text, Predicate predicate) {
  return std::all_of(text.begin(), text.end(), predicate);
}

bool HasUpper(string_view text) {
  return !All(text, [](unsigned char c) { return !absl::ascii_isupper(c); });
}

// [a-zA-Z0-9] or the same with dashes inside.
bool IsHostLabel(string_view label) {
  return !label.empty() && label.front() != '-' && label.back() != '-' &&
         All(label, [](unsigned char c) { return absl::ascii_isalnum(c) || c == '-'; });
}

bool IsHost(string_view host) {
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]") && host.size() > 2) {
    return All(host.substr(1, host.size() - 2),
               [](unsigned char c) { return absl::ascii_isxdigit(c) || c == ':'; });
  }
  for (string_view label : absl::StrSplit(host, '.')) {
    if (!IsHostLabel(label)) return false;
  }
  return true;
}

// Where the port begins, with its colon; npos for none.
size_t PortColon(string_view domain) {
  size_t colon = domain.rfind(':');
  size_t bracket = domain.rfind(']');
  return bracket != string_view::npos && colon != string_view::npos && bracket > colon
             ? string_view::npos
             : colon;
}

Status Invalid(string_view reference, string_view why) {
  // Whatever it is, it is shown in one line.
  std::string shown(reference.substr(0, 2 * kMaxRepositoryLength));
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char c) { return !absl::ascii_isprint(c); }, '?');
  return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
               std::string(absl::StrCat("\"", shown, "\" is not an image reference: ", why)));
}

Status CheckDomain(string_view reference, string_view domain) {
  const size_t colon = PortColon(domain);
  const string_view port = colon == string_view::npos ? "0" : domain.substr(colon + 1);
  const bool is_number =
      !port.empty() && All(port, [](unsigned char c) { return absl::ascii_isdigit(c); });
  if (!IsHost(domain.substr(0, colon)) || !is_number) {
    return Invalid(reference, absl::StrCat("\"", domain, "\" is not a registry's host"));
  }
  int number = 0;
  if (!absl::SimpleAtoi(port, &number) || number > 65535) {
    return Invalid(reference, absl::StrCat(port, " is not a port; the highest is 65535"));
  }
  return absl::OkStatus();
}

// Lower-case letters and digits, in groups that one '.', one or two '_' or any number of '-'
// separate.
bool IsPathComponent(string_view component) {
  size_t at = 0;
  auto skip = [&](auto predicate) {
    size_t start = at;
    while (at < component.size() && predicate(component[at])) ++at;
    return component.substr(start, at - start);
  };
  while (true) {
    if (skip(IsLowerAlnum).empty()) return false;
    if (at == component.size()) return true;
    string_view separator = skip([](char c) { return !IsLowerAlnum(c); });
    bool dashes = All(separator, [](char c) { return c == '-'; });
    if (separator != "." && separator != "_" && separator != "__" && !dashes) return false;
  }
}

bool IsTag(string_view tag) {
  return !tag.empty() && tag.size() <= kMaxTagLength && tag.front() != '.' && tag.front() != '-' &&
         All(tag, [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-';
         });
}

bool IsDigest(string_view digest) {
  for (auto [algorithm, digits] :
       {std::pair<string_view, size_t>{"sha256:", 64}, {"sha384:", 96}, {"sha512:", 128}}) {
    if (absl::ConsumePrefix(&digest, algorithm)) {
      return digest.size() == digits && All(digest, IsLowerHex);
    }
  }
  return false;
}

struct Split {
  string_view domain;
  std::string remainder;
};

// What stands before the first '/' is a domain if it can be nothing else.
Split SplitDomain(string_view reference) {
  Split split{kDefaultDomain, std::string(reference)};
  size_t slash = reference.find('/');
  if (slash != string_view::npos) {
    string_view first = reference.substr(0, slash);
    bool is_domain = first == "localhost" || absl::StrContains(first, '.') ||
                     absl::StrContains(first, ':') || HasUpper(first);
    if (is_domain)
      split = {first == kLegacyDomain ? kDefaultDomain : first,
               std::string(reference.substr(slash + 1))};
  }
  if (split.domain == kDefaultDomain && !absl::StrContains(split.remainder, '/')) {
    split.remainder = absl::StrCat(kOfficialPrefix, split.remainder);
  }
  return split;
}

Status CheckRepository(string_view reference, string_view repository) {
  if (HasUpper(repository)) {
    return Invalid(reference, "the name must be in lower case");
  }
  if (repository.size() > kMaxRepositoryLength) {
    return Invalid(reference, "the name is longer than 255 characters");
  }
  for (string_view component : absl::StrSplit(repository, '/')) {
    if (!IsPathComponent(component)) {
      return Invalid(
          reference,
          "a name looks like \"demo\", \"demo:1.0\" or \"registry.example/team/demo:1.0\"");
    }
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::string> NormalizeReference(std::string_view reference_text) {
  string_view reference(reference_text.data(), reference_text.size());
  if (reference.empty()) return Invalid(reference, "it is empty");
  if (reference.size() == 64 && All(reference, IsLowerHex)) {
    return Invalid(reference, "64 hexadecimal digits are an ID, not a name");
  }
  auto [domain, remainder] = SplitDomain(reference);
  string_view rest = remainder;
  string_view digest;
  if (size_t at = rest.find('@'); at != string_view::npos) {
    digest = rest.substr(at + 1);
    if (!IsDigest(digest)) {
      return Invalid(reference,
                     "after '@' stands a digest such as sha256 and 64 lower-case digits");
    }
    rest = rest.substr(0, at);
  }
  string_view tag = kDefaultTag;
  if (size_t colon = rest.find(':'); colon != string_view::npos) {
    tag = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (!IsTag(tag)) {
      return Invalid(reference,
                     "a tag has 1 to 128 letters, digits, '_', '.' or '-' and starts with none of "
                     "the last two");
    }
  }
  CTR_RETURN_IF_ERROR(CheckDomain(reference, domain));
  CTR_RETURN_IF_ERROR(CheckRepository(reference, rest));
  // A digest says which image it is; a tag beside it says nothing more.
  std::string name = absl::StrCat(domain, "/", rest);
  return digest.empty() ? absl::StrCat(name, ":", tag) : absl::StrCat(name, "@", digest);
}

StatusOr<std::string> NormalizeAsSaid(std::string_view reference) {
  CTR_ASSIGN_OR_RETURN(std::string normalized, NormalizeReference(reference));
  if (!SaysWhich(reference)) normalized.resize(normalized.rfind(':'));
  return normalized;
}

bool SaysWhich(std::string_view reference) {
  // Before the last '/', a colon is a port's.
  return reference.substr(reference.rfind('/') + 1).find_first_of(":@") != std::string_view::npos;
}

std::string AtDigest(std::string_view normalized, std::string_view digest) {
  std::string name(normalized.substr(0, normalized.find('@')));
  const size_t colon = name.rfind(':');
  if (colon != std::string::npos && colon > name.rfind('/')) name.resize(colon);
  return absl::StrCat(name, "@", std::string(digest));
}

}  // namespace ctr
