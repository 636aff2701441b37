"""What the agent holds on to: kept disks, a state file that was lost, a disk that is full. From outside."""

import glob
import json
import os
import signal
import subprocess
import tempfile
import unittest

import audit
import isolation
from harness import BIN, Agent, Case, read, wait_for

WEB = """
name = "{name}"
image = "demo:latest"
default_port = 8080
sleep_after = "{sleep}"
{more}
"""


def web(name="web", sleep="never", more=""):
    return WEB.format(name=name, sleep=sleep, more=more)


def events(agent, *types):
    lines = agent.ctr("events", "-o", "jsonl").splitlines()
    return [event for event in map(json.loads, lines) if not types or event["type"] in types]


class KeptDisk(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply(web("box", more='disk = "keep"'))

    def shell(self, name, script, check=True):
        return self.agent.ctr("exec", name, "--", "/bin/sh", "-c", script, check=check)

    def test_what_was_written_survives_stop_sleep_and_kills_of_agent_and_containerd(self):
        agent = self.agent
        agent.ctr("get", "box/a")
        self.shell("box/a", "echo first > /mark; mkdir /data; chmod 700 /data")
        agent.ctr("stop", "box/a")
        self.assertEqual(self.shell("box/a", "cat /mark; stat -c %a /data"), "first\n700")

        # Killed while it runs: the next agent takes it over; stopped by that one.
        agent.kill()
        agent.start()
        agent.ctr("stop", "box/a")
        self.assertEqual(self.shell("box/a", "cat /mark"), "first")

        containerd = int(read(agent.data + "/containerd/containerd.pid"))
        os.kill(containerd, signal.SIGKILL)
        self.shell("box/a", "echo second >> /mark")
        agent.ctr("restart", "box/a")
        self.assertEqual(self.shell("box/a", "cat /mark"), "first\nsecond")

        # Asleep while no agent runs.
        agent.apply(web("box", "1s", 'disk = "keep"'))
        agent.ctr("restart", "box/a")
        self.assertEqual(agent.ctr("wait", "box/a", "--for", "stopped"), "0")
        agent.kill()
        agent.start()
        self.assertEqual(self.shell("box/a", "cat /mark"), "first\nsecond")

    def test_a_process_that_was_killed_left_its_disk(self):
        self.agent.ctr("get", "box/killed")
        self.shell("box/killed", "echo here > /mark; sync")
        os.kill(self.agent.json("inspect", "box/killed")["pid"], signal.SIGKILL)
        wait_for(lambda: self.agent.json("inspect", "box/killed")["generation"] == 2, "its restart")
        self.assertEqual(self.shell("box/killed", "cat /mark"), "here")

    def test_destroy_removes_the_disk_and_the_same_id_starts_afresh(self):
        self.agent.ctr("get", "box/gone")
        self.shell("box/gone", "echo secret > /mark")
        self.agent.ctr("destroy", "box/gone")
        self.agent.ctr("get", "box/gone")
        self.assertNotEqual(self.shell("box/gone", "cat /mark", check=False).returncode, 0)

    def test_without_keep_nothing_survives(self):
        self.agent.apply(web("plain"))
        self.agent.ctr("get", "plain/a")
        self.shell("plain/a", "echo x > /mark")
        self.agent.ctr("restart", "plain/a")
        self.assertNotEqual(self.shell("plain/a", "cat /mark", check=False).returncode, 0)


class FirstThread(Case):
    def test_a_process_that_lives_on_without_its_first_thread_is_taken_over(self):
        agent = self.agent
        with tempfile.TemporaryDirectory(prefix="ctr-probe-") as folder:
            agent.ctr("image", "import", isolation.build_image(folder))
        agent.apply(web().replace("demo:latest", "probe:latest") + 'entrypoint = ["/probe", "headless"]\n')
        agent.ctr("get", "web/a")
        self.assertEqual(agent.get(host="a.web.localhost")[0], 200)
        before = agent.json("inspect", "web/a")
        agent.kill()
        agent.start()
        after = agent.json("inspect", "web/a")
        self.assertEqual([after[key] for key in ("state", "pid", "generation")], ["healthy", before["pid"], before["generation"]])
        self.assertEqual(agent.get(host="a.web.localhost")[0], 200)
        agent.ctr("cp", "web/a:/etc/passwd", agent.root + "/passwd")
        agent.ctr("stop", "web/a")
        self.assertFalse(os.path.exists(f"/proc/{before['pid']}"))


class LostState(unittest.TestCase):
    def setUp(self):
        self.agent = Agent().start()
        self.addCleanup(self.agent.purge)
        self.agent.import_demo()
        self.agent.apply(web())
        self.agent.apply(web("box", more='disk = "keep"'))
        self.url = self.agent.ctr("get", "web/alice", "-e", "WHO=alice")
        self.agent.ctr("get", "box/asleep")
        self.agent.ctr("exec", "box/asleep", "--", "/bin/sh", "-c", "echo kept > /mark")
        self.agent.ctr("stop", "box/asleep")
        self.before = audit.identity(self.agent)

    def restarted(self, spoil):
        self.agent.kill()
        path = self.agent.data + "/state.db"
        # As a clean end leaves it: everything in the one file.
        subprocess.run(["python3", "-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
                        "c.execute('PRAGMA wal_checkpoint(TRUNCATE)'); c.close()", path], check=True)
        spoil(path)
        self.agent.start()
        self.assertEqual(audit.identity(self.agent), self.before)
        self.assertEqual(self.agent.ctr("get", "web/alice"), self.url)
        self.assertEqual(self.agent.get(host="alice.web.localhost")[0], 200)
        told = [e["message"] for e in events(self.agent, "state_rebuilt")]
        self.assertTrue(told)
        self.assertIn("state.db", read(self.agent.root + "/agent.log"))
        return told

    def test_deleted(self):
        told = self.restarted(os.remove)
        self.assertTrue(any("was gone" in message for message in told), told)
        # What sleeps is known by its disk, and its settings by the record on it.
        self.assertEqual(self.agent.ctr("exec", "box/asleep", "--", "cat", "/mark"), "kept")
        self.assertEqual(self.agent.ctr("exec", "web/alice", "--", "/bin/sh", "-c", "echo $WHO"), "alice")
        # The next start finds nothing wrong any more.
        count = len(events(self.agent, "state_rebuilt"))
        self.agent.kill()
        self.agent.start()
        self.assertEqual(len(events(self.agent, "state_rebuilt")), count)
        self.assertEqual(audit.identity(self.agent)["web/alice"], self.before["web/alice"])

    def test_emptied(self):
        self.restarted(lambda path: os.truncate(path, 0))

    def test_truncated(self):
        told = self.restarted(lambda path: os.truncate(path, os.path.getsize(path) // 2))
        kept = sorted(glob.glob(self.agent.data + "/state.db.damaged-*"))
        self.assertTrue(any(kept[0] in message for message in told), (kept, told))

    def test_one_byte_of_a_row_flipped(self):
        def spoil(path):
            with open(path, "r+b") as file:
                text = file.read()
                at = text.index(b"WHO") + 1
                file.seek(at)
                file.write(b"0")

        told = self.restarted(spoil)
        self.assertTrue(any("was altered" in message for message in told), told)
        self.assertEqual(len(glob.glob(self.agent.data + "/state.db.damaged-*[0-9Z]")), 1)
        self.assertEqual(self.agent.ctr("exec", "web/alice", "--", "/bin/sh", "-c", "echo $WHO"), "alice")


class FullDisk(unittest.TestCase):
    def test_a_full_disk_refuses_changes_serves_and_wakes_and_is_well_with_room(self):
        agent = Agent()
        self.addCleanup(agent.purge)
        os.mkdir(agent.data)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", agent.data], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", agent.data])
        self.addCleanup(subprocess.run, [BIN + "/ctr-agent", *agent.flags, "--purge"], check=True)
        self.addCleanup(agent.kill)
        agent.start()
        agent.import_demo()
        agent.apply(web("web", "1s"))
        agent.apply(web("awake"))
        agent.ctr("get", "web/sleeper")
        agent.ctr("get", "awake/a")
        reserve = agent.data + "/reserve"
        wait_for(lambda: os.path.exists(reserve), "the reserve")
        agent.ctr("wait", "web/sleeper", "--for", "stopped")

        self.fill(agent.data + "/filler")
        refused = wait_for(lambda: self.refusal(agent), "a refusal")
        self.assertEqual(refused.returncode, 4, refused.stderr)
        self.assertEqual(len(refused.stderr.strip().splitlines()), 1, refused.stderr)
        self.assertIn(agent.data, refused.stderr)
        self.assertIn("full", refused.stderr)
        self.assertFalse(os.path.exists(reserve))
        self.assertEqual(self.error_code(agent), "disk_full")
        self.assertEqual(agent.get(host="a.awake.localhost")[0], 200)
        for generation in (2, 3):
            self.assertEqual(agent.get(host="sleeper.web.localhost")[0], 200)
            self.assertEqual(agent.json("inspect", "web/sleeper")["generation"], generation)
            agent.ctr("wait", "web/sleeper", "--for", "stopped")
        # A new agent on a full disk serves, too.
        agent.kill()
        agent.start()
        self.assertEqual(agent.get(host="a.awake.localhost")[0], 200)
        self.assertEqual(agent.get(host="sleeper.web.localhost")[0], 200)

        os.remove(agent.data + "/filler")
        wait_for(lambda: os.path.exists(reserve), "the reserve to be made again")
        wait_for(lambda: agent.ctr("get", "web/new", check=False).returncode == 0, "changes to be taken again")
        self.assertEqual(agent.get(host="new.web.localhost")[0], 200)
        types = [e["type"] for e in events(agent)]
        self.assertIn("disk_full", types)
        self.assertIn("disk_room", types)

    def fill(self, path):
        """To the last byte."""
        with open(path, "wb", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def refusal(self, agent):
        result = agent.ctr("get", "web/other", "--no-start", check=False)
        if result.returncode == 0:
            agent.ctr("destroy", "web/other", check=False)
            return None
        return result

    def error_code(self, agent):
        result = agent.ctr("-o", "json", "get", "web/other", check=False)
        return json.loads(result.stdout)["error"]["code"]


if __name__ == "__main__":
    unittest.main()
