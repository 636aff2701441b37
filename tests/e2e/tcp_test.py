"""TCP ports, from outside, with real sockets at both ends."""

import contextlib
import hashlib
import os
import re
import socket
import threading
import time
import unittest

from harness import DEADLINE, Agent, Case, read, wait_for
from sockets import listen_inside, receive, reset, sending

TCP = """
name = "tcp"
image = "demo:latest"
default_port = 8080
default_protocol = "tcp"
env = { ECHO = "1" }
max_instances = 100
sleep_after = "1s"
stop_grace = "2s"
"""

# Behind port 9000 is what the test itself does there.
TWO = """
name = "two"
image = "demo:latest"
default_port = 8080
sleep_after = "never"
drain = "3s"
[[port]]
port = 9000
protocol = "tcp"
"""


def resident(pid):
    """KiB."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", read(f"/proc/{pid}/status"))[1])


class Tcp(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply(TCP)
        cls.agent.apply(TWO)

    def connect(self, id, class_name="tcp"):
        self.agent.ctr("get", f"{class_name}/{id}", "--no-start")
        address = self.agent.json("inspect", f"{class_name}/{id}")["address"]
        return socket.create_connection((address, 8080), timeout=DEADLINE)

    def state(self, id):
        return self.agent.json("inspect", id)["state"]

    @contextlib.contextmanager
    def pairs(self, id, count=1):
        """The two ends of so many connections: [(the client's, the program's)]."""
        self.agent.ctr("get", f"two/{id}")
        instance = self.agent.json("inspect", f"two/{id}")
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(listen_inside(instance["pid"], 9000))
            found = []
            for _ in range(count):
                client = stack.enter_context(socket.create_connection((instance["address"], 9000), timeout=DEADLINE))
                server = stack.enter_context(listener.accept()[0])
                server.settimeout(DEADLINE)
                found.append((client, server))
            yield found

    @contextlib.contextmanager
    def pair(self, id):
        with self.pairs(id) as found:
            yield found[0]

    def test_get_prints_the_address_of_a_tcp_port(self):
        url = self.agent.ctr("get", "tcp/printed")
        self.assertEqual(url, f"tcp://{self.agent.ctr('get', 'tcp/printed', '--address')}:8080")

    def test_a_connection_wakes_its_instance_and_bytes_go_both_ways_exactly(self):
        sent = os.urandom(32 << 20)
        with self.connect("wakes") as sock:
            sender = threading.Thread(target=lambda: (sock.sendall(sent), sock.shutdown(socket.SHUT_WR)))
            sender.start()
            received = receive(sock)
            sender.join()
        self.assertEqual(hashlib.sha256(received).digest(), hashlib.sha256(sent).digest())
        self.assertEqual(self.agent.json("inspect", "tcp/wakes")["generation"], 1)

    def test_fifty_connections_at_once_are_one_start(self):
        self.agent.ctr("get", "tcp/many", "--no-start")
        address = self.agent.json("inspect", "tcp/many")["address"]
        answers = []

        def ask():
            with socket.create_connection((address, 8080), timeout=DEADLINE) as sock:
                sock.sendall(b"hello")
                answers.append(receive(sock, 5))

        threads = [threading.Thread(target=ask) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, [b"hello"] * 50)
        self.assertEqual(self.agent.json("inspect", "tcp/many")["generation"], 1)

    def test_an_idle_connection_lets_the_instance_sleep_and_its_bytes_do_not(self):
        with self.connect("idle") as sock:
            for _ in range(8):
                sock.sendall(b"x")
                self.assertEqual(receive(sock, 1), b"x")
                time.sleep(0.3)
            self.assertEqual(self.state("tcp/idle"), "healthy")
            wait_for(lambda: self.state("tcp/idle") == "stopped", "sleep")
            self.assertEqual(self.agent.json("inspect", "tcp/idle")["reason"], "slept")
            self.assertEqual(sock.recv(1), b"")  # it is over, and told so
        with self.connect("idle") as sock:
            sock.sendall(b"again")
            self.assertEqual(receive(sock, 5), b"again")

    def test_tcp_idle_keeps_an_instance_awake_for_an_idle_connection(self):
        self.agent.apply(TCP.replace('"tcp"\nimage', '"patient"\nimage') + 'tcp_idle = "4s"\n')
        with self.connect("a", "patient") as sock:
            sock.sendall(b"x")
            self.assertEqual(receive(sock, 1), b"x")
            time.sleep(2.5)
            self.assertEqual(self.state("patient/a"), "healthy")
            wait_for(lambda: self.state("patient/a") == "stopped", "sleep")

    def test_a_stop_is_not_held_up_by_an_idle_connection(self):
        with self.connect("stopped") as sock:
            sock.sendall(b"x")
            self.assertEqual(receive(sock, 1), b"x")
            time.sleep(1)
            began = time.monotonic()
            self.agent.ctr("stop", "tcp/stopped")
            self.assertLess(time.monotonic() - began, 10)  # drain is 30 s
            self.assertEqual(sock.recv(1), b"")

    def test_a_class_address_takes_each_connection_to_one_of_the_pool(self):
        address = self.agent.json("class", "show", "tcp")["address"]
        for _ in range(12):
            with socket.create_connection((address, 8080), timeout=DEADLINE) as sock:
                sock.sendall(b"pool")
                self.assertEqual(receive(sock, 4), b"pool")
        pool = [instance["id"] for instance in self.agent.json("ls", "-a", "-c", "tcp") if instance["id"].startswith("instance-")]
        self.assertGreater(len(pool), 1)

    def test_a_connection_whose_wake_fails_is_reset_and_the_event_says_why(self):
        self.agent.apply('name = "broken"\nimage = "demo:latest"\ndefault_port = 8080\ndefault_protocol = "tcp"\n'
                         'entrypoint = ["/bin/false"]\nrestart = "never"\n')
        with self.connect("b", "broken") as sock:
            with self.assertRaises(ConnectionResetError):
                sock.recv(1)
        wait_for(lambda: "a connection from 127.0.0.1" in self.agent.ctr("events", "broken/b"), "the refusal")

    def test_an_http_request_for_a_tcp_port_is_refused_by_name(self):
        status, headers, body = self.agent.get("/", host="instance-0.tcp.localhost")
        self.assertEqual((status, headers["Ctr-Error"]), (400, "bad_request"))
        self.assertIn(b"speaks tcp", body)

    def test_a_header_that_names_a_tcp_port_is_refused_by_name(self):
        status, headers, body = self.agent.get("/", headers={"Ctr-Instance": "two/a", "Ctr-Port": "9000"})
        self.assertEqual((status, headers["Ctr-Error"]), (400, "bad_request"))
        self.assertIn(b"speaks tcp", body)

    def test_each_end_may_end_before_the_other(self):
        for first, second in ((0, 1), (1, 0)):
            with self.pair("half") as ends:
                ends[first].sendall(b"that was all")
                ends[first].shutdown(socket.SHUT_WR)
                self.assertEqual(receive(ends[second]), b"that was all")
                for word in (b"not", b"yet"):
                    ends[second].sendall(word)
                    self.assertEqual(receive(ends[first], 3), word)
                ends[second].close()
                self.assertEqual(receive(ends[first]), b"")

    def test_a_reset_of_either_end_is_a_reset_of_the_other(self):
        for first, second in ((0, 1), (1, 0)):
            with self.pair("reset") as ends:
                ends[first].sendall(b"x")
                self.assertEqual(receive(ends[second], 1), b"x")
                reset(ends[first])
                with self.assertRaises(ConnectionResetError):
                    ends[second].recv(1)

    def test_a_hundred_mebibytes_each_way_at_once_arrive_exactly(self):
        up, down = os.urandom(100 << 20), os.urandom(100 << 20)
        with self.pair("both") as (client, server):
            received = {}

            def take(name, sock):
                received[name] = hashlib.sha256(receive(sock, 100 << 20)).digest()

            takers = [threading.Thread(target=take, args=each) for each in (("down", client), ("up", server))]
            for taker in takers:
                taker.start()
            with sending(client, up), sending(server, down):
                for taker in takers:
                    taker.join()
        self.assertEqual(received, {"up": hashlib.sha256(up).digest(), "down": hashlib.sha256(down).digest()})

    def test_readers_that_do_not_read_cost_bounded_memory_and_lose_nothing(self):
        with self.pairs("slow", 20) as found:
            before = resident(self.agent.process.pid)
            sent = [0] * len(found)
            for _, server in found:
                server.setblocking(False)

            def fill():
                """Whether any of them still took something."""
                any_sent = False
                for i, (_, server) in enumerate(found):
                    with contextlib.suppress(BlockingIOError):
                        sent[i] += server.send(b"x" * 65536)
                        any_sent = True
                return any_sent

            quiet_since = time.monotonic()
            while time.monotonic() - quiet_since < 0.5:
                if fill():
                    quiet_since = time.monotonic()
            self.assertLess(max(sent), 64 << 20)
            self.assertLess(resident(self.agent.process.pid) - before, 20 * 512)
            for (client, server), size in zip(found, sent):
                server.shutdown(socket.SHUT_WR)
                self.assertEqual(len(receive(client)), size)

    def test_a_stop_gives_a_connection_on_which_bytes_move_the_drain_time(self):
        with self.pair("stopped") as (client, server):
            began = time.monotonic()
            stopper = threading.Thread(target=self.agent.ctr, args=("stop", "two/stopped"))
            stopper.start()
            while time.monotonic() - began < 2.5:
                client.sendall(b"x")
                self.assertEqual(receive(server, 1), b"x")
                time.sleep(0.05)
            client.setblocking(False)
            while time.monotonic() - began < DEADLINE and not has_ended(client):
                time.sleep(0.05)
                with contextlib.suppress(ConnectionError):
                    client.send(b"x")
            stopper.join(DEADLINE)
            self.assertGreater(time.monotonic() - began, 2.9)
            self.assertLess(time.monotonic() - began, 15)
        self.assertEqual(self.state("two/stopped"), "stopped")


def has_ended(sock):
    """Of one that does not block."""
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


class PlannedStop(unittest.TestCase):
    """What becomes of connections when the agent itself is stopped, or dies."""

    def setUp(self):
        self.agent = Agent().start()
        self.addCleanup(self.agent.purge)
        self.agent.import_demo()
        self.agent.apply(TWO)
        self.agent.ctr("get", "two/a")
        self.instance = self.agent.json("inspect", "two/a")
        self.listener = listen_inside(self.instance["pid"], 9000)
        self.addCleanup(self.listener.close)

    def connect(self):
        client = socket.create_connection((self.instance["address"], 9000), timeout=DEADLINE)
        self.addCleanup(client.close)
        server = self.listener.accept()[0]
        self.addCleanup(server.close)
        server.settimeout(DEADLINE)
        return client, server

    def test_it_waits_for_what_may_still_be_answered_and_not_for_what_is_quiet(self):
        quiet, at_quiet = self.connect()
        asks, at_asks = self.connect()
        at_quiet.sendall(b"ready")
        self.assertEqual(receive(quiet, 5), b"ready")
        asks.sendall(b"question")
        self.assertEqual(receive(at_asks, 8), b"question")
        began = time.monotonic()
        self.agent.process.terminate()
        self.assertEqual(receive(quiet), b"")
        self.assertLess(time.monotonic() - began, 10)
        time.sleep(2)
        self.assertIsNone(self.agent.process.poll())
        at_asks.sendall(b"answer")
        at_asks.close()
        self.assertEqual(receive(asks), b"answer")
        asks.close()
        self.assertEqual(self.agent.process.wait(DEADLINE), 0)
        self.assertLess(time.monotonic() - began, 25)  # its drain is 30 s

    def test_after_a_kill_the_next_agent_passes_on_to_the_same_instance(self):
        client, server = self.connect()
        client.sendall(b"before")
        self.assertEqual(receive(server, 6), b"before")
        self.agent.kill()
        with self.assertRaises(ConnectionError):  # the end or a reset: never silence
            if receive(client) == b"":
                raise ConnectionError
        self.agent.start()
        client, server = self.connect()
        client.sendall(b"after")
        self.assertEqual(receive(server, 5), b"after")
        self.assertEqual(self.agent.json("inspect", "two/a")["generation"], 1)


if __name__ == "__main__":
    unittest.main()
