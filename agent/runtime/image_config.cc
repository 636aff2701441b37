#include "agent/runtime/image_config.h"

#include <algorithm>
#include <initializer_list>

#include "absl/strings/str_cat.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;
// Each takes some bytes of text, and some dozens in memory.
constexpr int kMaxValues = 100000;
// Docker's limit, and about what fits into the options of an overlay mount.
constexpr size_t kMaxLayers = 127;
// What execve takes: of one variable, and of all together with their pointers (a quarter of the
// usual stack).
constexpr size_t kMaxVariableBytes = 128 << 10;
constexpr size_t kMaxVariablesBytes = 2 << 20;
// Each is looked for at every start.
constexpr size_t kMaxVolumes = 128;

bool IsOneOf(std::string_view text, std::initializer_list<std::string_view> choices) {
  return std::find(choices.begin(), choices.end(), text) != choices.end();
}

Status Malformed(std::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, code::kBadRequest, message);
}

struct Shape {
  int depth = 0;
  int values = 1;  // at most
};

Shape ShapeOf(std::string_view text) {
  int depth = 0;
  Shape shape;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      shape.depth = std::max(shape.depth, ++depth);
      ++shape.values;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == ',') {
      ++shape.values;
    }
  }
  return shape;
}

// Reads members of an object by name; a missing or null one is left out, and one of another type is
// kept in mind.
class Reader {
 public:
  explicit Reader(const json& object) : object_(object) {}

  void Read(const char* name, std::string& into) {
    if (const json* value = Find(name, json::value_t::string)) into = value->get<std::string>();
  }

  void Read(const char* name, std::vector<std::string>& into) {
    const json* value = Find(name, json::value_t::array);
    if (value == nullptr) return;
    for (const json& element : *value) {
      if (!element.is_string()) return Spoil(name);
      into.push_back(element.get<std::string>());
    }
  }

  // The keys of an object, which is how images write sets.
  void ReadKeys(const char* name, std::vector<std::string>& into) {
    const json* value = Find(name, json::value_t::object);
    if (value == nullptr) return;
    for (const auto& [key, unused] : value->items()) into.push_back(key);
  }

  const json* Object(const char* name) { return Find(name, json::value_t::object); }

  // The first member of a wrong type; "" if there was none.
  const std::string& spoiled() const { return spoiled_; }

 private:
  const json* Find(const char* name, json::value_t type) {
    auto member = object_.find(name);
    if (member == object_.end() || member->is_null()) return nullptr;
    if (member->type() == type) return &*member;
    Spoil(name);
    return nullptr;
  }

  void Spoil(const char* name) {
    if (spoiled_.empty()) spoiled_ = name;
  }

  const json& object_;
  std::string spoiled_;
};

Status Check(const Reader& reader) {
  if (reader.spoiled().empty()) return absl::OkStatus();
  return Malformed(
      absl::StrCat("the image's config is malformed: \"", reader.spoiled(), "\" has another type"));
}

Status CheckVariables(const std::vector<std::string>& env) {
  size_t sum = 0;
  for (const std::string& variable : env) {
    const size_t bytes = variable.size() + 1;
    if (bytes > kMaxVariableBytes) {
      return Malformed(
          "one of the image's variables is longer than the 128 KiB that a process can be given");
    }
    sum += bytes + sizeof(char*);
  }
  if (sum <= kMaxVariablesBytes) return absl::OkStatus();
  return Malformed(absl::StrCat("the image has ", env.size(),
                                " variables, more than the 2 MiB that a process can be given"));
}

StatusOr<ImageConfig> ReadProcess(const json& object) {
  ImageConfig config;
  Reader reader(object);
  reader.Read("Entrypoint", config.entrypoint);
  reader.Read("Cmd", config.cmd);
  reader.Read("Env", config.env);
  reader.Read("User", config.user);
  reader.Read("WorkingDir", config.working_dir);
  reader.Read("StopSignal", config.stop_signal);
  reader.ReadKeys("ExposedPorts", config.exposed_ports);
  reader.ReadKeys("Volumes", config.volumes);
  CTR_RETURN_IF_ERROR(Check(reader));
  CTR_RETURN_IF_ERROR(CheckVariables(config.env));
  if (config.volumes.size() > kMaxVolumes) {
    return Malformed(
        absl::StrCat("the image has ", config.volumes.size(), " VOLUMEs, more than ", kMaxVolumes));
  }
  return config;
}

}  // namespace

