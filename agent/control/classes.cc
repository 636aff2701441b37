// Classes: applied, changed and removed.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/base/work.h"
#include "agent/config/autoscale_edit.h"
#include "agent/config/class_file.h"
#include "agent/config/image_digest_edit.h"
#include "agent/control/log_files.h"
#include "agent/control/supervisor.h"
#include "agent/model/reference.h"
#include "spdlog/spdlog.h"

namespace ctr {
namespace {

// While it lives, the class makes no new instances.
class Removing {
 public:
  explicit Removing(ClassState& state) : state_(state) { state_.removing = true; }
  Removing(const Removing&) = delete;
  ~Removing() { state_.removing = false; }

 private:
  ClassState& state_;
};

// A folder of the host that is not there yet may well come.
awaitable<std::string> NoteOfVolumes(asio::any_io_executor work, std::vector<Volume> volumes) {
  std::vector<std::string> missing;
  for (const Volume& volume : volumes) {
    if (volume.host.empty()) continue;
    const bool there =
        co_await OnWork(work, [host = volume.host] { return ::access(host.c_str(), F_OK) == 0; });
    if (!there) missing.push_back(volume.host);
  }
  if (missing.empty()) co_return "";
  co_return absl::StrCat("no instance will start before there is on this host: ",
                         absl::StrJoin(missing, ", "));
}

// Nobody can be given more than the agent may have.
std::string NoteOfOpenFiles(int nofile) {
  rlimit own{};
  if (::getrlimit(RLIMIT_NOFILE, &own) != 0 || static_cast<rlim_t>(nofile) <= own.rlim_max) {
    return "";
  }
  return absl::StrCat("nofile counts as ", own.rlim_max,
                      ", the agent's own hard limit: raise that, as ctr doctor says");
}

}  // namespace

awaitable<StatusOr<AppliedClass>> Supervisor::ApplyClass(std::string source, std::string file_name,
                                                         std::string cause) {
  CTR_CO_ASSIGN_OR_RETURN(ClassConfig config, ParseClassFile(source, file_name));
  AppliedClass applied{.name = config.name};
  CTR_CO_ASSIGN_OR_RETURN(std::string image, NormalizeReference(config.image));
  const std::shared_ptr<void> wanted = WantImage(image);
  StatusOr<std::string> digest = co_await ProvideImage(config);
  if (!digest.ok()) co_return Annotate(digest.status(), file_name);
  const std::shared_ptr<void> wanted_pin = WantImage(AtDigest(image, *digest));
  if (config.image_digest != *digest) {
    // What it runs is kept with it as if its file said so.
    config.image_digest = *digest;
    CTR_CO_ASSIGN_OR_RETURN(source, WithImageDigest(source, config));
  }

  Semaphore::Permit permit = co_await class_edits_.Acquire();
  auto found = classes_.find(config.name);
  const bool known = found != classes_.end();
  if (known && *found->second->config == config) {
    co_await LookAtImages();
    applied.note = NoteOfOldImages(applied.name);
    co_return applied;
  }
  ClassRecord record{.config = config, .source = std::move(source), .applied_at = clock_.Wall()};
  const auto unread = unread_classes_.find(config.name);
  if (known) {
    record.address = found->second->record.address;
  } else if (unread != unread_classes_.end()) {
    record.address = unread->second;
  } else {
    CTR_CO_ASSIGN_OR_RETURN(record.address, TakeClassAddress());
  }
  CTR_CO_RETURN_IF_ERROR(routes_.AddAddress(record.address, config));
  Status committed = co_await Commit({PutClass{record}, PutCursors{cursors_}}, Use::kRoom);
  if (!committed.ok()) {
    Publish();
    co_return Annotate(committed, "cannot keep class " + config.name);
  }
  if (unread != unread_classes_.end()) {
    applied.result = ApplyResult::kConfigured;
    applied.note = "to have it back, with its instances, restart the agent";
    co_return applied;
  }
  const Disk disk = config.disk;
  const bool other_disk = known && found->second->config->disk != disk;
  std::shared_ptr<ClassState>& state = classes_[config.name];
  if (!state) state = std::make_shared<ClassState>();
  state->record = std::move(record);
  state->revision = RevisionOf(config);
  state->config = std::make_shared<const ClassConfig>(std::move(config));
  events_.Record({.type = event::kClassApplied,
                  .instance = {applied.name, ""},
                  .message = known ? "changed" : "created",
                  .cause = std::move(cause)});
  Publish();
  SettlePools();
  // When one sleeps may be another's to say from now on.
  for (const auto& [name, instance] : instances_) {
    if (name.class_name == applied.name && instance->state() != State::kStopped) instance->Nudge();
  }
  co_await LookAtImages();
  applied.result = known ? ApplyResult::kConfigured : ApplyResult::kCreated;
  if (other_disk) applied.note = co_await NoteOfDisks(applied.name, disk);
  const std::string missing = co_await NoteOfVolumes(services_.work, state->config->volumes);
  for (const std::string& more : {missing, NoteOfOpenFiles(state->config->nofile)}) {
    absl::StrAppend(&applied.note, applied.note.empty() || more.empty() ? "" : "; ", more);
  }
  co_return applied;
}

awaitable<StatusOr<AppliedClass>> Supervisor::SetAutoscale(
    std::string class_name, bool on, std::map<std::string, std::string> settings,
    std::string cause) {
  CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> class_state, FindClass(class_name));
  CTR_CO_ASSIGN_OR_RETURN(std::string source,
                          WithAutoscale(class_state->record.source, on, settings));
  co_return co_await ApplyClass(std::move(source), class_name, std::move(cause));
}

