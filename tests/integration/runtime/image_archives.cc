#include "tests/integration/runtime/image_archives.h"

#include <archive.h>
#include <archive_entry.h>

#include <fstream>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "agent/runtime/platform.h"
#include "agent/runtime/sha256.h"

namespace ctr {
namespace {

using nlohmann::json;

la_ssize_t AppendTo(archive*, void* bytes, const void* data, size_t size) {
  static_cast<std::string*>(bytes)->append(static_cast<const char*>(data), size);
  return static_cast<la_ssize_t>(size);
}

// What `fill` writes into an archive of a form that `set_up` chooses.
template <typename SetUp, typename Fill>
std::string Write(SetUp set_up, Fill fill) {
  std::string bytes;
  archive* writer = archive_write_new();
  set_up(writer);
  archive_write_set_bytes_in_last_block(writer, 1);
  archive_write_open(writer, &bytes, nullptr, AppendTo, nullptr);
  fill(writer);
  archive_write_close(writer);
  archive_write_free(writer);
  return bytes;
}

void AddEntry(archive* writer, const TarEntry& file) {
  archive_entry* entry = archive_entry_new();
  archive_entry_set_pathname(entry, file.name.c_str());
  archive_entry_set_filetype(entry, file.link.empty() ? AE_IFREG : AE_IFLNK);
  if (!file.link.empty()) archive_entry_set_symlink(entry, file.link.c_str());
  archive_entry_set_perm(entry, static_cast<mode_t>(file.mode));
  archive_entry_set_size(entry, static_cast<la_int64_t>(file.bytes.size()));
  archive_write_header(writer, entry);
  archive_write_data(writer, file.bytes.data(), file.bytes.size());
  archive_entry_free(entry);
}

json Descriptor(const std::string& type, const std::string& bytes) {
  return {{"mediaType", "application/vnd.oci.image." + type},
          {"digest", Sha256Digest(bytes)},
          {"size", bytes.size()}};
}

std::string BlobName(const std::string& digest) { return "blobs/sha256/" + digest.substr(7); }

}  // namespace

std::string MakeTar(const std::vector<TarEntry>& entries) {
  return Write([](archive* writer) { archive_write_set_format_pax_restricted(writer); },
               [&](archive* writer) {
                 for (const TarEntry& entry : entries) AddEntry(writer, entry);
               });
}

std::string Gzip(const std::string& bytes) {
  return Write(
      [](archive* writer) {
        archive_write_set_format_raw(writer);
        archive_write_add_filter_gzip(writer);
        archive_write_set_options(writer, "gzip:!timestamp");
      },
      [&](archive* writer) { AddEntry(writer, {"data", bytes}); });
}

std::string MakeLayer(const std::string& file, const std::string& text) {
  return MakeTar({{file, text}});
}

std::string MakeConfig(const std::vector<std::string>& layers) {
  json diff_ids = json::array();
  for (const std::string& layer : layers) diff_ids.push_back(Sha256Digest(layer));
  return json{{"architecture", HostPlatform().architecture},
              {"os", "linux"},
              {"config", {{"Cmd", json::array({"/bin/true"})}}},
              {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}}
      .dump();
}

OciLayout::OciLayout(const std::vector<std::string>& layers, const std::string& name) {
  json descriptors = json::array();
  for (const std::string& layer : layers) {
    std::string packed = Gzip(layer);
    descriptors.push_back(Descriptor("layer.v1.tar+gzip", packed));
    layer_digests.push_back(Sha256Digest(packed));
    blobs[layer_digests.back()] = packed;
  }
  std::string config = MakeConfig(layers);
  config_digest = Sha256Digest(config);
  blobs[config_digest] = config;
  std::string manifest = json{
      {"schemaVersion", 2},
      {"config", Descriptor("config.v1+json", config)},
      {"layers",
       descriptors}}.dump();
  manifest_digest = Sha256Digest(manifest);
  blobs[manifest_digest] = manifest;
  json image = Descriptor("manifest.v1+json", manifest);
  if (!name.empty()) image["annotations"] = {{"org.opencontainers.image.ref.name", name}};
  index = json{{"schemaVersion", 2}, {"manifests", json::array({image})}}.dump();
}

std::string OciLayout::Archive() const {
  std::vector<TarEntry> entries = {{"oci-layout", R"({"imageLayoutVersion":"1.0.0"})"}};
  for (const auto& [digest, bytes] : blobs) entries.push_back({BlobName(digest), bytes});
  entries.push_back({"index.json", index});
  return MakeTar(entries);
}

std::string MakeDockerArchive(const std::vector<std::string>& layers, const std::string& config,
                              const std::string& tag) {
  std::vector<TarEntry> entries = {{"config.json", config}};
  json names = json::array();
  for (size_t i = 0; i < layers.size(); ++i) {
    names.push_back(absl::StrCat(i, "/layer.tar"));
    entries.push_back({names.back(), layers[i]});
  }
  json image = {{"Config", "config.json"}, {"RepoTags", json::array({tag})}, {"Layers", names}};
  entries.push_back({"manifest.json", json::array({image}).dump()});
  return MakeTar(entries);
}

void WriteWholeFile(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace ctr
