#include "agent/api/copy_session.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/work.h"

namespace ctr {

CopySession::Hold::Hold(EventLog& events, Visit visit, ContainerFiles files, std::string cause,
                        std::string description)
    : events_(events),
      visit_(std::move(visit)),
      files_(std::move(files)),
      cause_(std::move(cause)),
      description_(std::move(description)) {}

CopySession::Hold::~Hold() {
  events_.Record({.type = event::kCopy,
                  .instance = visit_.instance()->name(),
                  .generation = visit_.instance()->observed().generation,
                  .message = absl::StrCat(description_, ": ", outcome_),
                  .cause = cause_});
}

awaitable<StatusOr<std::shared_ptr<CopySession::Hold>>> CopySession::Enter(
    Supervisor* supervisor, Runtime* runtime, asio::any_io_executor control,
    Supervisor::InstancePtr instance, std::string description, MonoTime deadline,
    std::string cause) {
  co_await AllowCancellation(false);
  CTR_CO_ASSIGN_OR_RETURN(Visit visit, co_await supervisor->Enter(instance, deadline, cause));
  StatusOr<ContainerFiles> files = runtime->Files(visit.container_id());
  if (!files.ok()) co_return Annotate(files.status(), instance->name().ToString());
  co_return std::shared_ptr<Hold>(
      new Hold(supervisor->events(), std::move(visit), *std::move(files), std::move(cause),
               std::move(description)),
      [control](Hold* hold) { asio::post(control, [hold] { delete hold; }); });
}

awaitable<StatusOr<tar::Totals>> CopySession::Finish() {
  StatusOr<tar::Totals> totals = co_await process_->Finish();
  hold_->SetOutcome(totals.ok() ? absl::StrCat(totals->entries, " files, ", totals->bytes, " bytes")
                                : absl::StrCat("failed: ", totals.status().message()));
  co_return totals;
}

}  // namespace ctr
