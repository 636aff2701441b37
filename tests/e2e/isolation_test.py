"""The isolation of a default instance, from inside: see isolation.py."""

import ctypes
import os
import re
import shutil
import tempfile
import threading
import unittest
import urllib.parse

import images
import isolation
from harness import Agent, Case, read, wait_for


def exchange(one, other):
    """renameat2(2) with RENAME_EXCHANGE: no moment has neither."""
    at_cwd = -100
    if ctypes.CDLL(None, use_errno=True).renameat2(at_cwd, one.encode(), at_cwd, other.encode(), 2) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


class Isolation(Case):
    @classmethod
    def setUpClass(cls):
        cls.agent = Agent().start()
        cls.addClassCleanup(cls.agent.purge)
        cls.agent.import_demo()
        with tempfile.TemporaryDirectory(prefix="ctr-isolation-") as folder:
            cls.agent.ctr("image", "import", isolation.build_image(folder))

    def test_every_case_is_as_the_profile_and_dockers_lists_say(self):
        rows = isolation.table(self.agent)
        bad = [row for row in rows if not row.good]
        self.assertFalse(bad, "\n" + isolation.render(bad))
        # Most of the profile's refusals prove something: without the filter the kernel says another thing.
        refused = [row for row in rows if row.section == "system call" and row.wanted != "allowed"]
        self.assertGreater(len(refused), 60)
        self.assertGreater(sum(row.found != row.loosened for row in refused), len(refused) / 2)

    def test_the_profile_allows_nothing_that_dockers_does_not(self):
        profile = isolation.Profile(isolation.CAPABILITIES)
        allowed = {name for rule in profile.text["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and profile.applies(rule)
                   for name in rule["names"]}
        self.assertEqual(allowed, set(isolation.DOCKER_CALLS) - {"socketcall"})

    def test_class_show_says_what_is_loosened(self):
        self.agent.apply('name = "tight"\nimage = "demo:latest"\n')
        self.assertEqual(self.agent.json("class", "show", "tight")["loosened"], [])
        self.agent.apply('name = "loose"\nimage = "demo:latest"\n[[volume]]\nhost = "/srv"\npath = "/srv"\n'
                         '[security]\ncap_add = ["SYS_PTRACE"]\nseccomp = "unconfined"\n')
        loosened = self.agent.json("class", "show", "loose")["loosened"]
        self.assertEqual(loosened, ["it may have more capabilities (cap_add): SYS_PTRACE", "no system call is filtered (seccomp)",
                                    "it writes the host's /srv (volume)"])
        self.assertIn(loosened[1], self.agent.ctr("class", "show", "loose"))

    def test_who_changes_a_shared_folder_meanwhile_leads_no_volume_over_an_instances_devices(self):
        root = self.enterContext(tempfile.TemporaryDirectory(prefix="ctr-shared-"))
        for folder in ("outer/inner", "other"):
            os.makedirs(f"{root}/{folder}")
        os.symlink("/dev", f"{root}/outer/link")
        self.agent.apply('name = "nested"\nimage = "demo:latest"\nrestart = "never"\n'
                         f'[[volume]]\npath = "/outer"\nhost = "{root}/outer"\n'
                         f'[[volume]]\npath = "/outer/inner"\nhost = "{root}/other"\n')
        stopped = threading.Event()

        def swap():
            while not stopped.wait(0.003):
                exchange(f"{root}/outer/inner", f"{root}/outer/link")

        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            for n in range(10):
                start = self.agent.ctr("start", f"nested/x{n}", check=False)
                if start.returncode == 0:
                    mounts = self.agent.ctr("exec", f"nested/x{n}", "--", "/bin/sh", "-c", "grep -c ' /dev ' /proc/mounts")
                    self.assertEqual(mounts, "1")
                self.agent.ctr("destroy", f"nested/x{n}", check=False)
        finally:
            stopped.set()
            swapper.join()

    def test_a_capability_that_nobody_knows_is_refused(self):
        refused = self.agent.ctr("class", "apply", "-f", "-", check=False,
                                 stdin='name = "x"\nimage = "demo:latest"\n[security]\ncap_add = ["SYS_EVERYTHING"]\n')
        self.assertExit(refused, 2, "SYS_EVERYTHING", "cap_add")

    def test_info_has_no_warning_where_nothing_is_amiss(self):
        self.assertIsInstance(self.agent.json("info")["warnings"], list)


class OutOfMemory(Case):
    """Whom the kernel kills where all memory runs out: instances before the agent, the agent before containerd."""

    def test_instances_and_what_the_agent_runs_go_first(self):
        hook = f"cat /proc/self/oom_score_adj > {self.agent.root}/hook"
        self.agent.apply(f'name = "web"\nimage = "demo:latest"\ndefault_port = 8080\n[hooks]\non_start = {["sh", "-c", hook]}\n')
        self.agent.ctr("get", "web/alice")
        score = "/proc/self/oom_score_adj"
        self.assertEqual(self.agent.ctr("exec", "web/alice", "--", "cat", "/proc/1/oom_score_adj", score), "0\n0")
        wait_for(lambda: os.path.exists(self.agent.root + "/hook") and read(self.agent.root + "/hook"), "the hook")
        self.assertEqual(read(self.agent.root + "/hook"), "0\n")
        containerd = read(self.agent.data + "/containerd/containerd.pid").strip()
        found = [int(read(f"/proc/{pid}/oom_score_adj")) for pid in (containerd, self.agent.process.pid)]
        self.assertEqual(found, [-999, -900] if self.may_protect() else [0, 0])

    @staticmethod
    def may_protect():
        """Whether processes here may go below the score that they have: CAP_SYS_RESOURCE."""
        return int(re.search(r"CapEff:\s+(\w+)", read("/proc/self/status"))[1], 16) >> 24 & 1


class Changes(Case):
    """A class that changes: who runs what."""

    def test_running_instances_keep_theirs_until_a_restart_takes_the_new_one(self):
        web = 'name = "web"\nimage = "demo:latest"\ndefault_port = 8080\n'
        self.agent.apply(web)
        self.agent.environment["CTR_CLASS"] = "web"
        for name in ("alice", "bob"):
            self.agent.ctr("get", name)
        first = self.agent.json("class", "show", "web")["revision"]
        self.agent.apply(web + 'env = { A = "1" }\nworkdir = "/tmp"\n')
        shown = self.agent.json("class", "show", "web")
        self.assertNotEqual(shown["revision"], first)
        self.assertEqual(shown["live_revisions"], {first: 2})
        self.assertIn(first + " (old)", self.agent.ctr("ls"))
        self.agent.ctr("restart", "alice")
        shown = self.agent.json("class", "show", "web")
        self.assertEqual(shown["live_revisions"], {first: 1, shown["revision"]: 1})
        self.assertEqual([(it["id"], it["revision"], it["outdated"]) for it in self.agent.json("ls")],
                         [("alice", shown["revision"], False), ("bob", first, True)])
        self.assertEqual(self.agent.ctr("exec", "alice", "--", "sh", "-c", 'pwd; echo "$A"'), "/tmp\n1")
        self.assertEqual(self.agent.ctr("exec", "bob", "--", "sh", "-c", 'pwd; echo "$A"'), "/")

    def test_one_that_runs_with_another_default_port_is_reached_at_the_new_one(self):
        def at(port):
            return f'name = "moved"\nimage = "demo:latest"\ndefault_port = {port}\nenv = {{ PORT = "{port}" }}\n[route]\ninstances = 1\n'

        def reached():
            instance = self.agent.json("inspect", "moved/instance-0")
            url = urllib.parse.urlsplit(instance["url"])
            answers = [self.agent.get(host="instance-0.moved.localhost")[0], self.agent.get(address=url.hostname, port=url.port)[0],
                       self.agent.get(host="moved.localhost")[0]]
            return url.port, answers, instance["generation"]

        self.agent.apply(at(8080))
        self.agent.ctr("get", "moved/instance-0")
        self.assertEqual(reached(), (8080, [200] * 3, 1))
        self.agent.apply(at(9090))
        self.assertEqual(reached(), (9090, [200] * 3, 1))
        self.agent.kill()
        self.agent.start()
        self.assertEqual(reached(), (9090, [200] * 3, 1))
        self.agent.ctr("restart", "moved/instance-0")
        self.assertEqual(reached(), (9090, [200] * 3, 2))

    def test_a_port_that_one_that_runs_has_is_that_port_whichever_is_the_default_by_now(self):
        def with_default(port, other):
            return f'name = "swapped"\nimage = "demo:latest"\ndefault_port = {port}\n[[port]]\nport = {other}\n'

        self.agent.apply(with_default(8080, 9090))
        self.addCleanup(self.agent.ctr, "class", "rm", "swapped", "--force")
        self.agent.ctr("get", "swapped/a")
        self.agent.ctr("exec", "swapped/a", "--", "sh", "-c", "CTR_ID=second PORT=9090 /bin/server > /dev/null 2>&1 &")
        address = self.agent.json("inspect", "swapped/a")["address"]
        wait_for(lambda: b"second" in self.agent.get(address=address, port=9090)[2], "the second server")
        self.agent.apply(with_default(9090, 8080))
        for port, who in ((8080, b"hello from a,"), (9090, b"hello from second,")):
            self.assertIn(who, self.agent.get(address=address, port=port)[2])

    def test_ports_that_the_class_has_no_more_are_those_of_who_runs_with_them(self):
        self.agent.apply('name = "shrunk"\nimage = "demo:latest"\ndefault_port = 8080\n[[port]]\nport = 9090\n')
        self.addCleanup(self.agent.ctr, "class", "rm", "shrunk", "--force")
        self.agent.ctr("get", "shrunk/a")
        self.agent.ctr("exec", "shrunk/a", "--", "sh", "-c", "CTR_ID=second PORT=9090 /bin/server > /dev/null 2>&1 &")
        address = self.agent.json("inspect", "shrunk/a")["address"]
        wait_for(lambda: b"second" in self.agent.get(address=address, port=9090)[2], "the second server")
        self.agent.apply('name = "shrunk"\nimage = "demo:latest"\n')

        def check():
            self.assertIn(b"hello from a,", self.agent.get(host="a.shrunk.localhost")[2])
            for port, who in ((8080, b"hello from a,"), (9090, b"hello from second,")):
                self.assertIn(who, self.agent.get(address=address, port=port)[2])
            self.assertEqual(self.agent.json("inspect", "shrunk/a")["url"], f"http://{address}:8080")

        check()
        self.agent.kill()
        self.agent.start()
        check()
        self.agent.ctr("restart", "shrunk/a")
        self.assertEqual(self.agent.get(host="a.shrunk.localhost")[0], 400)
        self.assertIsNone(self.agent.json("inspect", "shrunk/a")["url"])

    def test_a_class_that_changes_while_starts_wait_their_turn_is_told_of_each_as_it_runs(self):
        def loose(revision):
            return ('name = "queue"\nimage = "demo:latest"\ndefault_port = 8080\nenv = { REVISION = "%s" }\n' % revision
                    + ('[security]\ncap_add = ["SYS_ADMIN"]\n' if revision == "old" else ""))

        self.agent.apply(loose("old"))
        self.addCleanup(self.agent.ctr, "class", "rm", "queue", "--force")
        names = [f"queue/i{i}" for i in range(12)]
        for name in names:
            self.agent.ctr("start", name, "--no-wait")
        self.agent.apply(loose("new"))
        for name in names:
            self.agent.ctr("start", name)
        self.agent.kill()
        self.agent.start()
        for shown in self.agent.json("ls"):
            if shown["class"] != "queue":
                continue
            runs = self.agent.ctr("exec", "queue/" + shown["id"], "--", "sh", "-c", "echo $REVISION")
            self.assertEqual(shown["outdated"], runs == "old", shown)
            self.assertEqual(self.agent.get(host=shown["id"] + ".queue.localhost")[0], 200)

    def test_an_image_that_takes_the_name_of_another_is_told_and_taken_by_a_restart(self):
        def build(word):
            with tempfile.TemporaryDirectory(prefix="ctr-build-") as folder:
                os.makedirs(folder + "/root/bin")
                shutil.copy("/bin/busybox", folder + "/root/bin/sh")
                with open(folder + "/root/word", "w") as file:
                    file.write(word)
                self.agent.ctr("image", "import", images.pack(folder + "/root", folder + "/app.tar", "app:dev"))

        def digests():
            return {it["id"]: (it["image_digest"], it["outdated"]) for it in self.agent.json("ls")}

        def shown():
            entry = self.agent.json("class", "show", "app")
            return entry["image_digest"], entry["outdated_instances"]

        class_file = 'name = "app"\nimage = "app:dev"\nentrypoint = ["sh", "-c", "while :; do read -t 1 x; done"]\nrestart = "always"\n'
        build("first")
        self.agent.apply(class_file)
        for name in ("alice", "bob"):
            self.agent.ctr("start", "app/" + name)
        first = shown()[0]
        self.assertTrue(first.startswith("sha256:"))
        self.assertEqual((digests(), shown()[1]), ({"alice": (first, False), "bob": (first, False)}, 0))
        build("second")
        second = shown()[0]
        self.assertNotEqual(second, first)
        self.assertEqual((digests(), shown()[1]), ({"alice": (first, True), "bob": (first, True)}, 2))
        self.assertEqual(self.agent.ctr("ls").count("(old image)"), 2)
        self.assertIn("older revision of its class's image", self.agent.ctr("why", "app/alice"))
        again = self.agent.ctr("class", "apply", "-f", "-", stdin=class_file, check=False)
        self.assertIn("2 instances run what the image's name meant before", again.stderr)
        self.assertIn("unchanged", again.stdout)
        self.agent.ctr("restart", "app/alice")
        self.agent.stop()
        self.agent.start()
        wait_for(lambda: shown()[0] == second, "the agent to have looked at the images")
        self.assertEqual((digests(), shown()), ({"alice": (second, False), "bob": (first, True)}, (second, 1)))
        self.assertEqual(self.agent.json("inspect", "app/bob")["image_digest"], first)
        words = [self.agent.ctr("exec", "app/" + name, "--", "sh", "-c", "read x < /word; echo $x") for name in ("alice", "bob")]
        self.assertEqual(words, ["second", "first"])


if __name__ == "__main__":
    unittest.main()
