"""Bad input and faults: one clear line, the right exit status, and nothing left behind."""

import os
import subprocess
import tempfile
import time
import unittest

from harness import BIN, DEADLINE, DEMO, Agent, Case, wait_for

WEB = 'name = "web"\nimage = "demo:latest"\ndefault_port = 8080\n'

NEVER = 'restart = "never"\n'  # else they would be started again beside other tests


class BadInput(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply(WEB)
        cls.agent.environment["CTR_CLASS"] = "web"

    def test_an_instance_without_a_class_among_several_is_told_which_there_are(self):
        self.agent.apply(WEB.replace('"web"', '"other"'))
        self.assertExit(self.agent.ctr("get", "x", check=False, env={"CTR_CLASS": ""}), 2, "other", "web")

    def assertNothingLeft(self, *ids):
        """Who waited was told before all was torn down; stopped means that it is."""
        for id in ids:
            self.agent.ctr("wait", id, "--for", "stopped")
        self.assertEqual(self.agent.remains(), [])

    def test_unknown_class_and_bad_id(self):
        self.assertExit(self.agent.ctr("get", "nope/alice", check=False), 3, "nope")
        self.assertExit(self.agent.ctr("get", "Alice_1", check=False), 2, "Alice_1", "a-z")
        status, headers, _ = self.agent.get(host="alice.nope.localhost")
        self.assertEqual((status, headers["Ctr-Error"]), (404, "unknown_class"))

    def test_bad_toml_names_file_line_and_key(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(WEB + 'sleep_after = "soon"\n')
            file.flush()
            result = self.agent.ctr("class", "apply", "-f", file.name, check=False)
            self.assertExit(result, 2, file.name + ":4", "sleep_after", "soon")
        self.assertExit(self.agent.ctr("class", "apply", "-f", "-", check=False, stdin=WEB + "imge = 1\n"), 2, "imge")
        self.assertExit(self.agent.ctr("class", "apply", "-f", "-", check=False, stdin=WEB + 'pull_policy = "often"\n'), 2,
                        "pull_policy")

    def test_a_missing_image_is_refused_at_apply(self):
        result = self.agent.ctr("class", "apply", "-f", "-", check=False, stdin=WEB.replace("demo", "absent") + 'pull_policy = "never"\n')
        self.assertExit(result, 3, "absent", "ctr image import")

    def test_an_image_that_exits_at_once(self):
        self.agent.apply(WEB.replace('"web"', '"exits"') + NEVER + 'entrypoint = ["/bin/sh", "-c", "exit 3"]\n')
        self.assertExit(self.agent.ctr("get", "exits/a", check=False), 1, "exited with status 3")
        self.agent.ctr("wait", "exits/a", "--for", "stopped")
        gone = self.agent.json("-c", "exits", "wait", "never-known", "--for", "destroyed")
        self.assertEqual((gone["class"], gone["id"], gone["state"]), ("exits", "never-known", "stopped"))
        self.agent.ctr("wait", "no-such-class/a", "--for", "destroyed")  # it may have gone with its class
        shown = self.agent.json("inspect", "exits/a")
        self.assertEqual((shown["state"], shown["reason"], shown["exit_code"]), ("stopped", "start_failed", 3))
        status, headers, _ = self.agent.get(host="a.exits.localhost")
        self.assertEqual((status, headers["Ctr-Error"]), (502, "start_failed"))
        self.assertNothingLeft("exits/a")

    def test_a_port_that_never_opens(self):
        self.agent.apply(WEB.replace('"web"', '"mute"') + NEVER +
                         'entrypoint = ["/bin/sleep", "1000"]\nstart_timeout = "1s"\n')
        self.assertExit(self.agent.ctr("get", "mute/a", check=False), 124, "8080")
        status, headers, _ = self.agent.get(host="a.mute.localhost")
        self.assertEqual((status, headers["Ctr-Error"]), (504, "start_timeout"))
        self.assertNothingLeft("mute/a")

    def test_a_server_on_loopback_only_is_told_what_to_do(self):
        toml = WEB.replace('"web"', '"inward"') + 'env = { BIND = "127.0.0.1" }\nstart_timeout = "1s"\n'
        self.agent.apply(toml)
        self.assertExit(self.agent.ctr("get", "inward/a", check=False), 124, "127.0.0.1", "dial")
        self.agent.apply(toml + 'dial = "loopback"\n')
        self.agent.ctr("get", "inward/a")
        self.assertEqual(self.agent.get(host="a.inward.localhost")[0], 200)
        self.agent.ctr("destroy", "inward/a")

    def test_an_entrypoint_that_is_not_there_or_not_executable(self):
        self.agent.apply(WEB.replace('"web"', '"lost"') + NEVER + 'entrypoint = ["/bin/nope"]\n')
        self.assertExit(self.agent.ctr("get", "lost/a", check=False), 1, "/bin/nope", "not found")
        self.agent.apply(WEB.replace('"web"', '"folder"') + NEVER + 'entrypoint = ["/etc"]\n')
        self.assertExit(self.agent.ctr("get", "folder/a", check=False), 1, "/etc")
        self.assertNothingLeft("lost/a", "folder/a")

    def test_a_class_with_instances_is_removed_by_force_alone(self):
        self.agent.apply(WEB.replace('"web"', '"full"'))
        self.agent.ctr("get", "full/a")
        self.assertExit(self.agent.ctr("class", "rm", "full", check=False), 4, "--force")
        self.agent.ctr("class", "rm", "full", "--force")
        self.assertEqual(self.agent.ctr("class", "show", "full", check=False).returncode, 3)

    def test_an_image_in_use_is_not_removed(self):
        self.assertExit(self.agent.ctr("image", "rm", "demo:latest", check=False), 4, "web")

    def test_an_archive_that_is_none_is_refused(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"not an archive" * 1000)
            file.flush()
            self.assertEqual(self.agent.ctr("image", "import", file.name, check=False).returncode, 2)
        self.assertEqual(self.agent.ctr("image", "import", "/nowhere.tar", check=False).returncode, 1)

    def test_errors_are_json_if_asked(self):
        result = self.agent.ctr("-o", "json", "inspect", "nobody", check=False)
        self.assertEqual(result.returncode, 3)
        self.assertIn('"unknown_instance"', result.stdout)
        status, headers, body = self.agent.get(host="nobody.web.localhost", headers={"Accept": "application/json"})
        self.assertEqual(status, 404)
        self.assertIn(b'"unknown_instance"', body)


class NoAgent(unittest.TestCase):
    def refusal(self, *flags):
        return subprocess.run([BIN + "/ctr-agent", *flags], capture_output=True, text=True, timeout=DEADLINE)

    def assertRefused(self, result, *words):
        self.assertEqual(result.returncode, 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr.strip().splitlines()[-1])

    def test_an_agent_that_is_not_there(self):
        result = subprocess.run([BIN + "/ctr", "--host", "unix:///nonexistent/agent.sock", "ls"], capture_output=True,
                                text=True)
        self.assertEqual(result.returncode, 5)
        self.assertIn("ctr-agent", result.stderr)

    def test_a_socket_that_is_not_permitted(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        os.chmod(agent.root, 0o755)
        result = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", BIN + "/ctr", "--host",
                                 agent.socket, "ls"], capture_output=True, text=True)
        self.assertEqual(result.returncode, 5, result.stderr)
        self.assertIn("permi", result.stderr)
        mode = os.stat(agent.run + "/agent.sock").st_mode & 0o777
        self.assertEqual(mode, 0o660)

    def test_a_second_agent_on_one_data_directory_or_port_or_range(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        other = Agent()
        self.addCleanup(other.purge)
        self.assertRefused(self.refusal(*agent.flags), agent.data, "another ctr-agent")
        flags = dict(zip(other.flags[::2], other.flags[1::2]))
        both = lambda **changes: [word for pair in {**flags, **changes}.items() for word in pair]
        self.assertRefused(self.refusal(*both(**{"--http": f"127.0.0.1:{agent.port}"})), str(agent.port))
        self.assertRefused(self.refusal(*both(**{"--instance-range": agent.instance_range})), agent.instance_range)

    def test_a_data_directory_that_is_not_writable(self):
        with tempfile.NamedTemporaryFile() as file:
            self.assertRefused(self.refusal("--data-dir", file.name + "/data", "--run-dir", "/tmp"), file.name)

    def test_containerd_that_is_missing(self):
        agent = Agent()
        self.addCleanup(agent.purge)
        # In a mount namespace of its own the program is hidden.
        hidden = "mount --bind /dev/null /usr/bin/containerd && exec \"$@\""
        result = subprocess.run(["unshare", "--mount", "sh", "-c", hidden, "sh", BIN + "/ctr-agent", *agent.flags],
                                capture_output=True, text=True, timeout=DEADLINE)
        self.assertRefused(result, "containerd", "apt-get install")


class Killed(unittest.TestCase):
    def test_an_agent_killed_and_started_again_serves_its_running_instances_on(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        agent.import_demo()
        agent.apply(WEB + "max_instances = 50\n")
        urls = [agent.ctr("get", f"i{n}") for n in range(5)]
        before = {i["id"]: i["generation"] for i in agent.json("ls")}
        pid = agent.json("inspect", "i0")["pid"]
        for _ in range(3):
            agent.kill()
            agent.start()
            for url in urls:
                address = url.removeprefix("http://").split(":")[0]
                # Every connection: a listener that leaked into a child would swallow some.
                for _ in range(10):
                    self.assertEqual(agent.get(address=address, port=8080)[0], 200)
        self.assertEqual({i["id"]: i["generation"] for i in agent.json("ls")}, before)
        self.assertEqual(agent.json("inspect", "i0")["pid"], pid)

    def test_a_kill_during_an_import_leaves_a_service_that_answers_every_connection(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        agent.import_demo()
        agent.apply(WEB)
        url = agent.ctr("get", "alice")
        importing = [subprocess.Popen([BIN + "/ctr", "--host", agent.socket, "image", "import", DEMO, "--name",
                                       f"copy{n}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                     for n in range(4)]
        agent.kill()
        for process in importing:
            process.wait(DEADLINE)
        agent.start()
        address = url.removeprefix("http://").split(":")[0]
        for _ in range(100):
            self.assertEqual(agent.get(address=address, port=8080)[0], 200)
            self.assertEqual(agent.get(host="alice.web.localhost")[0], 200)
        agent.import_demo()

    def test_a_containerd_that_is_killed_is_started_again_and_nothing_is_lost(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        agent.import_demo()
        agent.apply(WEB)
        agent.ctr("get", "alice")
        with open(agent.data + "/containerd/containerd.pid") as file:
            os.kill(int(file.read()), 9)
        self.assertEqual(agent.get(host="alice.web.localhost")[0], 200)
        wait_for(lambda: agent.ctr("get", "bob", check=False).returncode == 0, "a new instance")
        self.assertEqual(agent.json("inspect", "alice")["generation"], 1)

    def test_a_planned_stop_lets_a_request_finish_and_leaves_instances_running(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        agent.import_demo()
        agent.apply(WEB)
        url = agent.ctr("get", "alice")
        slow = subprocess.Popen(["curl", "-sS", "--max-time", "30", url + "/slow/2"], stdout=subprocess.PIPE, text=True)
        wait_for(lambda: agent.json("inspect", "alice")["in_flight"] == 1, "the request")
        self.assertEqual(agent.stop(), 0)
        self.assertTrue(slow.communicate()[0].endswith("2000 ms\n"))
        agent.start()
        self.assertEqual(agent.json("inspect", "alice")["generation"], 1)

    def test_a_purge_leaves_nothing(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        agent.import_demo()
        agent.apply(WEB)
        agent.ctr("get", "alice")
        pid = agent.json("inspect", "alice")["pid"]
        self.assertNotEqual(agent.remains(), [])
        agent.kill()
        subprocess.run([BIN + "/ctr-agent", *agent.flags, "--purge"], check=True, timeout=DEADLINE)
        self.assertEqual(agent.remains(), [])
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.assertFalse(os.path.exists(agent.data))


if __name__ == "__main__":
    unittest.main()
