"""One instance that does its worst: the host, the agent and other instances live on, and `ctr why` says what happened.

What it costs the others in time is scripts/bench abuse's."""

import os
import time
import unittest

import abuse
import audit
from harness import Case, SmallDiskAgent, read, wait_for
from truth_test import events


class SmallDisk(unittest.TestCase):
    """The agent's directories are on a small file system without quotas, as tmpfs is."""

    def agent(self, options="size=300m"):
        agent = SmallDiskAgent(options)
        self.addCleanup(agent.purge)
        agent.start()
        agent.import_demo()
        agent.apply(abuse.CLASS)
        agent.apply(abuse.CLASS.replace("abuse", "other"))
        agent.ctr("get", "abuse/a")
        agent.ctr("get", "other/a")
        return agent

    def fill(self, agent, script):
        """Gives what is shown of the instance once it was stopped for it."""
        generation = agent.json("inspect", "abuse/a")["generation"]
        writer = abuse.begin(agent, script)
        try:
            def stopped():
                self.assertEqual(agent.get(host="a.other.localhost")[0], 200)
                told = [e for e in events(agent, "disk_full") if e["id"] == "a" and e["generation"] == generation]
                return told and told[-1]

            told = wait_for(stopped, "the writer to be stopped")
        finally:
            abuse.end(writer)
        self.assertEqual(told["class"], "abuse")
        self.assertIn("its files had grown most", told["message"])
        self.assertEqual(agent.get(host="a.other.localhost")[0], 200)
        self.assertEqual(agent.json("inspect", "other/a")["generation"], 1)
        return told["message"]

    def test_the_one_that_fills_the_disk_is_stopped_and_the_others_are_not(self):
        agent = self.agent()
        for script in (abuse.FILL, abuse.FILL_UNSEEN):
            with self.subTest(script=script):
                message = self.fill(agent, script)
                self.assertIn("min_free is 15.0 MiB", message)
                wait_for(lambda: agent.get(host="a.abuse.localhost")[0] == 200, "it to serve again with room")

    def test_one_that_uses_up_the_files_is_stopped_as_well(self):
        message = self.fill(self.agent("size=2g,nr_inodes=20000"), abuse.FILL_BY_FILES)
        self.assertIn("files", message)

    def test_so_is_one_that_uses_them_up_slowly(self):
        message = self.fill(self.agent("size=2g,nr_inodes=20000"), abuse.FILL_BY_FILES_SLOWLY)
        self.assertIn("files", message)

    def test_one_that_fills_the_disk_while_there_is_no_agent_is_stopped_by_the_next(self):
        agent = self.agent()
        # Lives on by itself: a session would go with the agent.
        agent.ctr("exec", "abuse/a", "--", "/bin/sh", "-c", "(sleep 2; cat /dev/zero > /big; sleep 1000) > /dev/null 2>&1 &")
        agent.kill()
        wait_for(lambda: os.statvfs(agent.root).f_bavail == 0, "the disk to be full")
        agent.start()
        wait_for(lambda: [e for e in events(agent, "disk_full") if e["id"] == "a"], "the writer to be stopped")
        self.assertEqual(agent.json("inspect", "other/a")["generation"], 1)
        wait_for(lambda: agent.get(host="a.other.localhost")[0] == 200, "the other one to be served")

    def test_several_that_fill_it_together_are_stopped_one_after_the_other(self):
        agent = self.agent()
        agent.apply(abuse.CLASS + 'restart = "never"\n')
        names = [f"abuse/w{i}" for i in range(3)]
        for name in names:
            agent.ctr("get", name)
        for name in names:
            self.addCleanup(abuse.end, abuse.begin(agent, "while :; do cat /dev/zero >> /big; sleep 0.05; done", name))
        wait_for(lambda: all(agent.json("inspect", name)["reason"] == "disk_full" for name in names), "all three to be stopped")
        self.assertEqual(agent.json("inspect", "other/a")["generation"], 1)
        wait_for(lambda: os.statvfs(agent.root).f_bavail > 0, "room")
        self.assertEqual(agent.get(host="a.other.localhost")[0], 200)

    def test_one_that_waits_for_room_waits_under_the_next_agent_as_well(self):
        agent = self.agent()
        agent.apply('name = "hog"\nimage = "demo:latest"\ndisk = "keep"\nrestart = "always"\n'
                    'entrypoint = ["/bin/sh", "-c", "cat /dev/zero >> /big; sleep 1000"]\n')
        agent.ctr("start", "hog/a")
        wait_for(lambda: agent.json("inspect", "hog/a")["reason"] == "disk_full", "the hog to be stopped")
        for stop in (agent.kill, agent.stop):
            stop()
            agent.start()
            self.assertEqual(agent.ctr("start", "hog/a", check=False).returncode, 4)
            time.sleep(1)  # by then it would have been started by its restart policy
            shown = agent.json("inspect", "hog/a")
            self.assertEqual((shown["state"], shown["reason"], shown["generation"]), ("stopped", "disk_full", 1))
        agent.ctr("destroy", "hog/a")

    def test_why_says_that_and_how_much_it_grew(self):
        agent = self.agent()
        agent.apply(abuse.CLASS + 'restart = "never"\n')
        agent.ctr("restart", "abuse/a")
        self.fill(agent, abuse.FILL)
        wait_for(lambda: agent.json("inspect", "abuse/a")["state"] == "stopped", "its end")
        shown = agent.json("inspect", "abuse/a")
        self.assertEqual(shown["reason"], "disk_full")
        why = agent.ctr("why", "abuse/a")
        self.assertIn("because a disk is full: its files had grown most, by", why)
        self.assertIn("disk_full", agent.ctr("ls", "-a"))

    def test_a_kept_disk_that_fills_it_keeps_its_instance_down_until_there_is_room(self):
        agent = self.agent()
        agent.apply(abuse.CLASS + 'disk = "keep"\n')
        agent.ctr("destroy", "abuse/a")
        agent.ctr("get", "abuse/a")
        self.fill(agent, abuse.FILL)
        status, _, body = wait_for(lambda: (lambda it: it if it[0] != 502 else None)(agent.get(host="a.abuse.localhost")),
                                   "a refusal")
        self.assertEqual(status, 503, body)
        self.assertIn(b"ctr destroy abuse/a", body)
        self.assertEqual(agent.ctr("get", "abuse/a", check=False).returncode, 4)
        agent.ctr("destroy", "abuse/a")
        wait_for(lambda: agent.ctr("get", "abuse/a", check=False).returncode == 0, "a start with room")

    def test_one_that_is_restarted_gets_none_of_what_the_agents_reserve_gave_free(self):
        agent = self.agent()
        agent.apply('name = "hog"\nimage = "demo:latest"\ndisk = "keep"\nrestart = "always"\n'
                    'entrypoint = ["/bin/sh", "-c", "cat /dev/zero >> /big; sleep 1000"]\n')
        agent.ctr("start", "hog/a")
        wait_for(lambda: agent.json("inspect", "hog/a")["reason"] == "disk_full", "the hog to be stopped")
        with open(agent.root + "/filler", "wb") as filler, self.assertRaises(OSError):
            while True:
                os.write(filler.fileno(), bytes(1 << 16))
        wait_for(lambda: not os.path.exists(agent.data + "/reserve"), "the reserve to be given up")
        generation = agent.json("inspect", "hog/a")["generation"]
        why = agent.ctr("why", "hog/a")
        self.assertIn("waits for room on the disk", why)
        self.assertIn("ctr destroy hog/a", why)
        self.assertIn("is full", {f["check"]: f for f in agent.json("doctor")["findings"]}["disk room"]["detail"])
        self.assertEqual(agent.ctr("start", "hog/a", check=False).returncode, 4)
        time.sleep(3)  # by then it would have been started by its restart policy
        shown = agent.json("inspect", "hog/a")
        self.assertEqual((shown["state"], shown["generation"], shown["next_start"]), ("stopped", generation, None))
        os.unlink(agent.root + "/filler")
        agent.ctr("destroy", "hog/a")
        wait_for(lambda: agent.ctr("get", "other/new", check=False).returncode == 0, "changes to be taken again")


