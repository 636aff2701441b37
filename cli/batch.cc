#include "cli/batch.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace ctr::cli {
namespace {

// More would only wait in the agent, which bounds what it does at once.
constexpr size_t kMaxThreads = 16;

// Makes the calls on threads of its own and hands out their results in order.
class Calls {
 public:
  Calls(Client& client, const std::vector<v1::InstanceRef>& refs, const InstanceCall& call)
      : client_(client), refs_(refs), call_(call), results_(refs.size()) {
    size_t count = std::min(refs.size(), kMaxThreads);
    for (size_t i = 0; i < count; ++i) threads_.emplace_back([this] { Work(); });
  }

  // Waits for the result of `refs[index]`.
  StatusOr<v1::Instance> Take(size_t index) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return results_[index].has_value(); });
    return *std::move(results_[index]);
  }

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    while (next_ < refs_.size()) {
      size_t index = next_++;
      lock.unlock();
      StatusOr<v1::Instance> result = call_(client_, refs_[index]);
      lock.lock();
      results_[index] = std::move(result);
      changed_.notify_all();
    }
  }

  Client& client_;
  const std::vector<v1::InstanceRef>& refs_;
  const InstanceCall& call_;

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t next_ = 0;
  std::vector<std::optional<StatusOr<v1::Instance>>> results_;
  std::vector<std::jthread> threads_;  // last: joined before the rest goes
};

std::string Written(const v1::InstanceRef& ref) {
  return ref.class_().empty() ? ref.id() : absl::StrCat(ref.class_(), "/", ref.id());
}

// Says which of several instances the error is about, if it does not already.
Status Name(const Status& error, const v1::InstanceRef& ref) {
  if (absl::StrContains(error.message(), ref.id())) return error;
  return Annotate(error, Written(ref));
}

Json FailureJson(const Status& error, const v1::InstanceRef& ref) {
  Json json = {{"class", ref.class_().empty() ? Json(nullptr) : Json(ref.class_())},
               {"id", ref.id()}};
  json.update(ToJson(error));
  return json;
}

int PrintAll(const Context& context, const std::vector<v1::InstanceRef>& refs, Calls& calls) {
  int exit_status = 0;
  Json array = Json::array();
  for (size_t i = 0; i < refs.size(); ++i) {
    StatusOr<v1::Instance> result = calls.Take(i);
    if (!result.ok() && exit_status == 0) exit_status = ExitStatusOf(result.status());
    if (context.json()) {
      array.push_back(result.ok() ? ToJson(*result) : FailureJson(result.status(), refs[i]));
    } else if (result.ok()) {
      context.PrintLine(NameOf(*result));
    } else {
      context.Fail(Name(result.status(), refs[i]));
    }
  }
  if (context.json()) context.PrintJsonList(array);
  return exit_status;
}

}  // namespace

int ForEachInstance(Context& context, const std::vector<std::string>& names,
                    const InstanceCall& call) {
  std::vector<v1::InstanceRef> refs;
  for (const std::string& name : names) {
    StatusOr<v1::InstanceRef> ref = context.Ref(name);
    if (!ref.ok()) return context.Fail(ref.status());
    refs.push_back(*std::move(ref));
  }
  StatusOr<Client*> client = context.client();
  if (!client.ok()) return context.Fail(client.status());
  if (refs.size() == 1) {
    StatusOr<v1::Instance> instance = call(**client, refs[0]);
    if (!instance.ok()) return context.Fail(instance.status());
    return context.PrintInstance(*instance, NameOf(*instance));
  }
  Calls calls(**client, refs, call);
  return PrintAll(context, refs, calls);
}

}  // namespace ctr::cli