// An image under the name of another changes no setting.
std::string Supervisor::NoteOfOldImages(const std::string& class_name) const {
  const auto old = std::count_if(instances_.begin(), instances_.end(), [&](const auto& entry) {
    return entry.first.class_name == class_name && entry.second->RunsOldImage();
  });
  if (old == 0) return "";
  const std::string whose = old == 1 ? "1 instance runs" : absl::StrCat(old, " instances run");
  const bool keeps = classes_.at(class_name)->config->disk == Disk::kKeep;
  return absl::StrCat(whose, " what the image's name meant before; what it means now: ",
                      keeps ? "ctr destroy ID, with the kept disk" : "ctr restart ID");
}

// A class file without `disk` must not cost anybody's data: a kept disk stays until destroy, and so
// comes back with `keep`.
awaitable<std::string> Supervisor::NoteOfDisks(std::string class_name, Disk disk) {
  StatusOr<std::vector<KeptDisk>> disks = co_await runtime_.ListDisks();
  if (!disks.ok()) co_return "";
  const auto kept = std::count_if(disks->begin(), disks->end(), [&](const KeptDisk& it) {
    return it.name.class_name == class_name;
  });
  if (kept == 0) co_return "";
  const std::string whose = kept == 1 ? "1 instance has" : absl::StrCat(kept, " instances have");
  co_return disk == Disk::kKeep
      ? absl::StrCat(whose,
                     " a disk from when the class kept them, and will start with it again; "
                     "for an empty one: ctr destroy ID")
      : absl::StrCat(whose,
                     " a kept disk, which later starts do not see; it stays for when the "
                     "class says disk = \"keep\" again, until: ctr destroy ID");
}

awaitable<Status> Supervisor::RemoveClass(std::string name, bool force, MonoTime deadline,
                                          std::string cause) {
  Semaphore::Permit permit = co_await class_edits_.Acquire();
  CTR_CO_ASSIGN_OR_RETURN(std::shared_ptr<ClassState> class_state, FindClass(name));
  Removing removing(*class_state);
  for (;;) {
    std::vector<InstancePtr> members;
    for (const auto& [instance_name, instance] : instances_) {
      if (instance_name.class_name == name) members.push_back(instance);
    }
    if (members.empty()) break;
    if (!force) {
      co_return Error(
          absl::StatusCode::kFailedPrecondition, code::kInUse,
          absl::StrCat("class ", name, " has ", members.size(),
                       " instances; destroy them, or remove it with them: ctr class rm --force ",
                       name));
    }
    for (const InstancePtr& instance : members)
      CTR_CO_RETURN_IF_ERROR(co_await BeginDestroy(instance, cause));
    for (const InstancePtr& instance : members)
      CTR_CO_RETURN_IF_ERROR(co_await instance->AwaitState(&Instance::forgotten, deadline));
  }
  CTR_CO_RETURN_IF_ERROR(co_await Commit({DeleteClass{name}}, Use::kReserve));
  classes_.erase(name);
  Status removed = co_await OnWork(
      services_.work, [folder = options_.log_dir + "/" + name] { return RemoveLogs(folder); });
  if (!removed.ok()) spdlog::warn("{}", std::string(removed.message()));
  events_.Record({.type = event::kClassRemoved, .instance = {name, ""}, .cause = std::move(cause)});
  SettlePools();
  Publish();
  co_return absl::OkStatus();
}

}  // namespace ctr
