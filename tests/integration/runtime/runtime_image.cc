#include "tests/integration/runtime/runtime_image.h"

#include <archive.h>
#include <archive_entry.h>

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <vector>

#include <openssl/sha.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

// A tar file in memory.
class Tar {
 public:
  Tar() : archive_(archive_write_new()) {
    archive_write_set_format_ustar(archive_);
    archive_write_set_bytes_in_last_block(archive_, 1);
    archive_write_open(archive_, this, nullptr, &Tar::Append, nullptr);
  }
  ~Tar() { archive_write_free(archive_); }

  void Folder(const std::string& path) { Add(path, AE_IFDIR, 0755, "", ""); }
  void Link(const std::string& path, const std::string& target) {
    Add(path, AE_IFLNK, 0777, "", target);
  }
  void File(const std::string& path, const std::string& text, int mode) {
    Add(path, AE_IFREG, mode, text, "");
  }
  std::string Finish() {
    archive_write_close(archive_);
    return bytes_;
  }

 private:
  static la_ssize_t Append(archive*, void* self, const void* data, size_t size) {
    static_cast<Tar*>(self)->bytes_.append(static_cast<const char*>(data), size);
    return static_cast<la_ssize_t>(size);
  }

  void Add(const std::string& path, unsigned type, int mode, const std::string& text,
           const std::string& target) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, path.c_str());
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, static_cast<mode_t>(mode));
    archive_entry_set_size(entry, static_cast<la_int64_t>(text.size()));
    if (!target.empty()) archive_entry_set_symlink(entry, target.c_str());
    archive_write_header(archive_, entry);
    archive_write_data(archive_, text.data(), text.size());
    archive_entry_free(entry);
  }

  archive* archive_;
  std::string bytes_;
};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path + ": apt-get install busybox-static");
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

std::string DigestHex(const std::string& bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return absl::BytesToHexString(digest);
}

}  // namespace

void WriteBusyboxArchive(const std::string& path) {
  Tar layer;
  for (const char* folder : {"bin", "etc", "tmp", "proc", "sys", "dev"}) layer.Folder(folder);
  layer.File("bin/busybox", ReadFile("/bin/busybox"), 0755);
  for (const char* applet :
       {"sh", "cat", "sleep", "httpd", "tail", "grep", "id", "echo", "hostname", "kill"}) {
    layer.Link(absl::StrCat("bin/", applet), "busybox");
  }
  layer.File("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n", 0644);
  layer.File("etc/group", "root:x:0:\nweb:x:1001:\nextra:x:1002:app\n", 0644);
  std::string layer_bytes = layer.Finish();

  std::string config = absl::StrCat(
      R"({"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["/bin/sh"],)",
      R"("StopSignal":"SIGUSR1"},"rootfs":{"type":"layers","diff_ids":["sha256:)",
      DigestHex(layer_bytes), R"("]}})");
  std::string config_name = DigestHex(config) + ".json";
  Tar image;
  image.File(config_name, config, 0644);
  image.File("layer.tar", layer_bytes, 0644);
  image.File("manifest.json",
             absl::StrCat(R"([{"Config":")", config_name,
                          R"(","RepoTags":["busybox:test"],"Layers":["layer.tar"]}])"),
             0644);
  std::ofstream(path, std::ios::binary) << image.Finish();
}

}  // namespace ctr
