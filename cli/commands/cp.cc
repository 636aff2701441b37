#include <unistd.h>

#include <csignal>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/tar/bytes.h"
#include "agent/tar/pack.h"
#include "agent/tar/unpack.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"
#include "cli/copy_side.h"
#include "cli/signal_relay.h"

namespace ctr::cli {
namespace {

constexpr size_t kPieceBytes = 256 << 10;
constexpr char kStream[] = "-";

struct CopyFlags {
  std::string source;
  std::string target;
  bool archive = false;
  bool follow_link = false;
};

// The archive as messages to the agent. Fails when that wants no more: the call then says why.
class SentArchive final : public tar::ByteSink {
 public:
  explicit SentArchive(grpc::ClientWriter<v1::CopyInRequest>& call) : call_(call) {}

  Status Write(std::string_view bytes) override {
    while (!bytes.empty()) {
      v1::CopyInRequest request;
      request.set_data(std::string(bytes.substr(0, kPieceBytes)));
      bytes.remove_prefix(request.data().size());
      refused_ = refused_ || !call_.Write(request);
      if (refused_) return absl::CancelledError("the agent takes no more");
    }
    return absl::OkStatus();
  }
  bool refused() const { return refused_; }

 private:
  grpc::ClientWriter<v1::CopyInRequest>& call_;
  bool refused_ = false;
};

// The archive from the agent's messages.
class ReceivedArchive final : public tar::ByteSource {
 public:
  explicit ReceivedArchive(grpc::ClientReader<v1::CopyOutResponse>& call) : call_(call) {}

  StatusOr<size_t> Read(char* buffer, size_t size) override {
    while (at_ == piece_.data().size() && !ended_) Next();
    const size_t count = std::min(size, piece_.data().size() - at_);
    piece_.data().copy(buffer, count, at_);
    at_ += count;
    return count;
  }
  // The stream is over, well or not.
  bool ended() const { return ended_; }
  const std::optional<v1::CopyTotals>& totals() const { return totals_; }

 private:
  void Next() {
    at_ = 0;
    ended_ = !call_.Read(&piece_);
    if (ended_) piece_.Clear();
    if (piece_.has_totals()) totals_ = piece_.totals();
  }

