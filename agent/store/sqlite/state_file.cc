#include "agent/store/sqlite/state_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/base/fd.h"
#include "agent/model/event.h"
#include "agent/store/sqlite/damage.h"
#include "agent/store/sqlite/salvage.h"

namespace ctr::sqlite {
namespace {

// The file itself goes first: without its log it would pass for an older state.
constexpr std::array kParts = {"", "-wal", "-shm"};

bool Exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Status SyncFolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path();
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return ErrnoError(errno, "cannot sync " + folder);
  return absl::OkStatus();
}

// A name that no file has yet.
std::string AsideOf(const std::string& path) {
  const std::string name = absl::StrCat(
      path, ".damaged-", absl::FormatTime("%Y%m%dT%H%M%SZ", absl::Now(), absl::UTCTimeZone()));
  std::string aside = name;
  for (int i = 2; Exists(aside) || Exists(aside + "-wal"); ++i) aside = absl::StrCat(name, "-", i);
  return aside;
}

Status PutAside(const std::string& path, const std::string& aside) {
  for (const char* part : kParts) {
    const std::string from = path + part;
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, (aside + part).c_str(), RENAME_NOREPLACE) !=
            0 &&
        errno != ENOENT) {
      return ErrnoError(errno, absl::StrCat("cannot put the damaged ", from, " aside"));
    }
  }
  return absl::OkStatus();
}

void RemoveFiles(const std::string& path) {
  for (const char* part : kParts) ::unlink((path + part).c_str());
}

// "" if the files look whole from outside.
StatusOr<std::string> LookAt(const std::string& path, StateFile expectation) {
  struct stat info = {};
  const bool there = ::stat(path.c_str(), &info) == 0;
  if (!there && errno != ENOENT) return ErrnoError(errno, "cannot open the state file " + path);
  // SQLite would throw a log without its file away.
  struct stat log = {};
  const bool has_log = ::stat((path + "-wal").c_str(), &log) == 0 && log.st_size > 0;
  if (!there) return expectation == StateFile::kExpected || has_log ? "was gone" : "";
  if (S_ISREG(info.st_mode) && info.st_size == 0) {
    return expectation == StateFile::kExpected || has_log ? "was empty" : "";
  }
  if (!S_ISREG(info.st_mode)) return "";  // SQLite says what it is instead
  CTR_ASSIGN_OR_RETURN(std::string why, DamageInHeader(path));
  if (why.empty()) {
    CTR_ASSIGN_OR_RETURN(why, DamageInLog(path + "-wal"));
  }
  return why.empty() ? "" : absl::StrCat("was damaged (", why, ")");
}

// Makes the new file whole, under another name.
Status MakeNew(const std::string& path, Salvaged salvaged, const std::string& lost) {
  RemoveFiles(path);
  CTR_ASSIGN_OR_RETURN(Tables tables, Tables::Open(path));
  salvaged.changes.emplace_back(PutEvent{{.number = salvaged.last_event + 1,
                                          .at = std::chrono::system_clock::now(),
                                          .type = event::kStateRebuilt,
                                          .message = lost}});
  std::vector<const Change*> changes;
  for (const Change& change : salvaged.changes) changes.push_back(&change);
  Status written = tables.Write(changes);
  if (absl::IsAlreadyExists(written)) {
    // Rows that contradict each other: one by one, the first counts.
    for (const Change* change : changes) tables.Write({change}).IgnoreError();
  } else {
    CTR_RETURN_IF_ERROR(written);
  }
  CTR_RETURN_IF_ERROR(tables.SetLost(lost));
  return tables.EmptyLog();
}

StatusOr<Tables> Rebuild(const std::string& path, const std::string& why) {
  const bool there = Exists(path) || Exists(path + "-wal");
  const std::string aside = AsideOf(path);
  Salvaged salvaged = Salvage(path);
  std::string lost = absl::StrCat("the state file ", path, " ", why);
  if (there) {
    absl::StrAppend(&lost, " and is kept as ", aside, "; ", salvaged.classes, " classes and ",
                    salvaged.instances, " instances were salvaged from it");
  }
  spdlog::error("{}", lost);
  // The new one is complete before the old one goes: a crash in between starts this again.
  const std::string fresh = path + ".new";
  CTR_RETURN_IF_ERROR(MakeNew(fresh, std::move(salvaged), lost));
  CTR_RETURN_IF_ERROR(PutAside(path, aside));
  if (::rename(fresh.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot put the new state file at ", path));
  }
  CTR_RETURN_IF_ERROR(SyncFolderOf(path));
  return Tables::Open(path);
}

// A crash between the last two renames of Rebuild.
Status FinishRebuild(const std::string& path) {
  const std::string fresh = path + ".new";
  if (Exists(path) || !Exists(fresh) || Exists(fresh + "-wal")) return absl::OkStatus();
  CTR_RETURN_IF_ERROR(PutAside(path, AsideOf(path)));
  if (::rename(fresh.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot put the new state file at ", path));
  }
  return SyncFolderOf(path);
}

}  // namespace

StatusOr<Tables> OpenStateFile(const std::string& path, StateFile expectation) {
  CTR_RETURN_IF_ERROR(FinishRebuild(path));
  CTR_ASSIGN_OR_RETURN(std::string why, LookAt(path, expectation));
  if (!why.empty()) return Rebuild(path, why);
  Status damage;
  {
    StatusOr<Tables> tables = Tables::Open(path);
    damage = tables.status();
    if (damage.ok()) damage = tables->Load().status();
    if (damage.ok()) return tables;
  }
  if (!absl::IsDataLoss(damage)) return damage;
  return Rebuild(path, absl::StrCat("was damaged: ", std::string(damage.message())));
}

}  // namespace ctr::sqlite
