"""Planned restarts: with a service manager that keeps the listeners not one request fails; and what a stop waits for."""

import fcntl
import http.client
import io
import os
import re
import socket
import subprocess
import tarfile
import threading
import time
import unittest

from harness import BIN, DEADLINE, Agent, wait_for
from service_manager import ManagedAgent

WEB = 'name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\n'


class Client(threading.Thread):
    """Asks one address again and again until told to stop; whatever is no 200 is a failure."""

    def __init__(self, address, port, host, keep_alive, timeout=20):
        super().__init__()
        self.address, self.port, self.host = address, port, host
        self.keep_alive, self.timeout = keep_alive, timeout
        self.done = threading.Event()
        self.answered, self.failures = 0, []

    def run(self):
        connection = http.client.HTTPConnection(self.address, self.port, timeout=self.timeout)
        while not self.done.is_set():
            try:
                connection.request("GET", "/", headers={"Host": self.host})
                response = connection.getresponse()
                body = response.read()
                if response.status != 200:
                    self.failures.append(f"{response.status} {body}")
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            if not self.keep_alive or self.failures:
                connection.close()
        connection.close()


class Caller(threading.Thread):
    """Calls the API again and again, by the CLI."""

    def __init__(self, agent):
        super().__init__()
        self.agent = agent
        self.done = threading.Event()
        self.answered, self.failures = 0, []

    def run(self):
        while not self.done.is_set():
            result = self.agent.ctr("ls", check=False)
            if result.returncode != 0 or "alice" not in result.stdout:
                self.failures.append(f"ctr ls: {result.returncode} {result.stdout} {result.stderr}")
            self.answered += 1


class Load:
    """Keep-alive clients and ones with a new connection for every request, by name and by address."""

    def __init__(self, agent, address, port=8080):
        targets = [("127.0.0.1", agent.port, "alice.web.localhost"), (address, port, address)]
        self.clients = [Client(*target, keep_alive) for target in targets for keep_alive in (True, True, False)]
        self.clients.append(Caller(agent))

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.done.set()
        for client in self.clients:
            client.join(DEADLINE)

    def answered(self):
        return [client.answered for client in self.clients]

    def failures(self):
        return [failure for client in self.clients for failure in client.failures]

    def until_all_answered(self):
        before = self.answered()
        wait_for(lambda: all(now > was for now, was in zip(self.answered(), before)), "an answer for every client")


def descriptors(pid):
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            pass
    return found


