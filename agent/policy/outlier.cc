#include "agent/policy/outlier.h"

#include <algorithm>

namespace ctr::policy {

bool IsEjected(const Ejection& ejection, MonoTime now) {
  return ejection.count > 0 && now < ejection.until;
}

int EjectionsLeft(const Ejection& ejection, MonoTime now, const OutlierConfig& config) {
  if (ejection.count <= 0 || now <= ejection.until || config.forget <= Duration::zero()) {
    return std::max(ejection.count, 0);
  }
  const int64_t forgotten = (now - ejection.until) / config.forget;
  return static_cast<int>(std::max<int64_t>(ejection.count - forgotten, 0));
}

std::optional<Ejection> DecideEjection(const Ejection& before, const OutlierSet& set, MonoTime now,
                                       const OutlierConfig& config) {
  if (IsEjected(before, now)) return std::nullopt;
  if (set.ejected >= set.size || set.ejected + 1 > set.size / 2) return std::nullopt;
  // More than that many make it no longer.
  const Duration base = std::max<Duration>(config.base, std::chrono::milliseconds(1));
  const Duration most = std::max(config.most, base);
  const int64_t enough = most / base + 1;
  const auto count = static_cast<int>(std::min<int64_t>(EjectionsLeft(before, now, config) + 1,
                                                        std::min<int64_t>(enough, 1 << 20)));
  return Ejection{count, now + std::min<Duration>(base * std::min<int64_t>(count, enough), most)};
}

}  // namespace ctr::policy