StatusOr<json> ParseImageDocument(std::string_view text, std::string_view what) {
  std::string name(what);
  if (text.size() > kMaxImageDocumentBytes) {
    return Malformed(absl::StrCat(name, " is larger than 4 MiB"));
  }
  const Shape shape = ShapeOf(text);
  if (shape.depth > kMaxDepth) return Malformed(absl::StrCat(name, " is nested too deeply"));
  if (shape.values > kMaxValues) {
    return Malformed(absl::StrCat(name, " has more than ", kMaxValues, " values"));
  }
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_structured()) return Malformed(absl::StrCat(name, " is not JSON"));
  return document;
}

StatusOr<ParsedImageConfig> ParseImageConfig(std::string_view text) {
  CTR_ASSIGN_OR_RETURN(json document, ParseImageDocument(text, "the image's config"));
  if (!document.is_object()) return Malformed("the image's config is not a JSON object");
  ParsedImageConfig parsed;
  Reader reader(document);
  reader.Read("os", parsed.os);
  reader.Read("architecture", parsed.architecture);
  if (const json* process = reader.Object("config")) {
    CTR_ASSIGN_OR_RETURN(parsed.config, ReadProcess(*process));
  }
  if (const json* rootfs = reader.Object("rootfs")) {
    Reader layers(*rootfs);
    layers.Read("diff_ids", parsed.diff_ids);
    CTR_RETURN_IF_ERROR(Check(layers));
  }
  CTR_RETURN_IF_ERROR(Check(reader));
  if (parsed.diff_ids.size() > kMaxLayers) {
    return Malformed(
        absl::StrCat("the image has ", parsed.diff_ids.size(), " layers, more than ", kMaxLayers));
  }
  for (const std::string& diff_id : parsed.diff_ids) {
    if (!IsSha256Digest(diff_id)) {
      return Malformed("the image's config is malformed: a diff ID is not a SHA-256 digest");
    }
  }
  return parsed;
}

bool IsConfigMediaType(std::string_view type) {
  return IsOneOf(type, {"application/vnd.oci.image.config.v1+json",
                        "application/vnd.docker.container.image.v1+json"});
}

bool IsLayerMediaType(std::string_view type) {
  return IsOneOf(type, {"application/vnd.oci.image.layer.v1.tar",
                        "application/vnd.oci.image.layer.v1.tar+gzip",
                        "application/vnd.oci.image.layer.v1.tar+zstd",
                        "application/vnd.oci.image.layer.nondistributable.v1.tar",
                        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                        "application/vnd.docker.image.rootfs.diff.tar",
                        "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"});
}

std::string ManifestMediaType(std::string_view said) {
  constexpr char kDocker[] = "application/vnd.docker.distribution.manifest.v2+json";
  return said == kDocker ? kDocker : "application/vnd.oci.image.manifest.v1+json";
}

std::string IndexMediaType(std::string_view said) {
  constexpr char kDocker[] = "application/vnd.docker.distribution.manifest.list.v2+json";
  return said == kDocker ? kDocker : "application/vnd.oci.image.index.v1+json";
}

bool IsForPlatform(const ParsedImageConfig& config, const Platform& platform) {
  return (config.os.empty() || config.os == "linux") &&
         (config.architecture.empty() || config.architecture == platform.architecture);
}

std::vector<std::string> ChainIds(const std::vector<std::string>& diff_ids) {
  std::vector<std::string> chain;
  for (const std::string& diff_id : diff_ids) {
    chain.push_back(chain.empty() ? diff_id
                                  : Sha256Digest(absl::StrCat(chain.back(), " ", diff_id)));
  }
  return chain;
}

}  // namespace ctr
