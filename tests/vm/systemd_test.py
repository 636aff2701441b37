"""The unit scripts/ctr-agent.service under systemd itself: start, reload, restart, a kill, stop."""

import concurrent.futures
import glob
import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import unittest

from harness import BIN, DEADLINE, DEMO, read, wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
UNIT = "ctr-agent.service"
WEB = 'name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\n'


def run(*command, stdin=None):
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, input=stdin)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {result.returncode}: {result.stdout}{result.stderr}")
    return result.stdout.rstrip("\n")


def show(name):
    return run("systemctl", "show", UNIT, "--property", name, "--value")


def started(pid):
    """When, which no other process of that number can share."""
    return read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[19]


def ask(path="/", address="127.0.0.1"):
    connection = http.client.HTTPConnection(address, 8080, timeout=DEADLINE)
    try:
        connection.request("GET", path, headers={"Host": "alice.web.localhost"} if address == "127.0.0.1" else {})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


class Asking:
    """A client that asks again and again, each time on a connection of its own."""

    def __init__(self, address):
        self.address = address

    def __enter__(self):
        self.answers, self.over = [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        while not self.over.is_set():
            try:
                self.answers.append(ask(address=self.address))
            except (OSError, http.client.HTTPException) as error:
                self.answers.append(repr(error))

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Systemd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for program in glob.glob(BIN + "/ctr*"):
            shutil.copy(program, "/usr/local/bin")
        shutil.copy(f"{ROOT}/scripts/{UNIT}", "/etc/systemd/system")
        run("systemctl", "daemon-reload")
        run("systemctl", "start", UNIT)
        cls.addClassCleanup(cls.purge)
        run("ctr", "image", "import", DEMO)
        run("ctr", "class", "apply", "-f", "-", stdin=WEB)
        cls.address = run("ctr", "get", "alice", "--address")
        cls.agent_id = read("/var/lib/ctr/agent-id").strip()

    @classmethod
    def purge(cls):
        run("systemctl", "stop", UNIT)
        run("ctr-agent", "--purge")
        if os.path.exists(f"/sys/fs/cgroup/ctr/{cls.agent_id}"):
            raise AssertionError("a purge left a cgroup")

    def setUp(self):
        self.main, self.alice = int(show("MainPID")), self.instance()

    def instance(self):
        pid = json.loads(run("ctr", "-o", "json", "inspect", "alice"))["pid"]
        return pid, started(pid)

    def assertServed(self, answers):
        self.assertEqual(set(answers), {200}, answers)
        self.assertEqual(self.instance(), self.alice)
        self.assertEqual(show("ActiveState"), "active")

    def assertServedThroughout(self, *command):
        """By the ingress's name and by the instance's own address."""
        with Asking("127.0.0.1") as by_name, Asking(self.address) as by_address:
            def all_ask():
                before = [len(asking.answers) for asking in (by_name, by_address)]
                wait_for(lambda: len(by_name.answers) > before[0] + 3 and len(by_address.answers) > before[1] + 3, "answers")

            all_ask()
            run("systemctl", *command, UNIT)
            wait_for(lambda: int(show("MainPID")) != self.main, "another main process")
            all_ask()
        self.assertServed(by_name.answers)
        self.assertServed(by_address.answers)

    def test_a_reload_hands_over_and_nobody_notices(self):
        self.assertServedThroughout("reload")
        wait_for(lambda: not os.path.exists(f"/proc/{self.main}"), "the old agent's end")
        self.assertServed([ask()])
        self.assertEqual(show("NRestarts"), "0")

    def test_the_agent_is_beside_the_instances_and_has_more_weight(self):
        self.assertEqual(read(f"/proc/{self.main}/cgroup").strip(), f"0::/{UNIT}")
        weight = {name: int(read(f"/sys/fs/cgroup/{name}/cpu.weight")) for name in (UNIT, "ctr")}
        self.assertEqual(weight, {UNIT: 200, "ctr": 100})

    def test_a_restart_keeps_clients_waiting_and_instances_running(self):
        self.assertServedThroughout("restart")

    def test_a_stop_ends_the_agent_alone(self):
        run("systemctl", "stop", UNIT)
        self.assertEqual(show("ActiveState"), "inactive")
        for address in ("127.0.0.1", self.address):
            with self.assertRaises(ConnectionRefusedError):
                ask(address=address)
        time.sleep(1)
        self.assertEqual(started(self.alice[0]), self.alice[1])
        run("systemctl", "start", UNIT)
        self.assertServed([ask(), ask(address=self.address)])

    def test_after_a_reload_a_stop_still_waits_for_what_is_in_flight(self):
        """systemd waits for the end of its own children alone, else it kills at once: the new agent has to be one."""
        run("systemctl", "reload", UNIT)
        wait_for(lambda: not os.path.exists(f"/proc/{self.main}"), "the old agent's end")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, "/slow/4")
            time.sleep(1)
            run("systemctl", "restart", UNIT)
            self.assertEqual(asked.result(), 200)
        self.assertServed([ask()])
        # All of them: steering's maps, too.
        self.assertEqual(show("NFileDescriptorStore"), "6")
        log = run("journalctl", "--unit", UNIT, "--no-pager", "--output", "cat", "--since", "-10s")
        self.assertNotIn("not all of it was kept", log)

    def test_an_agent_that_is_killed_is_started_again(self):
        os.kill(self.main, signal.SIGKILL)
        self.assertEqual([ask(), ask(address=self.address)], [200, 200])  # the listeners are systemd's meanwhile
        wait_for(lambda: show("ActiveState") == "active" and int(show("MainPID")) not in (0, self.main), "the restart")
        self.assertServed([ask()])

    def test_instances_have_cgroups_beside_the_units(self):
        self.assertIn(f"0::/ctr/{self.agent_id}/", read(f"/proc/{self.alice[0]}/cgroup"))


if __name__ == "__main__":
    unittest.main()
