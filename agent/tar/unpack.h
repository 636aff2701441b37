#pragma once

#include <string>

#include "agent/base/error.h"
#include "agent/tar/bytes.h"
#include "agent/tar/open.h"
#include "agent/tar/pack.h"

namespace ctr::tar {

struct UnpackOptions {
  std::string path;
  // The archive is not a copy made by Pack: everything in it goes below `path`, a directory.
  bool extract = false;
  bool preserve = false;  // owners, setuid and setgid, too; else files are the caller's
  std::string top = {};   // if not "": what the first entry of a copy has to be
};

// Makes files of an archive, whoever made it. A copy goes where docker cp would put it: into the
// directory that `path` is, under its own name; else it gets the name `path`, whose parent exists.
// Nothing is written outside: names that lead out are refused, symlinks on the way are not
// followed, and files appear whole, in place of what had their name before, under which a
// directory, a device, a socket or a FIFO is not replaced. An archive that is cut off fails at its
// end. What was made before an error stays. Errors: INVALID_ARGUMENT for the archive, what the
// system says of a path; of the source. Blocks.
StatusOr<Totals> Unpack(const UnpackOptions& options, const OwnDescriptors& own,
                        ByteSource* source);

}  // namespace ctr::tar
