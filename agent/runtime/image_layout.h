#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/runtime/image_config.h"
#include "agent/runtime/platform.h"

namespace ctr {

// What an image archive has in it, as a first reading finds. Names are CleanArchiveName's.
struct ArchiveContents {
  std::map<std::string, int64_t> files;          // every regular file's size
  std::map<std::string, std::string> links;      // name -> the name that it stands for
  std::map<std::string, std::string> documents;  // contents of the JSON files

  // The file that `name` is after links; "" if there is none.
  std::string FileOf(std::string_view name) const;
};

// "./a//b/../c" -> "a/c"; never above the archive's root. Names are only compared, not opened.
std::string CleanArchiveName(std::string_view name);

struct LayerPlan {
  std::string file;        // in the archive
  std::string digest;      // "" in a Docker archive: known once the layer has been read
  std::string media_type;  // "" likewise
  int64_t size = 0;
  std::string diff_id;
};

// One image to import. Digests and sizes of its documents are verified.
struct ImagePlan {
  std::vector<std::string> names;  // normalized, none twice
  std::string manifest;            // "" in a Docker archive, which has none of this form
  std::string manifest_media_type;
  std::string config;
  ParsedImageConfig parsed_config;
  std::vector<LayerPlan> layers;  // the lowest first
};

// Decides what to import from a Docker archive or an OCI layout (preferred where an archive is
// both): the images for `platform`, under `name` (normalized; there must be one image then), or if
// that is "" under the archive's own names. INVALID_ARGUMENT says what is wrong in one line.
StatusOr<std::vector<ImagePlan>> PlanImport(const ArchiveContents& contents,
                                            const std::string& name, const Platform& platform);

// The manifest of an image of a Docker archive, whose layers all have digest and media type by now.
std::string MakeManifest(const ImagePlan& image);

// What the two forms of archive have in common.
Status MalformedImage(std::string_view message);
// The text of a JSON file of the archive; `what` names it in errors.
StatusOr<std::string_view> FindDocument(const ArchiveContents& contents, std::string_view name,
                                        std::string_view what);
void AddName(ImagePlan& image, std::string name);

StatusOr<std::vector<ImagePlan>> PlanOciLayout(const ArchiveContents& contents,
                                               const Platform& platform);
StatusOr<std::vector<ImagePlan>> PlanDockerArchive(const ArchiveContents& contents,
                                                   const Platform& platform);

}  // namespace ctr
