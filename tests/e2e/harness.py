"""Runs a real ctr-agent, with a containerd of its own, in directories of its own; everything is gone afterwards."""

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

BIN = os.environ["CTR_BIN"]
DEMO = os.environ["CTR_DEMO"]
SLOWER = int(os.environ.get("CTR_TEST_SLOWER", "1"))  # an emulated machine takes that many times as long
DEADLINE = 60 * SLOWER


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, what, timeout=DEADLINE, pause=0.01):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(pause)
    raise AssertionError(f"timed out waiting for {what}")


def read(path):
    with open(path) as file:
        return file.read()


def is_pipe_full(pid):
    """Whether the process waits for somebody to read from the pipe that it writes to."""
    return "pipe_write" in read(f"/proc/{pid}/wchan")


def network_remains(agent_id, before=()):
    """What there is of an agent's network: interfaces, routes and its table. `before`: as Agent.before."""
    def show(*command):
        return subprocess.run([*before, *command], capture_output=True, text=True, check=True, timeout=DEADLINE).stdout

    prefix, owner = f"ctr{agent_id[:7]}-", route_owner(agent_id)
    routes = [route for family in ("-4", "-6")
              for route in json.loads(show("ip", "-j", family, "route", "show", "table", "all", "proto", "119") or "[]")]
    found = [link["ifname"] for link in json.loads(show("ip", "-j", "link")) if link["ifname"].startswith(prefix)]
    found += [f"route {route['dst']}" for route in routes
              if route.get("metric") == owner or route.get("dev", "").startswith(prefix)]
    return found + [table for table in show("nft", "list", "tables").splitlines() if table.endswith(f"ctr-{agent_id}")]


def route_owner(agent_id):
    """The metric of an agent's routes (NumberOf in agent/network/subnet.cc): FNV-1a, 31 bits of it."""
    value = 0xcbf29ce484222325
    for byte in agent_id.encode():
        value = (value ^ byte) * 0x100000001b3 % (1 << 64)
    return (value >> 33) + 1


class Agent:
    """A ctr-agent. Several share a machine: each has directories, ranges and a port of its own."""

    count = 0

    def __init__(self, extra=()):
        Agent.count += 1
        octet = int(os.environ.get("CTR_TEST_OCTET", "80")) + 2 * Agent.count  # other test runs have others
        self.root = tempfile.mkdtemp(prefix="ctr-e2e-")
        self.data, self.run = self.root + "/data", self.root + "/run"
        self.port = free_port()
        self.instance_range, self.class_range = f"127.{octet}.0.0/16", f"127.{octet + 1}.0.0/16"
        self.flags = ["--data-dir", self.data, "--run-dir", self.run, "--http", f"127.0.0.1:{self.port}",
                      "--instance-range", self.instance_range, "--class-range", self.class_range, *extra]
        self.environment = {}  # of every call of the CLI
        self.before = []  # a command that runs the agent, elsewhere
        self.process = None
        self.purged = False
        atexit.register(self.purge)

    @property
    def socket(self):
        return f"unix://{self.run}/agent.sock"

    def spawn(self):
        with open(self.root + "/agent.log", "ab") as log:
            self.process = subprocess.Popen([*self.before, BIN + "/ctr-agent", *self.flags], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)

    def start(self):
        self.spawn()
        return self.await_ready()

    def await_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError("ctr-agent ended:\n" + read(self.root + "/agent.log"))
            return self.ctr("info", check=False).returncode == 0

        wait_for(ready, "the agent")
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(DEADLINE)

    def purge(self):
        if self.purged:
            return
        self.purged = True
        if self.process and self.process.poll() is None:
            self.kill()
        if not os.path.exists(self.data):
            shutil.rmtree(self.root)
            return
        agent_id = read(self.data + "/agent-id").strip() if os.path.exists(self.data + "/agent-id") else ""
        subprocess.run([*self.before, BIN + "/ctr-agent", *self.flags, "--purge"], timeout=DEADLINE, check=True,
                       stdout=subprocess.DEVNULL)
        left = network_remains(agent_id, self.before) if agent_id else []
        left += [self.run + "/network"] if os.path.exists(self.run + "/network") else []
        shutil.rmtree(self.root)
        if left:
            raise AssertionError(f"a purge has left {left}")

    def ctr(self, *args, check=True, stdin=None, env=None, timeout=DEADLINE):
        """Runs the CLI; with `check` it must succeed, and its stdout without the last newline is returned."""
        result = subprocess.run([BIN + "/ctr", "--host", self.socket, *map(str, args)], capture_output=True, text=True,
                                input=stdin, timeout=timeout, env={**os.environ, **self.environment, **(env or {})})
        if not check:
            return result
        if result.returncode != 0:
            raise AssertionError(f"ctr {' '.join(map(str, args))}: exit {result.returncode}: {result.stderr}")
        return result.stdout.rstrip("\n")

    def json(self, *args):
        return json.loads(self.ctr("-o", "json", *args))

    def apply(self, toml):
        if SLOWER > 1 and "start_timeout" not in toml:
            toml = f'start_timeout = "{20 * SLOWER}s"\n{toml}'
        return self.ctr("class", "apply", "-f", "-", stdin=toml)

    def import_demo(self):
        return self.ctr("image", "import", DEMO)

    def get(self, path="/", host=None, headers=None, method="GET", body=None, timeout=DEADLINE, address=None, port=None):
        """One request to the ingress; gives (status, headers, body)."""
        connection = http.client.HTTPConnection(address or "127.0.0.1", port or self.port, timeout=timeout)
        try:
            fields = {"Host": host} if host else {}
            connection.request(method, path, body=body, headers={**fields, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def remains(self):
        """What this agent left on the host: containers' cgroups, mounts and processes."""
        if os.path.exists(self.data + "/agent-id"):  # not after a purge
            self.agent_id = read(self.data + "/agent-id").strip()
        found = []
        own = "agent" if self.process.poll() is None else None
        for folder, folders, _ in os.walk("/sys/fs/cgroup"):
            if folder.endswith(f"/ctr/{self.agent_id}"):
                found += [os.path.join(folder, name) for name in folders if name != own]
                folders.clear()
        with open("/proc/mounts") as mounts:
            found += [line.split()[1] for line in mounts if self.root in line]
        return found


class SmallDiskAgent(Agent):
    """One whose directories are on a disk of its own, of 160 MiB by default."""

    def __init__(self, options="size=160m"):
        super().__init__()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.root], check=True)

    def purge(self):
        try:
            super().purge()
        except OSError:
            subprocess.run(["umount", self.root], check=True)  # what is mounted can't be removed
            os.rmdir(self.root)


class Case(unittest.TestCase):
    """One agent for all tests of a class, with the demo image in it."""

    @classmethod
    def setUpClass(cls):
        cls.agent = Agent().start()
        cls.addClassCleanup(cls.agent.purge)
        cls.agent.import_demo()

    def assertExit(self, result, status, *words):
        self.assertEqual(result.returncode, status, result.stderr)
        lines = result.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        for word in words:
            self.assertIn(word, lines[0])
