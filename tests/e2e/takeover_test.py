"""Hand-overs: a new agent takes over from the one that runs, under load, and no request fails whatever becomes of either."""

import http.client
import os
import random
import signal
import socket
import subprocess
import threading
import time
import unittest

import audit
import kills
from harness import BIN, DEADLINE, Agent, read, wait_for
from load import Load as IngressLoad
from restart_test import WEB, Load
from service_manager import ManagedAgent
from sockets import receive
from websocket_test import UPGRADE, receive_head

NAP = 'name = "nap"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "1s"\n'


class Download(threading.Thread):
    """A response of so many lines, one a second."""

    def __init__(self, agent, host, seconds):
        super().__init__()
        self.agent, self.host, self.seconds = agent, host, seconds
        self.outcome = None
        self.start()

    def run(self):
        try:
            status, _, body = self.agent.get(f"/slow/{self.seconds}", host=self.host)
            self.outcome = (status, body.count(b"\n"))
        except (OSError, http.client.HTTPException) as error:
            self.outcome = error


class Upload(threading.Thread):
    """A chunked request body that takes so many seconds; the answer says it all again."""

    def __init__(self, agent, host, seconds):
        super().__init__()
        self.agent, self.host, self.pieces = agent, host, seconds * 10
        self.outcome = None
        self.start()

    def body(self):
        for n in range(self.pieces):
            time.sleep(0.1)
            yield b"piece %6d\n" % n

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.agent.port, timeout=DEADLINE)
        try:
            connection.request("PUT", "/echo", body=self.body(), encode_chunked=True,
                               headers={"Host": self.host, "Transfer-Encoding": "chunked"})
            response = connection.getresponse()
            self.outcome = (response.status, response.read().count(b"piece"))
        except (OSError, http.client.HTTPException) as error:
            self.outcome = error
        finally:
            connection.close()


class Conversation(threading.Thread):
    """A WebSocket, or a connection to a TCP port, that says something now and then, and hears it again."""

    def __init__(self, sock, pause):
        super().__init__()
        self.sock, self.pause = sock, pause
        self.done = threading.Event()
        self.said, self.failure = 0, None
        self.start()

    def run(self):
        try:
            while not self.done.wait(self.pause):
                words = os.urandom(1000)
                self.sock.sendall(words)
                if receive(self.sock, len(words)) != words:
                    raise OSError("it ended, or says something else")
                self.said += 1
        except OSError as error:
            self.failure = error

    def end(self):
        self.done.set()
        self.join(DEADLINE)
        self.sock.close()
        return self.failure


