"""What holds an instance within its limits on pure cgroup v2, and what the agent reads there."""

import multiprocessing
import os
import time
import unittest

import abuse
from harness import Case, read, wait_for

TIGHT = """
name = "tight"
image = "demo:latest"
default_port = 8080
sleep_after = "never"
[resources]
memory = "32MiB"
pids = 20
cpus = 0.25
"""


def spin():
    os.sched_setaffinity(0, {0})
    while True:
        pass


class Cgroups(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply(TIGHT)
        cls.agent.ctr("get", "tight/a")

    def cgroup(self, name):
        lines = read(f"/proc/{self.agent.json('inspect', name)['pid']}/cgroup").splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith("0::/ctr/"), lines)
        return "/sys/fs/cgroup" + lines[0][3:]

    def value(self, name, file):
        return read(f"{self.cgroup(name)}/{file}").strip()

    def field(self, name, file, key):
        return int(dict(line.split() for line in self.value(name, file).splitlines())[key])

    def inside(self, name, script, check=True):
        return self.agent.ctr("exec", name, "--", "sh", "-c", script, check=check)

    def test_this_machine_has_v2_alone_and_the_agent_misses_nothing(self):
        with open("/proc/mounts") as mounts:
            kinds = {line.split()[2] for line in mounts if "/sys/fs/cgroup" in line}
        self.assertEqual(kinds, {"cgroup2"})
        # This machine's / has no project quotas; quota_test has file systems with them.
        warnings = self.agent.json("info")["warnings"]
        self.assertEqual([it for it in warnings if not it.startswith("resources.disk")], [])
        findings = {finding["check"]: finding for finding in self.agent.json("doctor")["findings"]}
        self.assertEqual(findings["cgroups"]["outcome"], "ok", findings["cgroups"])

    def test_limits_are_written_where_the_kernel_looks(self):
        limits = {file: self.value("tight/a", file) for file in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")}
        self.assertEqual(limits, {"memory.max": str(32 << 20), "memory.swap.max": "0", "pids.max": "20",
                                  "cpu.max": "25000 100000"})

    def test_one_that_keeps_a_cpu_busy_goes_behind_the_others_until_it_does_so_no_longer(self):
        self.agent.apply(abuse.CLASS)
        self.agent.ctr("get", "abuse/a")
        self.addCleanup(self.agent.ctr, "destroy", "abuse/a")
        process = abuse.begin(self.agent, "while :; do :; done")
        try:
            wait_for(lambda: self.value("abuse/a", "cpu.idle") == "1", "it to be behind")
            self.assertEqual(self.value("tight/a", "cpu.idle"), "0")
        finally:
            abuse.end(process)
        wait_for(lambda: self.value("abuse/a", "cpu.idle") == "0", "it to be back")

    def test_an_instance_that_wants_more_memory_is_killed_and_says_so(self):
        self.agent.apply('name = "greedy"\nimage = "demo:latest"\n[resources]\nmemory = "32MiB"\n')
        result = self.agent.ctr("run", "greedy/a", "--", "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1", check=False)
        self.assertEqual(result.returncode, 137, result.stderr)
        self.assertEqual(self.agent.json("inspect", "greedy/a")["reason"], "oom_killed")
        self.assertIn("oom_killed", self.agent.ctr("events", "greedy/a", "--type", "oom_killed", "-o", "jsonl"))

    def test_a_command_that_wants_more_memory_is_killed_alone(self):
        before = self.agent.json("inspect", "tight/a")["container_id"]
        self.assertEqual(self.inside("tight/a", "dd if=/dev/zero of=/dev/null bs=100M count=1", check=False).returncode, 137)
        self.assertGreaterEqual(self.field("tight/a", "memory.events", "oom_kill"), 1)
        self.assertEqual(self.agent.json("inspect", "tight/a")["container_id"], before)
        self.assertEqual(self.agent.get(host="a.tight.localhost")[0], 200)

    def test_no_more_processes_than_its_limit(self):
        said = self.inside("tight/a", "i=0; while [ $i -lt 40 ]; do sleep 30 & i=$((i+1)); done; echo all", check=False)
        self.assertIn("fork", said.stderr)
        self.assertLessEqual(int(self.value("tight/a", "pids.current")), 20)
        self.assertGreaterEqual(self.field("tight/a", "pids.events", "max"), 1)
        self.agent.ctr("restart", "tight/a")  # its sleeps go with it

    def test_no_more_cpu_than_its_limit(self):
        self.agent.apply(TIGHT.replace('"tight"', '"busy"').replace(
            "default_port", 'entrypoint = ["/bin/sh", "-c", "while :; do :; done & exec /bin/server"]\ndefault_port'))
        self.agent.ctr("get", "busy/a")
        used, start = self.field("busy/a", "cpu.stat", "usage_usec"), time.monotonic()
        time.sleep(4)
        share = (self.field("busy/a", "cpu.stat", "usage_usec") - used) / (time.monotonic() - start) / 1e6
        self.assertGreater(share, 0.1)
        self.assertLess(share, 0.3)
        self.assertGreater(self.field("busy/a", "cpu.stat", "nr_throttled"), 10)
        row = self.agent.json("stats", "busy/a")[0]
        self.assertGreater(row["cpu_percent"], 5)
        self.assertLess(row["cpu_percent"], 40)
        self.agent.ctr("destroy", "busy/a")

    def test_stats_show_what_the_cgroup_has(self):
        row = self.agent.json("stats", "tight/a")[0]
        self.assertEqual((row["memory_limit_bytes"], row["cpu_limit"]), (32 << 20, 0.25))
        self.assertEqual(row["processes"], int(self.value("tight/a", "pids.current")))
        current = int(self.value("tight/a", "memory.current"))
        self.assertTrue(50_000 < row["memory_bytes"] <= 2 * current, (row, current))
        self.assertIsNotNone(row["cpu_percent"])

    def test_a_device_that_is_not_the_instances_is_not_opened_even_by_its_number(self):
        device = read("/sys/class/block/vda/dev").strip()
        with open("/dev/vda", "rb") as disk:
            self.assertTrue(disk.read(512))
        # Nothing else is in the way: it is the cgroup's device program that says no.
        self.agent.apply('name = "maker"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\n[security]\n'
                         'cap_add = ["MKNOD", "SYS_ADMIN"]\napparmor = "unconfined"\nseccomp = "unconfined"\n')
        self.agent.ctr("get", "maker/a")
        said = self.inside("maker/a", f"mknod /disk b {device.replace(':', ' ')} && echo made; head -c 1 /disk; "
                                      "mknod /nothing c 1 3 && echo x > /nothing && echo opened", check=False)
        self.assertIn("Operation not permitted", said.stderr)
        self.assertEqual(said.stdout, "made\nopened\n")

    def test_one_that_waits_for_cpu_is_overloaded_though_it_uses_little(self):
        """Pressure stall information of its cgroup: others have the CPU that it is kept to."""
        self.agent.apply("""
name = "starved"
image = "demo:latest"
default_port = 8080
sleep_after = "never"
entrypoint = ["/bin/sh", "-c", "while :; do :; done & exec /bin/server"]
[readiness]
max_cpu = 1
[route]
policy = "nearest"
instances = 1
""")
        self.agent.ctr("get", "starved/instance-0")
        weight = "/sys/fs/cgroup/system.slice/cpu.weight"  # ours, beside /ctr
        before = read(weight)
        hog = multiprocessing.Process(target=spin)
        try:
            with open(weight, "w") as file:
                file.write("1000")
            for pid in self.value("starved/instance-0", "cgroup.procs").split():
                os.sched_setaffinity(int(pid), {0})
            hog.start()
            event = wait_for(lambda: self.agent.ctr("events", "starved/instance-0", "--type", "overloaded", "-o", "jsonl"),
                             "the overload", pause=1)
        finally:
            with open(weight, "w") as file:
                file.write(before)
            if hog.pid:
                hog.kill()
                hog.join()
        self.assertIn("its processes wait for CPU", event)
        self.agent.ctr("destroy", "starved/instance-0")


if __name__ == "__main__":
    unittest.main()
