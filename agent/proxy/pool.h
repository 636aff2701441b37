// The choice among the instances that routing owns of a class, on what is known of them at that
// moment.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "agent/policy/nearest.h"
#include "agent/proxy/route_table.h"

namespace ctr {

policy::Candidate CandidateOf(const Slot* slot, MonoTime now);

// policy::Choose among them; null slots are instances that do not exist yet. Any thread, without a
// lock or an allocation for as many as 64.
policy::Choice ChooseSlot(const std::vector<std::shared_ptr<Slot>>& pool, MonoTime now,
                          uint64_t random_bits);

// One of instance-0 … instance-N-1, each as likely as the others, asleep or not; but one that runs
// and fails its readiness check only if all do.
int PickRandom(const std::vector<std::shared_ptr<Slot>>& pool, int n, std::mt19937_64& random);

// One more request of theirs has ended, with a failure of the instance or not: takes it out of
// routing for a while if that was one too many.
void NoteOutcome(const std::vector<std::shared_ptr<Slot>>& pool, Slot& slot, bool failed,
                 MonoTime now);

}  // namespace ctr
