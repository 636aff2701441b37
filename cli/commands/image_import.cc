#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"
#include "agent/base/size_text.h"
#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

namespace ctr::cli {
namespace {

constexpr size_t kArchivePieceBytes = 1 << 20;
constexpr auto kProgressInterval = std::chrono::milliseconds(100);

struct ImportFlags {
  std::string path;
  std::optional<std::string> name;
};

// An archive that is read: a file, or standard input.
struct Archive {
  UniqueFd owned;
  int fd = -1;
  std::optional<int64_t> size_bytes;  // none for a pipe
};

StatusOr<Archive> Open(const std::string& path, int input) {
  Archive archive;
  archive.fd = input;
  if (path != "-") {
    archive.owned = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!archive.owned.valid()) return CannotRead(path, errno);
    archive.fd = archive.owned.get();
  }
  struct stat status = {};
  if (::fstat(archive.fd, &status) < 0) return CannotRead(path, errno);
  if (S_ISDIR(status.st_mode)) return CannotRead(path, EISDIR);
  if (S_ISREG(status.st_mode)) archive.size_bytes = status.st_size;
  if (::isatty(archive.fd)) {
    return absl::InvalidArgumentError(
        "standard input is a terminal; write: ctr image import - < ARCHIVE, or name the file");
  }
  return archive;
}

// How far it is, on one line of a terminal; elsewhere nothing.
class Progress {
 public:
  Progress(const Io& io, std::optional<int64_t> total) : io_(io), total_(total) {}
  ~Progress() { Show(""); }

  void Sent(int64_t bytes) {
    auto now = std::chrono::steady_clock::now();
    if (!io_.err_is_terminal || now - shown_at_ < kProgressInterval) return;
    shown_at_ = now;
    std::string of = total_ ? absl::StrCat(" of ", FormatSize(*total_)) : "";
    Show(absl::StrCat("sent ", FormatSize(bytes), of));
  }
  void Unpacking() { Show("unpacking"); }

 private:
  void Show(const std::string& text) {
    if (io_.err_is_terminal) io_.err << "\r\x1b[K" << text << std::flush;
  }

  const Io& io_;
  const std::optional<int64_t> total_;
  std::chrono::steady_clock::time_point shown_at_;
};

// Sends the header and the archive's bytes. Stops early, without an error, when the agent wants no
// more: the call's status then says why.
Status Send(const ImportFlags& flags, const Archive& archive, Progress& progress,
            grpc::ClientWriter<v1::ImportImageRequest>& writer) {
  v1::ImportImageRequest request;
  if (flags.name) request.set_name(*flags.name);
  if (!writer.Write(request)) return absl::OkStatus();
  request.Clear();
  int64_t sent = 0;
  while (true) {
    std::string& data = *request.mutable_data();
    data.resize(kArchivePieceBytes);
    ssize_t count = ::read(archive.fd, data.data(), data.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return CannotRead(flags.path, errno);
    if (count == 0) break;
    data.resize(count);
    if (!writer.Write(request)) return absl::OkStatus();
    progress.Sent(sent += count);
  }
  writer.WritesDone();
  progress.Unpacking();
  return absl::OkStatus();
}

StatusOr<v1::ImportImageResponse> Stream(const ImportFlags& flags, const Archive& archive,
                                         const Io& io, Client& client) {
  grpc::ClientContext call;
  client.SetDeadline(call);
  v1::ImportImageResponse response;
  auto writer = client.stub().ImportImage(&call, &response);
  Progress progress(io, archive.size_bytes);
  Status sent = Send(flags, archive, progress, *writer);
  if (!sent.ok()) call.TryCancel();  // else the agent would take half an archive for all of it
  grpc::Status finished = writer->Finish();
  if (!sent.ok()) return sent;
  if (!finished.ok()) return client.StatusFrom(finished, call);
  return response;
}

StatusOr<v1::ImportImageResponse> Import(const ImportFlags& flags, Context& context) {
  if (flags.name) {
    CTR_RETURN_IF_ERROR(CheckUtf8(*flags.name, "--name"));
    // A variable that is not set, in a script: it did not mean the archive's own names.
    if (flags.name->empty()) {
      return absl::InvalidArgumentError(
          "--name is empty: give a name such as demo:latest, or leave --name out to take the "
          "archive's own");
    }
  }
  CTR_ASSIGN_OR_RETURN(Archive archive, Open(flags.path, context.io().input));
  CTR_ASSIGN_OR_RETURN(Client * client, context.client());
  return Stream(flags, archive, context.io(), *client);
}

int Print(const v1::ImportImageResponse& response, const Context& context) {
  if (context.json()) {
    Json array = Json::array();
    for (const std::string& reference : response.references()) {
      array.push_back(Json{{"reference", reference}});
    }
    return context.PrintJsonList(array);
  }
  for (const std::string& reference : response.references()) context.PrintLine(reference);
  return 0;
}

}  // namespace

Action DefineImageImport(CLI::App& app) {
  auto flags = std::make_shared<ImportFlags>();
  app.add_option("FILE", flags->path, "a Docker or OCI archive; - for standard input")
      ->required()
      ->type_name("");
  app.add_option("--name", flags->name,
                 "what to call the image, or of what its tags are; default: its own names")
      ->type_name("REFERENCE");
  return [flags](Context& context) {
    StatusOr<v1::ImportImageResponse> response = Import(*flags, context);
    return response.ok() ? Print(*response, context) : context.Fail(response.status());
  };
}

}  // namespace ctr::cli
