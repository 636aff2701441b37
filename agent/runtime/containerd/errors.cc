#include "agent/runtime/containerd/errors.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace ctr {
namespace {

constexpr std::array<absl::string_view, 12> kPrefixes = {
    "failed to create shim task: ",
    "failed to create shim: ",
    "failed to start shim: ",
    "OCI runtime create failed: ",
    "OCI runtime start failed: ",
    "OCI runtime exec failed: ",
    "exec failed: ",
    "runc create failed: ",
    "runc start failed: ",
    "cannot start a container that has stopped: ",
    "unable to start container process: ",
    "rpc error: ",
};

constexpr std::array<absl::string_view, 6> kSuffixes = {
    ": unknown",     ": not found",        ": already exists", ": failed precondition",
    ": unavailable", ": invalid argument",
};

bool StripAnyPrefix(absl::string_view& text) {
  return std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](absl::string_view prefix) { return absl::ConsumePrefix(&text, prefix); });
}

bool StripAnySuffix(absl::string_view& text) {
  return std::any_of(kSuffixes.begin(), kSuffixes.end(),
                     [&](absl::string_view suffix) { return absl::ConsumeSuffix(&text, suffix); });
}

// The program in `exec: "/bin/nope": stat /bin/nope: …`; "" if the message is of another form.
absl::string_view ProgramOf(absl::string_view message) {
  if (!absl::ConsumePrefix(&message, "exec: \"")) return {};
  size_t end = message.find("\": ");
  return end == absl::string_view::npos ? absl::string_view() : message.substr(0, end);
}

std::string PlaceOf(const ProgramSource& source) {
  if (source.old_disk.empty()) return "the image " + source.image;
  return absl::StrCat("the kept disk of ", source.old_disk,
                      ", whose files are of an earlier image than ", source.image, " is now");
}

// What helps as well.
std::string DiskAdvice(const ProgramSource& source) {
  if (source.old_disk.empty()) return "";
  return absl::StrCat(
      "; or start afresh with the image as it is now, without what was written: ctr destroy ",
      source.old_disk);
}

}  // namespace

std::string CleanContainerdMessage(std::string message) {
  std::replace_if(
      message.begin(), message.end(), [](unsigned char c) { return absl::ascii_iscntrl(c); }, ' ');
  absl::string_view text = absl::StripAsciiWhitespace(message);
  // The class of the error is a suffix only if something stands before it.
  while (StripAnySuffix(text)) text = absl::StripTrailingAsciiWhitespace(text);
  while (StripAnyPrefix(text)) text = absl::StripLeadingAsciiWhitespace(text);
  return std::string(text);
}

Status StartError(const Status& status, const ProgramSource& source) {
  if (status.ok()) return status;
  std::string message = CleanContainerdMessage(std::string(status.message()));
  absl::string_view program = ProgramOf(message);
  if (absl::StrContains(message, "unable to apply apparmor profile") &&
      absl::StrContains(message, "no such file or directory")) {
    return Annotate(Status(status.code(),
                           "the AppArmor profile that the class names is not loaded: load it (with "
                           "apparmor_parser), or change `apparmor` in the class"),
                    "cannot start the container");
  }
  if (program.empty())
    return Annotate(Status(status.code(), message), "cannot start the container");
  std::string_view detail;
  std::string what = absl::StrCat("program \"", program, "\" ");
  if (absl::StrContains(message, "no such file or directory") ||
      absl::StrContains(message, "executable file not found")) {
    detail = code::kCommandNotFound;
    absl::StrAppend(
        &what, "not found in ", PlaceOf(source),
        " (or its interpreter is); set `entrypoint` in the class to a program that it has",
        DiskAdvice(source));
  } else if (absl::StrContains(message, "permission denied") ||
             absl::StrContains(message, "is a directory")) {
    detail = code::kCommandNotExecutable;
    absl::StrAppend(&what, "is not executable in ", PlaceOf(source),
                    "; make it so there, or set `entrypoint` in the class to another program",
                    DiskAdvice(source));
  } else {
    absl::StrAppend(&what, "cannot be run in ", PlaceOf(source), ": ", message, DiskAdvice(source));
  }
  return WithDetail(Error(absl::StatusCode::kFailedPrecondition, code::kStartFailed, what), detail);
}

}  // namespace ctr
