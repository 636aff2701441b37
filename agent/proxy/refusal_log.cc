#include "agent/proxy/refusal_log.h"

namespace ctr {

void RefusalLog::Add(const InstanceName& name, const Status& error,
                     const std::function<std::string()>& cause, MonoTime now) {
  Sweep(now);
  std::string code = ErrorCodeOf(error);
  auto found = kinds_.find({name, code});
  if (found != kinds_.end()) {
    ++found->second.more;
  } else if (kinds_.size() < kMaxKinds) {
    if (kinds_.empty()) end_ = now + kWindow;
    Refusal refusal{name, code, std::string(error.message()), cause()};
    kinds_[{name, std::move(code)}] = {refusal};
    tell_(std::move(refusal));
  } else {
    ++others_;
  }
}

void RefusalLog::Sweep(MonoTime now) {
  if (kinds_.empty() || now < end_) return;
  for (auto& [key, kind] : kinds_) {
    if (kind.more == 0) continue;
    kind.first.times = kind.more;
    tell_(std::move(kind.first));
  }
  kinds_.clear();
  if (others_ == 0) return;
  tell_({.name = {},
         .code = "others",
         .message = "requests of further instances",
         .cause = "",
         .times = std::exchange(others_, 0)});
}

}  // namespace ctr