class Restart(unittest.TestCase):
    def managed(self, config=""):
        agent = ManagedAgent()
        self.addCleanup(agent.purge)
        if config:
            with open(agent.root + "/agent.toml", "w") as file:
                file.write(config)
            agent.flags += ["--config", agent.root + "/agent.toml"]
        agent.start()
        agent.import_demo()
        agent.apply(WEB)
        self.address = agent.ctr("get", "alice", "--address")
        return agent

    def no_request_fails(self, agent, times):
        with Load(agent, self.address) as load:
            for _ in range(times):
                load.until_all_answered()
                self.assertEqual(agent.stop(), 0)
                agent.start()
            load.until_all_answered()
        self.assertEqual(load.failures(), [])
        self.assertEqual(agent.json("inspect", "alice")["generation"], 1)

    def test_ten_planned_restarts_under_load_fail_no_request(self):
        agent = self.managed()
        self.assertEqual(agent.store.names(),
                         ["api", "http-0", "steer-link", "steer-listener", "steer-pairs", "steer-sockets"])
        self.no_request_fails(agent, 10)
        self.assertEqual(agent.json("info")["steering"], "sk_lookup")
        self.assertEqual(len(agent.store.names()), 6)

    def test_bound_listeners_are_kept_and_given_up_one_by_one(self):
        agent = self.managed('steering = "bind"\n')
        name = f"bound-{self.address}-8080"
        self.assertIn(name, agent.store.names())
        self.no_request_fails(agent, 2)
        agent.ctr("destroy", "alice")
        wait_for(lambda: name not in agent.store.names(), "the listener of a destroyed instance to go")

    def test_connections_and_calls_made_while_no_agent_runs_wait(self):
        agent = self.managed()
        for end in (agent.kill, agent.stop):
            end()
            by_name = socket.create_connection(("127.0.0.1", agent.port), timeout=DEADLINE)
            by_address = socket.create_connection((self.address, 8080), timeout=DEADLINE)
            for client in (by_name, by_address):
                client.sendall(b"GET / HTTP/1.1\r\nHost: alice.web.localhost\r\nConnection: close\r\n\r\n")
            call = threading.Thread(target=lambda: self.assertIn("alice", agent.ctr("ls")))
            call.start()
            agent.start()
            for client in (by_name, by_address):
                with client:
                    self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 200"))
            call.join(DEADLINE)

    def test_what_was_kept_but_is_of_no_use_is_given_up(self):
        agent = self.managed()
        agent.stop()
        with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as idle:
            agent.store.add("http-7", other.fileno())
            agent.store.add("bound-127.1.2.3-80", other.fileno())
            agent.store.take({"FDSTOREREMOVE": "1", "FDNAME": "http-0"}, [])
            agent.store.add("http-0", idle.fileno())  # does not listen
            agent.store.take({"FDSTOREREMOVE": "1", "FDNAME": "steer-link"}, [])
            agent.store.add("steer-link", other.fileno())  # no link at all
            os.unlink(agent.run + "/agent.sock")  # nobody could reach the one that was kept
            agent.start()
        wait_for(lambda: agent.store.names() ==
                 ["api", "http-0", "steer-link", "steer-listener", "steer-pairs", "steer-sockets"], "the store")
        self.assertEqual(agent.get(host="alice.web.localhost")[0], 200)
        self.assertEqual(agent.get(address=self.address, port=8080)[0], 200)
        self.no_request_fails(agent, 1)

    def test_an_instance_that_was_forgotten_meanwhile_is_steered_no_more(self):
        agent = self.managed()
        agent.stop()
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(agent.data + "/state.db" + suffix):
                os.unlink(agent.data + "/state.db" + suffix)
        agent.start()
        if "alice" not in [instance["id"] for instance in agent.json("ls", "-a")]:
            with self.assertRaises(OSError):
                socket.create_connection((self.address, 8080), timeout=DEADLINE)

    def test_a_request_in_flight_finishes_and_the_drain_time_bounds_it(self):
        agent = self.managed('drain = "3s"\n')
        answers = {}

        def ask(path):
            try:
                answers[path] = agent.get(path, host="alice.web.localhost")[0]
            except (OSError, http.client.HTTPException) as error:
                answers[path] = type(error).__name__

        threads = [threading.Thread(target=ask, args=(path,)) for path in ("/sleep?s=1.5", "/sleep?s=20")]
        for thread in threads:
            thread.start()
        wait_for(lambda: agent.json("ls")[0]["in_flight"] == 2, "both requests")
        began = time.monotonic()
        self.assertEqual(agent.stop(), 0)
        self.assertLess(time.monotonic() - began, 15)
        for thread in threads:
            thread.join(DEADLINE)
        self.assertEqual(answers["/sleep?s=1.5"], 200)
        self.assertNotEqual(answers["/sleep?s=20"], 200)

    def test_a_planned_stop_waits_for_exec_sessions_and_runs(self):
        agent = self.managed()
        agent.apply('name = "job"\nimage = "demo:latest"\n')
        script = "echo begun; sleep 3; echo done"
        calls = [subprocess.Popen([BIN + "/ctr", "--host", agent.socket, *words, "--", "/bin/sh", "-c", script],
                                  stdout=subprocess.PIPE) for words in (("exec", "web/alice"), ("run", "job/j"))]
        for call in calls:
            self.assertEqual(call.stdout.readline(), b"begun\n")
        self.assertEqual(agent.stop(), 0)
        for call in calls:
            self.assertEqual(call.communicate(timeout=DEADLINE)[0], b"done\n")
            self.assertEqual(call.returncode, 0)

    def test_a_planned_stop_waits_for_a_copy(self):
        agent = self.managed()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo("big")
            member.size = 1 << 20
            tar.addfile(member, io.BytesIO(bytes(member.size)))
        copy = subprocess.Popen([BIN + "/ctr", "--host", agent.socket, "cp", "-", "web/alice:/tmp"], stdin=subprocess.PIPE)
        copy.stdin.write(archive.getvalue()[:1 << 19])
        copy.stdin.flush()
        wait_for(lambda: ".ctr-cp-" in agent.ctr("exec", "alice", "--", "ls", "-a", "/tmp"), "half of the file")
        agent.process.terminate()
        time.sleep(3)  # longer than what a call that is not waited for gets
        copy.stdin.write(archive.getvalue()[1 << 19:])
        copy.stdin.close()
        self.assertEqual(copy.wait(DEADLINE), 0)
        self.assertEqual(agent.process.wait(DEADLINE), 0)

    def test_the_drain_time_bounds_sessions_and_who_is_cut_off_is_told(self):
        agent = self.managed('drain = "1s"\n')
        agent.apply('name = "job"\nimage = "demo:latest"\n')
        exec_, run = [subprocess.Popen([BIN + "/ctr", "--host", agent.socket, *words, "--", "/bin/sh", "-c",
                                        "echo begun; sleep 1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                      for words in (("exec", "web/alice"), ("run", "job/j"))]
        for call in (exec_, run):
            self.assertEqual(call.stdout.readline(), b"begun\n")
        began = time.monotonic()
        self.assertEqual(agent.stop(), 0)
        self.assertLess(time.monotonic() - began, 15)
        for call, status, told in ((exec_, 125, b"the command is ended"), (run, 5, b"ctr logs -f job/j")):
            error = call.communicate(timeout=DEADLINE)[1]
            self.assertEqual(call.returncode, status, error)
            self.assertIn(told, error)
        agent.start()
        self.assertEqual(agent.json("inspect", "job/j")["state"], "healthy")

    def test_a_second_signal_ends_the_agent_at_once(self):
        agent = self.managed()
        thread = threading.Thread(target=lambda: self.assertRaises(
            (OSError, http.client.HTTPException), agent.get, "/sleep?s=20", host="alice.web.localhost"))
        thread.start()
        wait_for(lambda: agent.json("ls")[0]["in_flight"] == 1, "the request")
        agent.process.terminate()
        wait_for(lambda: "STOPPING=1" in agent.store.states, "STOPPING=1")
        self.assertIsNone(agent.process.poll())
        agent.process.terminate()
        agent.process.wait(15)
        thread.join(DEADLINE)

    def test_nothing_of_the_agent_is_inherited_by_what_outlives_it(self):
        agent = self.managed()
        ours = {target for target in descriptors(agent.process.pid).values() if re.match(r"socket:|anon_inode:bpf", target)
                and not target.startswith("anon_inode:[")}
        namespace = agent.json("info")["containerd_namespace"]
        pids = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    command = file.read()
            except OSError:
                continue
            if int(pid) != agent.process.pid and (agent.data in command or namespace in command):
                pids.append(int(pid))
        self.assertGreaterEqual(len(pids), 2)  # containerd and a shim
        for pid in pids:
            theirs = set(descriptors(pid).values())
            self.assertEqual(theirs & ours, set(), f"pid {pid}")
            self.assertFalse([target for target in theirs if "bpf" in target], f"pid {pid}")

    def test_another_agent_with_the_same_run_dir_is_refused(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        other = Agent()
        self.addCleanup(other.purge)
        other.flags[other.flags.index("--run-dir") + 1] = agent.run
        refused = subprocess.run([BIN + "/ctr-agent", *other.flags], capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("another ctr-agent serves " + agent.run, refused.stderr)
        self.assertEqual(agent.json("info")["pid"], agent.process.pid)
        other.flags[other.flags.index("--run-dir") + 1] = other.run

    def test_a_lock_that_what_a_killed_agent_was_starting_still_holds_is_waited_for(self):
        agent = Agent()
        self.addCleanup(agent.purge)
        os.mkdir(agent.data)
        lock = open(agent.data + "/lock", "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.2, lock.close).start()
        agent.spawn()
        agent.await_ready()

    def test_without_a_service_manager_new_connections_are_refused_after_a_stop(self):
        agent = Agent().start()
        self.addCleanup(agent.purge)
        self.assertEqual(agent.stop(), 0)
        self.assertEqual(oct(os.stat(agent.run + "/agent.sock").st_mode & 0o777), "0o660")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", agent.port), timeout=DEADLINE)
        agent.start()


class Descriptors(unittest.TestCase):
    """An agent that serves alice, with bob asleep, and a client that keeps its connection."""

    def setUp(self):
        self.agent = Agent().start()
        self.addCleanup(self.agent.purge)
        self.agent.import_demo()
        self.agent.apply(WEB)
        for name in ("alice", "bob"):
            self.agent.ctr("get", name)
        self.agent.ctr("stop", "bob")
        self.kept = http.client.HTTPConnection("127.0.0.1", self.agent.port, timeout=DEADLINE)
        self.addCleanup(self.kept.close)
        self.assertEqual(self.ask("alice"), 200)
        self.before = subprocess.run(
            ["prlimit", "--pid", str(self.agent.process.pid), "--nofile", "-o", "SOFT", "--noheadings"],
            capture_output=True, text=True, check=True).stdout.strip()
        self.crowd = []
        self.addCleanup(lambda: [client.close() for client in self.crowd])

    def limit(self, count):
        subprocess.run(["prlimit", "--pid", str(self.agent.process.pid), f"--nofile={count}:"], check=True)

    def used(self):
        return len(descriptors(self.agent.process.pid))

    def ask(self, name):
        self.kept.request("GET", "/", headers={"Host": f"{name}.web.localhost"})
        response = self.kept.getresponse()
        response.read()
        return response.status

    def connect(self, count):
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", self.agent.port), timeout=DEADLINE)
            self.crowd.append(client)

    def all_is_well_again(self):
        self.limit(self.before)

        def served():
            try:
                return self.agent.get(host="bob.web.localhost")[0] == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_for(served, "new clients to be served again")
        self.assertIsNone(self.agent.process.poll())
        for client in self.crowd:
            client.close()

    def test_clients_that_take_all_are_turned_away_while_traffic_goes_on_and_a_sleeper_wakes(self):
        self.limit(self.used() + 20)
        self.connect(100)
        self.assertEqual(self.crowd[-1].recv(1), b"")  # turned away, it does not wait for ever
        for _ in range(20):
            self.assertEqual(self.ask("alice"), 200)
        self.assertEqual(self.ask("bob"), 200)
        self.agent.ctr("stop", "bob")
        self.agent.ctr("get", "bob")
        self.agent.ctr("get", "carol")  # a new one
        self.assertEqual(sorted(i["id"] for i in self.agent.json("ls")), ["alice", "bob", "carol"])
        self.agent.ctr("destroy", "carol")
        self.all_is_well_again()

    def test_without_any_descriptor_what_is_open_goes_on_and_a_wake_fails_with_an_error(self):
        used = self.used()
        for _ in range(3):
            self.limit(8)
            self.connect(5)
            for _ in range(20):
                self.assertEqual(self.ask("alice"), 200)
            status = self.ask("bob")
            self.assertGreaterEqual(status, 500)
            self.all_is_well_again()
            self.agent.ctr("stop", "bob")
        wait_for(lambda: self.used() <= used + 4, "what was opened to be closed")


if __name__ == "__main__":
    unittest.main()
