#pragma once

#include <cstdint>
#include <map>
#include <set>
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
  std::vector<std::string>
      names;  // normalized, none twice; as a planner finds them, some may be bad
  std::vector<std::string> tags = {};  // which an OCI layout has for it without saying of what
  std::string manifest;                // "" in a Docker archive, which has none of this form
  std::string manifest_media_type;
  std::string config;
  ParsedImageConfig parsed_config;
  std::vector<LayerPlan> layers;  // the lowest first
};

// Decides what to import from a Docker archive or an OCI layout (preferred where an archive is
// both): the images for `platform`, under `name`, or if that is "" under the archive's own names.
// `name` (NormalizeAsSaid's) is for one image, or without a tag for all that the archive knows by
// tags alone. INVALID_ARGUMENT says what is wrong in one line.
StatusOr<std::vector<ImagePlan>> PlanImport(const ArchiveContents& contents,
                                            const std::string& name, const Platform& platform);

// The manifest of an image of a Docker archive, whose layers all have digest and media type by now.
std::string MakeManifest(const ImagePlan& image);

// What the two forms of archive have in common. INVALID_ARGUMENT, in one line of printable text.
Status MalformedImage(std::string_view message);
// The text of a JSON file of the archive; `what` names it in errors.
StatusOr<std::string_view> FindDocument(const ArchiveContents& contents, std::string_view name,
                                        std::string_view what);
// INVALID_ARGUMENT for more names than an image needs.
Status AddName(ImagePlan& image, std::string name);
// A name out of an archive: normalized, or as it stands there if it is no reference. That is only
// refused where it is not replaced by another.
std::string ArchiveImageName(std::string_view name);
// Where none of an archive's images is for `platform`, but for those in `others`, if any.
Status NothingFor(const Platform& platform, const std::set<std::string>& others);
// Notes a platform that was passed over; as many as are shown.
void AddPlatform(std::set<std::string>& others, std::string_view os, std::string_view architecture,
                 std::string_view variant);

// What the plans of one archive take is bounded, however often its documents name the same.
class PlanBounds {
 public:
  // INVALID_ARGUMENT if it is too much with this one, too.
  Status Add(const ImagePlan& image);

 private:
  size_t images_ = 0;
  size_t documents_bytes_ = 0;
  size_t names_bytes_ = 0;
};

StatusOr<std::vector<ImagePlan>> PlanOciLayout(const ArchiveContents& contents,
                                               const Platform& platform);
StatusOr<std::vector<ImagePlan>> PlanDockerArchive(const ArchiveContents& contents,
                                                   const Platform& platform);

}  // namespace ctr
