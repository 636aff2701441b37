"""Faults in small counts; scripts/soak runs the same scripts at length. What each proves is said where it is defined."""

import unittest

import damage
import exits
import floods
import kills
import random_ops
import stubborn
from harness import Agent, wait_for


class Faults(unittest.TestCase):
    def agent(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        agent.import_demo()
        return agent

    def test_kills_under_load_lose_restart_and_double_nothing(self):
        agent = self.agent()
        names = kills.fill(agent, 10)
        kills.kill_agent(agent, names, 5)
        kills.kill_containerd(agent, names, 3)
        kills.kill_shims(agent, names[:2])

    def test_exits_that_nobody_saw_are_recorded_with_their_codes(self):
        agent = self.agent()
        for outage in exits.OUTAGES:
            with self.subTest(away=outage):
                exits.miss(agent, outage)

    def test_random_operations_with_the_agent_killed_leave_what_the_state_says(self):
        random_ops.run(self.agent(), 150, kills=2, ids=15, pause=2.0, say=print)

    def test_stubborn_entrypoints_go_all_the_same(self):
        agent = self.agent()
        stubborn.deaf(agent)
        stubborn.family(agent)
        stubborn.out_of_memory(agent)
        stubborn.stop_signals(agent)

    def test_thirty_gets_at_once_all_succeed(self):
        floods.start_storm(self.agent(), 30)

    def test_a_start_that_was_answered_is_made_also_if_the_agent_is_killed_at_once(self):
        agent = self.agent()
        agent.apply('name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\n')
        for id in range(5):
            agent.ctr("start", f"web/a{id}", "--no-wait")
            agent.kill()
            agent.start()
            wait_for(lambda: agent.json("inspect", f"web/a{id}")["state"] == "healthy", "the start")

    def test_a_damaged_database_does_not_stop_what_runs(self):
        damage.run(self.agent(), 5, instances=3, say=print)


class Explanations(unittest.TestCase):
    """What random_ops.possible takes for explained: a check that could not fail would prove nothing."""

    def operation(self, verb, begin, end, status=0):
        operation = random_ops.Operation(verb, "web/a")
        operation.begin, operation.end, operation.status = begin, end, status
        return operation

    def test_the_last_answered_operation_alone_explains_the_state(self):
        operations = [self.operation("get", 0, 1), self.operation("stop", 2, 3)]
        self.assertEqual(random_ops.possible(operations), {"stopped"})

    def test_of_operations_that_overlap_either_explains_it(self):
        operations = [self.operation("get", 0, 2), self.operation("destroy", 1, 3)]
        self.assertEqual(random_ops.possible(operations), {"live", "absent"})

    def test_one_that_was_not_answered_may_or_may_not_have_happened(self):
        operations = [self.operation("get", 0, 1), self.operation("destroy", 2, 3, status=5)]
        self.assertEqual(random_ops.possible(operations), {"live", "absent", "stopped"})

    def test_one_that_was_refused_changes_nothing(self):
        operations = [self.operation("get", 0, 1), self.operation("destroy", 2, 3, status=4)]
        self.assertEqual(random_ops.possible(operations), {"live"})


if __name__ == "__main__":
    unittest.main()
