#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace ctr {

// Bytes of archives, made in memory.
struct TarEntry {
  std::string name;
  std::string bytes;
  std::string link = {};  // a symlink to it, if not ""
  int mode = 0644;
};
std::string MakeTar(const std::vector<TarEntry>& entries);
std::string Gzip(const std::string& bytes);

// A layer with one file.
std::string MakeLayer(const std::string& file, const std::string& text);

// The config of an image for this host with these layers (unpacked), running /bin/true.
std::string MakeConfig(const std::vector<std::string>& layers);

// An OCI layout with one image, whose blobs can be changed before it becomes an archive.
struct OciLayout {
  // `layers` are unpacked; they are stored gzipped. `name`: "" for none.
  OciLayout(const std::vector<std::string>& layers, const std::string& name);

  std::string Archive() const;

  std::map<std::string, std::string> blobs;  // by digest
  std::vector<std::string> layer_digests;
  std::string manifest_digest;
  std::string config_digest;
  std::string index;
};

// A Docker archive with one image; a layer is stored as it is given, packed or not.
std::string MakeDockerArchive(const std::vector<std::string>& layers, const std::string& config,
                              const std::string& tag);

void WriteWholeFile(const std::string& path, const std::string& bytes);

}  // namespace ctr
