#include "cli/arguments.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"
#include "agent/base/utf8.h"
#include "agent/base/view.h"

namespace ctr::cli {

StatusOr<v1::InstanceRef> ParseInstanceRef(std::string_view text,
                                           const std::string& default_class) {
  v1::InstanceRef ref;
  size_t slash = text.find('/');
  std::string_view id = slash == std::string_view::npos ? text : text.substr(slash + 1);
  std::string_view class_name =
      slash == std::string_view::npos ? default_class : text.substr(0, slash);
  if (id.empty() || slash == 0 || id.find('/') != std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", View(text), "\" does not name an instance: write ID or CLASS/ID, like web/alice"));
  }
  CTR_RETURN_IF_ERROR(CheckUtf8(text, "the instance's name"));
  ref.set_class_(std::string(class_name));
  ref.set_id(std::string(id));
  return ref;
}

StatusOr<std::map<std::string, std::string>> ParseVariables(const std::vector<std::string>& given,
                                                            const Environment& environment) {
  std::map<std::string, std::string> variables;
  for (const std::string& text : given) {
    size_t equals = text.find('=');
    std::string name = text.substr(0, equals);
    if (name.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("-e \"", text, "\" has no name before the '='; write NAME=VALUE"));
    }
    std::string value;
    if (equals != std::string::npos) {
      value = text.substr(equals + 1);
    } else {
      auto found = environment.find(name);
      if (found == environment.end()) continue;
      value = found->second;
    }
    CTR_RETURN_IF_ERROR(CheckUtf8(name, "a variable's name"));
    CTR_RETURN_IF_ERROR(CheckUtf8(value, absl::StrCat("the value of -e ", name)));
    variables[name] = value;
  }
  return variables;
}

Status CheckUtf8(std::string_view text, std::string_view what) {
  if (IsUtf8(text)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(View(what), " is not UTF-8 text"));
}

Status CannotRead(const std::string& path, int error_number) {
  return Error(absl::StatusCode::kAborted, "unreadable_file",
               absl::StrCat("cannot read ", path == "-" ? "standard input" : path, ": ",
                            ::strerror(error_number)));
}

StatusOr<std::string> ReadText(const std::string& path, int input, size_t max_bytes) {
  UniqueFd file;
  if (path != "-") {
    file = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return CannotRead(path, errno);
    input = file.get();
  }
  std::string text;
  char buffer[16384];
  while (true) {
    ssize_t count = ::read(input, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return CannotRead(path, errno);
    if (count == 0) return text;
    text.append(buffer, count);
    if (text.size() > max_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is longer than ", max_bytes, " bytes; is it the right file?"));
    }
  }
}

}  // namespace ctr::cli
