#include "agent/runtime/platform.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ctr {
namespace {

// "v8" of arm64 and "v1" of amd64 are what those are without a variant.
std::string UsualVariant(const std::string& architecture, std::string variant) {
  if (architecture == "arm64" && variant == "v8") return "";
  if (architecture == "amd64" && variant == "v1") return "";
  if (architecture == "arm" && variant.empty()) return "v7";
  return variant;
}

}  // namespace

const Platform& HostPlatform() {
#if defined(__x86_64__)
  static const Platform platform{"amd64", "", "SCMP_ARCH_X86_64"};
#elif defined(__aarch64__)
  static const Platform platform{"arm64", "", "SCMP_ARCH_AARCH64"};
#elif defined(__arm__)
  static const Platform platform{"arm", "v7", "SCMP_ARCH_ARM"};
#elif defined(__powerpc64__)
  static const Platform platform{"ppc64le", "", "SCMP_ARCH_PPC64LE"};
#elif defined(__s390x__)
  static const Platform platform{"s390x", "", "SCMP_ARCH_S390X"};
#elif defined(__riscv)
  static const Platform platform{"riscv64", "", "SCMP_ARCH_RISCV64"};
#else
#error "name this architecture here"
#endif
  return platform;
}

std::string OnlyPrintable(std::string text) {
  text.resize(std::min<size_t>(text.size(), 80));
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return !absl::ascii_isprint(c); }, '?');
  return text;
}

StatusOr<Platform> ParsePlatform(std::string_view text) {
  const auto refused = [&](const char* why) {
    return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest,
                 absl::StrCat("\"", OnlyPrintable(std::string(text)), "\" is no platform: ", why));
  };
  std::vector<std::string> parts =
      absl::StrSplit(absl::AsciiStrToLower(absl::string_view(text.data(), text.size())), '/');
  if (parts.size() < 2 || parts.size() > 3) return refused("write it like linux/arm64");
  if (parts[0] != "linux") return refused("only linux runs here");
  for (const std::string& part : parts) {
    const bool valid = !part.empty() && part.size() <= 32 &&
                       std::all_of(part.begin(), part.end(), [](unsigned char c) {
                         return absl::ascii_isalnum(c) || c == '_';
                       });
    if (!valid) return refused("write it like linux/arm64");
  }
  Platform platform;
  platform.architecture = parts[1];
  if (parts[1] == "x86_64") platform.architecture = "amd64";
  if (parts[1] == "aarch64") platform.architecture = "arm64";
  if (parts[1] == "armhf") platform.architecture = "arm";
  platform.variant = UsualVariant(platform.architecture, parts.size() == 3 ? parts[2] : "");
  return platform;
}

std::string PlatformName(const Platform& platform) {
  return absl::StrCat("linux/", platform.architecture, platform.variant.empty() ? "" : "/",
                      platform.variant);
}

std::optional<int> Suits(const Platform& platform, std::string_view os,
                         std::string_view architecture, std::string_view variant_text) {
  if (os != "linux" || architecture != platform.architecture) return std::nullopt;
  const std::string variant = UsualVariant(platform.architecture, std::string(variant_text));
  const std::string wanted = UsualVariant(platform.architecture, platform.variant);
  if (variant == wanted) return 100;
  if (platform.architecture == "arm") {
    // A newer core runs what was built for an older one.
    return variant < wanted ? std::optional<int>(variant.back() - '0') : std::nullopt;
  }
  if (variant.empty()) return 50;
  return std::nullopt;
}

}  // namespace ctr