class Takeover(unittest.TestCase):
    def agent(self, config='drain = "10s"\n', kind=Agent):
        agent = kind()
        agent.earlier = []
        self.addCleanup(self.end, agent)
        with open(agent.root + "/agent.toml", "w") as file:
            file.write(config)
        agent.flags += ["--config", agent.root + "/agent.toml"]
        agent.start()
        agent.import_demo()
        agent.apply(WEB)
        self.address = agent.ctr("get", "alice", "--address")
        return agent

    def end(self, agent):
        for process in agent.earlier:
            if process.poll() is None:
                process.kill()
            process.wait()
        agent.purge()

    def begin(self, agent, *flags):
        """Starts an agent that is to take over; it is not the agent yet."""
        environment = dict(os.environ)
        if hasattr(agent, "store"):
            environment["NOTIFY_SOCKET"] = agent.store.path
        with open(agent.root + "/agent.log", "ab") as log:
            return subprocess.Popen([BIN + "/ctr-agent", *(flags or agent.flags), "--takeover"], stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL, env=environment)

    def served_by(self, agent, pid):
        info = agent.ctr("-o", "json", "info", check=False)
        return info.returncode == 0 and f'"pid": {pid}' in info.stdout

    def take_over(self, agent):
        """Gives the process that was the agent before."""
        before, process = agent.process, self.begin(agent)
        agent.earlier.append(before)
        agent.process = process

        def ready():
            self.assertIsNone(process.poll(), read(agent.root + "/agent.log"))
            return self.served_by(agent, process.pid)

        wait_for(ready, "the new agent")
        return before

    def has_passed_to(self, agent, process):
        return f"handed over to pid {process.pid}\n" in self.log(agent)

    def log(self, agent):
        return read(agent.root + "/agent.log")

    def test_hand_overs_in_a_row_under_load_fail_no_request_and_cut_no_connection(self):
        agent = self.agent()
        with Load(agent, self.address) as load:
            load.until_all_answered()
            open_ones = [Download(agent, "alice.web.localhost", 6), Upload(agent, "alice.web.localhost", 6)]
            time.sleep(0.5)
            for _ in range(4):
                before = self.take_over(agent)
                load.until_all_answered()
            for one in open_ones:
                one.join(DEADLINE)
            load.until_all_answered()
            self.assertEqual(before.wait(15), 0)
        self.assertEqual(load.failures(), [])
        self.assertEqual([one.outcome for one in open_ones], [(200, 6), (200, 60)])
        self.assertEqual([process.wait(15) for process in agent.earlier], [0] * 4)
        self.assertEqual(agent.json("inspect", "alice")["generation"], 1)
        self.assertEqual(agent.json("info")["steering"], "sk_lookup")

    def test_websockets_and_tcp_connections_go_on_whether_they_speak_or_not(self):
        agent = self.agent()
        agent.apply('name = "tcp"\nimage = "demo:latest"\ndefault_port = 8080\ndefault_protocol = "tcp"\n'
                    'env = { ECHO = "1" }\n')
        tcp = agent.ctr("get", "tcp/a", "--address")
        conversations = []
        for pause in (0, 0.1, 3):
            conversations.append(Conversation(socket.create_connection((tcp, 8080), timeout=DEADLINE), pause))
            websocket = socket.create_connection((self.address, 8080), timeout=DEADLINE)
            websocket.sendall(UPGRADE)
            self.assertIn(b" 101 ", receive_head(websocket))
            conversations.append(Conversation(websocket, pause))
        before = self.take_over(agent)
        wait_for(lambda: all(each.said >= 2 for each in conversations), "words of all")
        self.assertIsNone(before.poll())
        self.assertEqual([each.end() for each in conversations], [None] * 6)
        self.assertEqual(before.wait(15), 0)

    def test_bound_listeners_pass_too(self):
        agent = self.agent('drain = "10s"\nsteering = "bind"\n')
        with Load(agent, self.address) as load:
            for _ in range(2):
                load.until_all_answered()
                self.take_over(agent)
            load.until_all_answered()
        self.assertEqual(load.failures(), [])
        bob = agent.ctr("get", "bob", "--address")
        self.assertEqual(agent.get(address=bob, port=8080)[0], 200)

    def test_a_sleeper_that_is_asked_for_at_the_very_moment_wakes_once(self):
        agent = self.agent()
        agent.ctr("get", "bob")
        chance = random.Random(3)
        for turn in range(4):
            agent.ctr("stop", "bob")
            generation = agent.json("inspect", "bob")["generation"]
            answers = []

            def ask(delay):
                time.sleep(delay)
                try:
                    answers.append(agent.get(host="bob.web.localhost")[0])
                except (OSError, http.client.HTTPException) as error:
                    answers.append(error)

            begin = chance.uniform(0, 0.3)
            threads = [threading.Thread(target=ask, args=(begin + n * 0.01,)) for n in range(8)]
            for thread in threads:
                thread.start()
            self.take_over(agent)
            for thread in threads:
                thread.join(DEADLINE)
            self.assertEqual(answers, [200] * 8)
            self.assertEqual(agent.json("inspect", "bob")["generation"], generation + 1)

    def test_a_connection_of_the_old_agent_still_wakes_what_sleeps(self):
        agent = self.agent()
        agent.ctr("get", "bob")
        agent.ctr("stop", "bob")
        for n in range(3):
            kept = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=DEADLINE)
            self.addCleanup(kept.close)
            kept.request("GET", "/", headers={"Host": "alice.web.localhost"})
            kept.getresponse().read()
            before, process = agent.process, self.begin(agent)
            agent.earlier.append(before)
            agent.process = process
            wait_for(lambda: self.has_passed_to(agent, process), "the hand-over", pause=0.001)
            kept.request("GET", "/", headers={"Host": "bob.web.localhost"})
            response = kept.getresponse()
            self.assertEqual((response.status, response.headers["Connection"]), (200, "close"))
            self.assertIn(b"hello from bob", response.read())
            wait_for(lambda: self.served_by(agent, process.pid), "the new agent")
            self.assertEqual(agent.json("inspect", "bob")["generation"], n + 2)
            self.assertEqual(before.wait(15), 0)
            wait_for(lambda: agent.json("inspect", "bob")["in_flight"] == 0, "nothing to be in flight")
            agent.ctr("stop", "bob")

    def test_what_is_in_flight_in_the_old_agent_keeps_the_instance_awake_and_a_stop_drains_it(self):
        agent = self.agent()
        agent.apply(NAP)
        for name in ("one", "two"):
            agent.ctr("get", "nap/" + name)
        downloads = [Download(agent, name + ".nap.localhost", 6) for name in ("one", "two")]
        wait_for(lambda: [i["in_flight"] for i in agent.json("ls", "-c", "nap")] == [1, 1], "both downloads")
        self.take_over(agent)
        self.assertEqual([i["in_flight"] for i in agent.json("ls", "-c", "nap")], [1, 1])
        time.sleep(2.5)
        self.assertEqual(agent.json("inspect", "nap/one")["state"], "healthy")
        agent.ctr("stop", "nap/two")
        for download in downloads:
            download.join(DEADLINE)
            self.assertEqual(download.outcome, (200, 6))
        wait_for(lambda: agent.json("inspect", "nap/one")["reason"] == "slept", "one to sleep after its download")
        self.assertEqual(agent.json("inspect", "nap/one")["generation"], 1)

    def test_the_counts_of_an_old_agent_that_is_killed_are_void(self):
        agent = self.agent()
        agent.apply(NAP)
        agent.ctr("get", "nap/one")
        download = Download(agent, "one.nap.localhost", 30)
        wait_for(lambda: agent.json("inspect", "nap/one")["in_flight"] == 1, "the download")
        before = self.take_over(agent)
        before.kill()
        download.join(DEADLINE)
        wait_for(lambda: agent.json("inspect", "nap/one")["reason"] == "slept", "it to sleep")

    def test_the_old_agent_is_gone_after_its_drain_time(self):
        agent = self.agent('drain = "2s"\n')
        download = Download(agent, "alice.web.localhost", 30)
        wait_for(lambda: agent.json("inspect", "alice")["in_flight"] == 1, "the download")
        before = self.take_over(agent)
        began = time.monotonic()
        self.assertEqual(before.wait(15), 0)
        self.assertGreater(time.monotonic() - began, 1)
        download.join(DEADLINE)
        wait_for(lambda: agent.json("inspect", "alice")["in_flight"] == 0, "its count to be gone")

    def test_a_new_agent_that_cannot_start_leaves_the_old_one_serving(self):
        agent = self.agent()
        running = agent.process.pid
        bad = agent.root + "/bad.toml"
        with open(bad, "w") as file:
            file.write("no such key = 1\n")
        flags = agent.flags[:-2]
        other_port = ["127.0.0.1:1" if flags[i - 1] == "--http" else flag for i, flag in enumerate(flags)]
        elsewhere = [agent.root + "/other" if flags[i - 1] == "--data-dir" else flag for i, flag in enumerate(flags)]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            other_port[other_port.index("127.0.0.1:1")] = f"127.0.0.1:{taken.getsockname()[1]}"
            with Load(agent, self.address) as load:
                for wrong in ([*flags, "--config", bad], other_port, [*flags, "--containerd", "/tmp/none.sock"],
                              elsewhere):
                    load.until_all_answered()
                    failed = self.begin(agent, *wrong)
                    self.assertEqual(failed.wait(DEADLINE), 1, wrong)
                    load.until_all_answered()
                    self.assertEqual(agent.json("info")["pid"], running)
                self.take_over(agent)
                load.until_all_answered()
        self.assertEqual(load.failures(), [])
        agent.ctr("stop", "alice")
        self.assertEqual(agent.get(host="alice.web.localhost")[0], 200)

    def test_one_that_fails_when_it_has_the_listeners_already_leaves_them_to_the_old_one(self):
        agent = self.agent('drain = "10s"\n')
        with socket.create_server(("127.0.0.1", 0)) as taken:
            bad = agent.root + "/metrics.toml"
            with open(bad, "w") as file:
                file.write(f'metrics = "127.0.0.1:{taken.getsockname()[1]}"\n')
            with Load(agent, self.address) as load:
                for _ in range(2):
                    load.until_all_answered()
                    self.assertEqual(self.begin(agent, *agent.flags[:-2], "--config", bad).wait(DEADLINE), 1)
                    load.until_all_answered()
        self.assertEqual(load.failures(), [])

    def test_when_the_new_agent_ends_while_the_old_one_drains_another_can_start(self):
        agent = self.agent('drain = "30s"\n')
        download = Download(agent, "alice.web.localhost", 20)
        wait_for(lambda: agent.json("inspect", "alice")["in_flight"] == 1, "the download")
        before = self.take_over(agent)
        wait_for(lambda: os.path.exists(agent.run + "/takeover.sock"), "it to serve")
        agent.process.kill()
        agent.process.wait()
        began = time.monotonic()
        wait_for(lambda: before.poll() is not None or self.served_by(agent, before.pid), "the old one to see it")
        self.assertLess(time.monotonic() - began, 15)
        if before.poll() is None:  # it is the agent again
            agent.earlier.remove(before)
            agent.process = before
        else:
            agent.start()
        self.assertEqual(agent.get(host="alice.web.localhost")[0], 200)
        download.join(DEADLINE)

    def test_an_end_of_the_old_agent_in_the_middle_is_the_end_of_it(self):
        agent = self.agent()
        for delay in (0, 0.02, 0.05, 0.1):
            old, process = agent.process, self.begin(agent)
            wait_for(lambda: f"pid {process.pid} asks to take over" in self.log(agent), "it to ask", pause=0.001)
            time.sleep(delay)
            old.terminate()
            # Which of both it was need not be decided yet.
            wait_for(lambda: process.poll() is not None or self.has_passed_to(agent, process), "one of both to go on")
            if self.has_passed_to(agent, process):
                agent.earlier.append(old)
                agent.process = process
                wait_for(lambda: self.served_by(agent, process.pid), "the new agent")
                continue
            old.wait(DEADLINE)
            self.assertEqual(process.returncode, 1, self.log(agent)[-2000:])
            agent.start()
        self.assertEqual(agent.json("inspect", "alice")["generation"], 1)
        self.assertEqual(agent.get(host="alice.web.localhost")[0], 200)

    def test_kills_of_the_new_agent_at_any_moment_fail_no_request(self):
        agent = self.agent()
        names = ["web/alice"] + [f"web/i{n}" for n in range(3)]
        kills.get_all(agent, names)
        before = audit.identity(agent)
        chance = random.Random(4)
        with Load(agent, self.address) as load:
            for _ in range(12):
                process = self.begin(agent)
                wait_for(lambda: f"pid {process.pid} asks to take over" in self.log(agent), "it to ask", pause=0.001)
                time.sleep(chance.uniform(0, 0.12))
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.05)
                if self.has_passed_to(agent, process):
                    process.send_signal(signal.SIGCONT)
                    agent.earlier.append(agent.process)
                    agent.process = process
                    wait_for(lambda: self.served_by(agent, process.pid), "the new agent")
                    continue
                process.kill()
                process.wait()
                load.until_all_answered()
        self.assertEqual(load.failures(), [])
        wait_for(lambda: self.served_by(agent, agent.process.pid), "the agent")
        kills.assert_same(before, audit.identity(agent))
        kills.assert_all_served(agent, names)
        audit.assert_clean(agent, processes_each=1)

    def test_a_new_agent_that_dies_after_the_commit_but_before_it_serves_has_the_old_one_start_again(self):
        agent = self.agent()
        agent.ctr("get", "bob")
        agent.ctr("stop", "bob")
        before = audit.identity(agent)
        for _ in range(10):
            process = self.begin(agent)
            wait_for(lambda: self.has_passed_to(agent, process), "the commit", pause=0.0005)
            process.kill()
            process.wait()
            if f"ctr-agent" in self.log(agent).split(f"handed over to pid {process.pid}\n")[1].split("\n")[0]:
                self.assertEqual(agent.process.wait(15), 0)  # it was quicker than the kill
                agent.start()
                continue
            wait_for(lambda: self.served_by(agent, agent.process.pid), "the old agent, anew")
            break
        self.assertEqual(agent.get(host="alice.web.localhost")[0], 200)
        self.assertEqual(agent.get(host="bob.web.localhost")[0], 200)
        self.assertEqual(audit.identity(agent)["web/alice"], before["web/alice"])
        self.take_over(agent)

    def test_kills_of_the_old_agent_at_any_moment_lose_no_instance(self):
        agent = self.agent()
        names = ["web/alice"] + [f"web/i{n}" for n in range(3)]
        kills.get_all(agent, names)
        before = audit.identity(agent)
        chance = random.Random(5)
        with IngressLoad(agent, names) as load:
            for _ in range(10):
                old, process = agent.process, self.begin(agent)
                agent.earlier.append(old)
                agent.process = process
                wait_for(lambda: f"pid {process.pid} asks to take over" in self.log(agent), "it to ask", pause=0.001)
                time.sleep(chance.uniform(0, 0.15))
                old.kill()
                old.wait()
                try:
                    wait_for(lambda: process.poll() is not None or self.served_by(agent, process.pid), "an agent")
                finally:
                    if process.poll() is not None:
                        agent.start()
        load.assert_right()
        kills.assert_same(before, audit.identity(agent))
        kills.assert_all_served(agent, names)
        audit.assert_clean(agent, processes_each=1)

    def test_the_service_manager_follows_to_the_new_agent(self):
        agent = self.agent(kind=ManagedAgent)
        kept = agent.store.names()
        with Load(agent, self.address) as load:
            load.until_all_answered()
            agent.store.states.clear()
            before = self.take_over(agent)
            wait_for(lambda: "READY=1" in agent.store.states, "READY=1")
            self.assertEqual(agent.store.states, [f"MAINPID={agent.process.pid}", "READY=1"])
            load.until_all_answered()
            self.assertEqual(before.wait(15), 0)
            self.assertEqual(agent.store.names(), kept)
            self.assertEqual(agent.store.unheard, [])
            self.assertEqual(agent.stop(), 0)  # and what the store has is of use to the next one
            agent.start()
            load.until_all_answered()
        self.assertEqual(load.failures(), [])

    def test_a_reload_starts_the_new_agent_and_says_how_it_went(self):
        agent = self.agent(kind=ManagedAgent)
        before = agent.process
        reload = [BIN + "/ctr-agent", *agent.flags, "--reload"]
        with Load(agent, self.address) as load:
            load.until_all_answered()
            subprocess.run(reload, check=True, timeout=DEADLINE)
            load.until_all_answered()
            self.assertEqual(before.wait(15), 0)
            successor = agent.store.main
            self.assertEqual(agent.json("info")["pid"], successor)
            # Or systemd would not wait for its end: after a reload, a stop was a SIGTERM and a SIGKILL at once.
            self.assertNotIn(before.pid, agent.store.parents)
            config = agent.root + "/agent.toml"
            os.rename(config, config + ".right")
            with open(config, "w") as file:
                file.write("nonsense = 1\n")
            failed = subprocess.run([BIN + "/ctr-agent", *agent.flags[:-2], "--reload"], capture_output=True, text=True,
                                    timeout=DEADLINE)
            os.rename(config + ".right", config)
            self.assertEqual(failed.returncode, 1)
            self.assertIn("ended before it could take over", failed.stderr)
            self.assertEqual(agent.json("info")["pid"], successor)
            load.until_all_answered()
        self.assertEqual(load.failures(), [])
        os.kill(successor, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{successor}"), "the agent's end")

    def test_a_reload_of_an_idle_agent_is_answered(self):
        agent = self.agent(kind=ManagedAgent)
        for _ in range(5):
            old = agent.store.main
            subprocess.run([BIN + "/ctr-agent", *agent.flags, "--reload"], check=True, timeout=DEADLINE)
            wait_for(lambda: not os.path.exists(f"/proc/{old}") or
                     " Z " in read(f"/proc/{old}/stat"), "the old one's end")
        agent.process.wait()
        self.assertEqual(agent.json("info")["pid"], agent.store.main)
        os.kill(agent.store.main, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{agent.store.main}"), "the agent's end")

    def test_execs_and_runs_end_in_the_old_agent_and_followers_are_told(self):
        agent = self.agent()
        agent.apply('name = "job"\nimage = "demo:latest"\n')
        agent.apply(NAP)
        agent.ctr("get", "nap/one")
        script = "echo begun; sleep 4; echo done"

        def call(*words):
            return subprocess.Popen([BIN + "/ctr", "--host", agent.socket, *words], stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, text=True)

        calls = [call(*words, "--", "/bin/sh", "-c", script) for words in (("exec", "nap/one"), ("run", "job/j"))]
        for each in calls:
            self.assertEqual(each.stdout.readline(), "begun\n")
        follower = call("logs", "-f", "web/alice")
        waiting = call("wait", "web/alice", "--for", "stopped")
        time.sleep(0.5)
        before = self.take_over(agent)
        self.assertEqual(follower.wait(DEADLINE), 5)
        self.assertIn("stop", follower.communicate()[1])
        for each in calls:
            output, error = each.communicate(timeout=DEADLINE)
            self.assertEqual((each.returncode, output), (0, "done\n"), error)
        self.assertEqual(agent.json("inspect", "nap/one")["generation"], 1)
        self.assertEqual(before.wait(15), 0)
        wait_for(lambda: agent.json("inspect", "job/j")["exit_code"] == 0, "the new agent to know of the job's end")
        self.assertIsNone(waiting.poll())  # it has asked the new agent
        agent.ctr("stop", "web/alice")
        self.assertEqual(waiting.wait(DEADLINE), 0, waiting.communicate())
        waiting.communicate()

    def test_containerd_is_watched_by_exactly_one(self):
        agent = self.agent('drain = "20s"\n')
        download = Download(agent, "alice.web.localhost", 8)
        wait_for(lambda: agent.json("inspect", "alice")["in_flight"] == 1, "the download")
        before = self.take_over(agent)
        pid = kills.containerd_pid(agent)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: kills.containerd_pid(agent) != pid and kills.answers(agent), "another containerd", pause=0.02)
        self.assertEqual(self.log(agent).count("containerd has ended; starting it again"), 1)
        agent.ctr("get", "bob")
        download.join(DEADLINE)
        self.assertEqual(download.outcome, (200, 8))
        self.assertEqual(before.wait(15), 0)

    def test_without_a_running_agent_it_just_starts(self):
        agent = self.agent()
        self.assertEqual(agent.stop(), 0)
        agent.process = self.begin(agent)
        wait_for(lambda: self.served_by(agent, agent.process.pid), "the agent")
        self.assertIn("there is no agent to take over from", self.log(agent))

    def test_an_agent_that_cannot_hand_over_is_named(self):
        agent = self.agent()
        os.unlink(agent.run + "/takeover.sock")  # as of an earlier version
        refused = subprocess.run([BIN + "/ctr-agent", *agent.flags, "--takeover"], capture_output=True, text=True,
                                 timeout=DEADLINE)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(f"does not know how to hand over", refused.stderr)
        self.assertIn(f"another ctr-agent (pid {agent.process.pid})", refused.stderr)
        self.assertEqual(agent.get(host="alice.web.localhost")[0], 200)


if __name__ == "__main__":
    unittest.main()
