#include "agent/proxy/pool.h"

#include "absl/container/inlined_vector.h"
#include "agent/policy/routing.h"

namespace ctr {

policy::Candidate CandidateOf(const Slot* slot, MonoTime now) {
  if (slot == nullptr) return {};
  const SlotLoad& load = slot->load();
  return {.in_flight = slot->in_flight(),
          .max_concurrency = slot->max_concurrency(),
          .latency = load.latency.Load(now),
          .oldest_in_flight = load.waiting.Age(now),
          .healthy = !slot->closed() && load.passing(),
          .overloaded = load.overloaded(),
          .ejected = policy::IsEjected(load.ejection(), now)};
}

policy::Choice ChooseSlot(const std::vector<std::shared_ptr<Slot>>& pool, MonoTime now,
                          uint64_t random_bits) {
  absl::InlinedVector<policy::Candidate, 64> candidates;
  for (const std::shared_ptr<Slot>& slot : pool) {
    candidates.push_back(CandidateOf(slot.get(), now));
  }
  return policy::Choose({candidates.data(), candidates.size()}, now, random_bits);
}

int PickRandom(const std::vector<std::shared_ptr<Slot>>& pool, int n, std::mt19937_64& random) {
  const int picked = policy::PickUniform(random(), n);
  const auto fails = [&](int index) {
    if (static_cast<size_t>(index) >= pool.size() || !pool[index]) return false;
    return !pool[index]->closed() && !pool[index]->load().passing();
  };
  if (!fails(picked)) return picked;
  std::vector<int> others;
  for (int index = 0; index < n; ++index) {
    if (!fails(index)) others.push_back(index);
  }
  if (others.empty()) return picked;
  return others[policy::PickUniform(random(), static_cast<int>(others.size()))];
}

void NoteOutcome(const std::vector<std::shared_ptr<Slot>>& pool, Slot& slot, bool failed,
                 MonoTime now) {
  SlotLoad& load = slot.load();
  if (!load.failures.Note(failed)) return;
  policy::OutlierSet set;
  for (const std::shared_ptr<Slot>& other : pool) {
    if (!other || other->closed()) continue;
    ++set.size;
    set.ejected += policy::IsEjected(other->load().ejection(), now);
  }
  if (auto ejection = policy::DecideEjection(load.ejection(), set, now)) load.Eject(*ejection);
}

}  // namespace ctr