class Limits(Case):
    def setUp(self):
        self.agent.apply(abuse.CLASS + abuse.LIMITS)
        self.agent.apply(abuse.CLASS.replace("abuse", "other"))
        self.agent.ctr("get", "abuse/a")
        self.agent.ctr("get", "other/a")
        self.addCleanup(self.agent.ctr, "destroy", "abuse/a")

    def told(self, text):
        """Others are served meanwhile."""
        self.assertEqual(self.agent.get(host="a.other.localhost")[0], 200)
        return text in self.agent.ctr("why", "abuse/a")

    def do(self, script, why):
        process = abuse.begin(self.agent, script)
        self.addCleanup(abuse.end, process)
        wait_for(lambda: self.told(why), f"ctr why to say: {why}")
        self.assertEqual(self.agent.json("inspect", "other/a")["generation"], 1)

    def test_a_fork_bomb_meets_its_limit_of_processes(self):
        self.do(abuse.FORK_BOMB, "it wanted more processes than resources.pids (128)")
        self.agent.ctr("stop", "abuse/a")
        self.assertEqual(self.agent.json("inspect", "abuse/a")["state"], "stopped")

    def test_what_carries_traffic_is_ranked_among_the_instances_while_one_is_behind(self):
        """Where threads can be in a cgroup of their own, and nobody has given the agent one."""
        def cpu_cgroup(folder):
            """The thread's in version 1's hierarchy of the CPU; none without that."""
            lines = [line.split(":", 2) for line in read(folder + "/cgroup").splitlines()]
            return [path for _, controllers, path in lines if "cpu" in controllers.split(",")]

        def cgroups():
            tasks = f"/proc/{self.agent.process.pid}/task"
            found = {True: set(), False: set()}
            for task in os.listdir(tasks):
                carries = read(f"{tasks}/{task}/comm").strip() == "ctr-data"
                found[carries].add(tuple(cpu_cgroup(f"{tasks}/{task}")))
            return found

        own = tuple(cpu_cgroup("/proc/self"))
        agent_id = read(self.agent.data + "/agent-id").strip()
        among = (f"/ctr/{agent_id}/agent",) if own == ("/",) else own
        wait_for(lambda: cgroups() == {True: {own}, False: {own}}, "all threads where the agent was started")
        for back in (lambda _: self.agent.ctr("destroy", "abuse/a"), abuse.end):
            self.agent.ctr("get", "abuse/a")
            process = abuse.begin(self.agent, "while :; do :; done")
            self.addCleanup(abuse.end, process)
            wait_for(lambda: "It keeps a CPU busy" in self.agent.ctr("why", "abuse/a"), "it to be behind")
            self.assertEqual(cgroups(), {True: {among}, False: {own}})
            back(process)
            wait_for(lambda: cgroups() == {True: {own}, False: {own}}, "all threads back")
            self.assertFalse([folder for folder, _, _ in os.walk("/sys/fs/cgroup") if folder.endswith(f"/ctr/{agent_id}/agent")])

    def test_one_that_keeps_a_cpu_busy_goes_behind_the_others_until_it_does_so_no_longer(self):
        agent_id = read(self.agent.data + "/agent-id").strip()

        def idle_of(container):
            """What the kernel says of its cgroup, version 1's or 2's."""
            files = [folder + "/cpu.idle" for folder in audit.cgroups(agent_id)[container]]
            return "".join(read(file).strip() for file in files if os.path.exists(file))

        def idle(name):
            return idle_of(self.agent.json("inspect", name)["container_id"])

        said = "It keeps a CPU busy"
        process = abuse.begin(self.agent, "while :; do :; done")
        try:
            wait_for(lambda: idle("abuse/a") == "1", "it to be behind")
            self.assertIn(said, self.agent.ctr("why", "abuse/a"))
            self.assertEqual(idle("other/a"), "0")
        finally:
            abuse.end(process)
        wait_for(lambda: idle("abuse/a") == "0", "it to be back")
        self.assertNotIn(said, self.agent.ctr("why", "abuse/a"))

        process = abuse.begin(self.agent, "while :; do :; done")
        try:
            wait_for(lambda: idle("abuse/a") == "1", "it to be behind once more")
            self.agent.kill()
        finally:
            abuse.end(process)
        self.agent.start()  # which ends what exec left
        wait_for(lambda: idle("abuse/a") == "0", "the next agent to find it behind for nothing")

        # Lives on by itself: a session would hold the agent's stop up.
        self.agent.ctr("exec", "abuse/a", "--", "/bin/sh", "-c", "(while :; do :; done) > /dev/null 2>&1 &")
        wait_for(lambda: idle("abuse/a") == "1", "it to be behind for the third time")
        container = self.agent.json("inspect", "abuse/a")["container_id"]
        self.agent.stop()
        self.assertEqual(idle_of(container), "0")
        self.agent.start()
        wait_for(lambda: idle("abuse/a") == "1", "it to be behind for the next agent, too")

    def test_a_memory_hog_is_killed_within_its_own_limit(self):
        self.do(abuse.MEMORY_HOG, "want of memory")

    def test_a_hundred_thousand_files_are_taken_and_go_with_it(self):
        self.agent.apply(abuse.CLASS + abuse.LIMITS_FOR_FILES)
        self.agent.ctr("restart", "abuse/a")
        self.agent.ctr("exec", "abuse/a", "--", "/bin/sh", "-c", abuse.MANY_FILES, timeout=300)
        self.assertEqual(self.agent.ctr("exec", "abuse/a", "--", "/bin/sh", "-c", "find /many -type f | wc -l"), "100000")
        self.assertEqual(self.agent.get(host="a.other.localhost")[0], 200)

    def test_reading_all_of_proc_and_writing_to_cgroups_changes_nothing(self):
        limits = self.agent.json("inspect", "abuse/a")
        devices = set(os.listdir("/sys/block"))
        for script in (abuse.PROC, abuse.CGROUPS):
            process = abuse.begin(self.agent, script)
            try:
                for _ in range(200):
                    self.assertEqual(self.agent.get(host="a.other.localhost")[0], 200)
            finally:
                abuse.end(process)
        # Who reads zram's hot_add makes a device.
        self.assertEqual(set(os.listdir("/sys/block")), devices)
        self.assertEqual(self.agent.json("inspect", "abuse/a")["container_id"], limits["container_id"])
        self.assertEqual(self.agent.ctr("exec", "abuse/a", "--", "/bin/sh", "-c", "find /sys/fs/cgroup -name x | wc -l"), "0")


if __name__ == "__main__":
    unittest.main()