  grpc::ClientReader<v1::CopyOutResponse>& call_;
  v1::CopyOutResponse piece_;
  size_t at_ = 0;
  bool ended_ = false;
  std::optional<v1::CopyTotals> totals_;
};

Status SendStream(int input, tar::ByteSink& sink) {
  tar::FdSource source(input);
  std::vector<char> piece(kPieceBytes);
  for (;;) {
    CTR_ASSIGN_OR_RETURN(size_t count, source.Read(piece.data(), piece.size()));
    if (count == 0) return absl::OkStatus();
    CTR_RETURN_IF_ERROR(sink.Write({piece.data(), count}));
  }
}

StatusOr<tar::Totals> CopyIn(const CopyFlags& flags, const CopySide& target, Context& context) {
  v1::CopyInRequest first;
  v1::CopyInStart& start = *first.mutable_start();
  CTR_ASSIGN_OR_RETURN(*start.mutable_ref(), context.Ref(target.instance));
  start.set_path(target.path);
  start.set_preserve(flags.archive);
  start.set_extract(flags.source == kStream);
  if (start.extract() && ::isatty(context.io().input) == 1) {
    return absl::InvalidArgumentError(
        "standard input is a terminal; write: tar c FILE... | ctr cp - ID:DIR");
  }
  CTR_ASSIGN_OR_RETURN(tar::OwnDescriptors own, tar::OwnDescriptors::Open());
  CTR_ASSIGN_OR_RETURN(Client * client, context.client());
  grpc::ClientContext call;
  client->SetDeadline(call);
  v1::CopyTotals taken;
  auto writer = client->stub().CopyIn(&call, &taken);
  writer->Write(first);  // if it fails, the call's status says why
  SentArchive sink(*writer);
  StatusOr<tar::Totals> sent = tar::Totals();
  if (start.extract()) {
    Status streamed = SendStream(context.io().input, sink);
    if (!streamed.ok()) sent = streamed;
  } else {
    sent = tar::Pack({flags.source, flags.follow_link}, own, &sink);
  }
  if (sent.ok()) {
    writer->WritesDone();
  } else if (!sink.refused()) {
    call.TryCancel();
  }
  const grpc::Status finished = writer->Finish();
  if (!sent.ok() && !sink.refused()) return sent;
  if (!finished.ok()) return client->StatusFrom(finished, call);
  sent->entries = static_cast<int64_t>(taken.entries());
  sent->bytes = static_cast<int64_t>(taken.bytes());
  if (start.extract()) {
    sent->left_out = static_cast<int64_t>(taken.left_out());
    sent->first_left_out = taken.first_left_out();
  }
  return sent;
}

// The archive as it is, to standard output.
Status PrintArchive(ReceivedArchive& archive, std::ostream& out) {
  std::vector<char> piece(kPieceBytes);
  for (;;) {
    CTR_ASSIGN_OR_RETURN(size_t count, archive.Read(piece.data(), piece.size()));
    if (count == 0) break;
    out.write(piece.data(), static_cast<std::streamsize>(count));
    if (!out.good()) return absl::AbortedError("cannot write to standard output");
  }
  out.flush();
  return out.good() ? absl::OkStatus() : absl::AbortedError("cannot write to standard output");
}

StatusOr<tar::Totals> Receive(const CopyFlags& flags, const CopySide& source,
                              ReceivedArchive& archive, const Context& context) {
  if (flags.target == kStream) {
    CTR_RETURN_IF_ERROR(PrintArchive(archive, context.io().out));
    return tar::Totals();
  }
  CTR_ASSIGN_OR_RETURN(tar::OwnDescriptors own, tar::OwnDescriptors::Open());
  const std::string name = tar::Split(source.path).name;
  StatusOr<tar::Totals> totals = tar::Unpack({.path = flags.target,
                                              .extract = false,
                                              .preserve = flags.archive,
                                              .top = name.empty() ? "." : name},
                                             own, &archive);
  // The archive is not the caller's.
  if (absl::IsInvalidArgument(totals.status())) {
    return absl::AbortedError(totals.status().message());
  }
  return totals;
}

StatusOr<tar::Totals> CopyOut(const CopyFlags& flags, const CopySide& source, Context& context,
                              grpc::ClientContext& call) {
  v1::CopyOutRequest request;
  CTR_ASSIGN_OR_RETURN(*request.mutable_ref(), context.Ref(source.instance));
  request.set_path(source.path);
  request.set_follow_link(flags.follow_link);
  CTR_ASSIGN_OR_RETURN(Client * client, context.client());
  client->SetDeadline(call);
  auto reader = client->stub().CopyOut(&call, request);
  ReceivedArchive archive(*reader);
  StatusOr<tar::Totals> totals = Receive(flags, source, archive, context);
  const bool ended = archive.ended();
  if (!ended) call.TryCancel();
  const grpc::Status finished = reader->Finish();
  if (ended && !finished.ok()) return client->StatusFrom(finished, call);
  CTR_RETURN_IF_ERROR(totals.status());
  if (!archive.totals()) return absl::InternalError("the agent ended the copy before its end");
  totals->entries = static_cast<int64_t>(archive.totals()->entries());
  totals->bytes = static_cast<int64_t>(archive.totals()->bytes());
  totals->left_out = static_cast<int64_t>(archive.totals()->left_out());
  totals->first_left_out = archive.totals()->first_left_out();
  return totals;
}

int Print(const CopyFlags& flags, const StatusOr<tar::Totals>& totals, const Context& context) {
  // Standard output may have an archive on it.
  if (!totals.ok() && flags.target == kStream) {
    return Report(totals.status(), Output::kTable, context.io());
  }
  if (!totals.ok()) return context.Fail(totals.status());
  if (totals->left_out > 0) {
    context.io().err << "ctr: left out " << totals->left_out
                     << " devices, sockets and FIFOs, which cannot be copied; the first: "
                     << totals->first_left_out << "\n";
  }
  if (!context.json() || flags.target == kStream) return 0;
  return context.PrintJson(
      Json{{"entries", totals->entries}, {"bytes", totals->bytes}, {"left_out", totals->left_out}});
}

int CopyOutUntilSignalled(const CopyFlags& flags, const CopySide& source, Context& context) {
  grpc::ClientContext call;
  std::atomic<int> ended_by = 0;
  // So that no file is left half-written. Before gRPC makes threads, which would take the signals.
  SignalRelay relay({SIGINT, SIGTERM, SIGHUP}, [&](int signal) {
    ended_by = signal;
    call.TryCancel();
  });
  const StatusOr<tar::Totals> totals = CopyOut(flags, source, context, call);
  if (!totals.ok() && ended_by != 0) return 128 + ended_by;
  return Print(flags, totals, context);
}

int Copy(const CopyFlags& flags, Context& context) {
  StatusOr<CopySide> source = ParseCopySide(flags.source);
  if (!source.ok()) return context.Fail(source.status());
  StatusOr<CopySide> target = ParseCopySide(flags.target);
  if (!target.ok()) return context.Fail(target.status());
  const bool out = !source->instance.empty();
  if (out == !target->instance.empty()) {
    return context.Fail(absl::InvalidArgumentError(
        out ? "cannot copy from instance to instance; write: ctr cp ID:PATH - | ctr cp - ID:DIR"
            : "one side must be in an instance: ID:PATH or CLASS/ID:PATH"));
  }
  if (!out) return Print(flags, CopyIn(flags, *target, context), context);
  if (flags.target == kStream && context.io().out_is_terminal) {
    return context.Fail(absl::InvalidArgumentError(
        "standard output is a terminal; write: ctr cp ID:PATH - > FILE.tar"));
  }
  if (flags.target == kStream) {
    // There is nothing here to remove, and who takes the archive may have us wait.
    grpc::ClientContext call;
    return Print(flags, CopyOut(flags, *source, context, call), context);
  }
  return CopyOutUntilSignalled(flags, *source, context);
}

}  // namespace

Action DefineCp(CLI::App& app) {
  auto flags = std::make_shared<CopyFlags>();
  app.add_option("SOURCE", flags->source, "what: a file or directory, or - for a tar archive")
      ->required()
      ->type_name("");
  app.add_option("TARGET", flags->target, "where to, or - for a tar archive")
      ->required()
      ->type_name("");
  app.add_flag("-a,--archive", flags->archive,
               "keep owners, setuid and setgid; default: all is root's in there, and yours here");
  app.add_flag("-L,--follow-link", flags->follow_link,
               "if SOURCE is a symlink, copy what it points to");
  app.description(absl::StrCat(
      app.get_description(),
      "\n\nctr cp [-a] [-L] PATH ID:PATH        ctr cp [-a] [-L] ID:PATH PATH\n"
      "As docker cp: into TARGET if that is a directory, else under its name; SOURCE/. is a\n"
      "directory's contents. A local path with a colon is written ./a:b."));
  return [flags](Context& context) { return Copy(*flags, context); };
}

}  // namespace ctr::cli
