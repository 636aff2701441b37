"""What hostile clients and hostile instances send reaches nobody but as what it is (the cases are in tests/smuggling)."""

import ctypes
import fcntl
import os
import socket
import struct
import sys
import termios
import threading
import time
import unittest
from pathlib import Path

from harness import Case, read, wait_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "smuggling"))
import drive  # noqa: E402
import request_cases  # noqa: E402
import response_cases  # noqa: E402
import wire  # noqa: E402

CLASS = """name = "smuggle"
image = "demo:latest"
default_port = 80
required_ports = []
entrypoint = ["/bin/sleep", "1000000"]
sleep_after = "never"
"""
HOST = "x.smuggle.localhost"
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def listen_inside(pid, port):
    """A listening socket in the network namespace of a process."""
    with open("/proc/thread-self/ns/net") as home, open(f"/proc/{pid}/ns/net") as there:
        if LIBC.setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            return socket.create_server(("0.0.0.0", port), backlog=100)
        finally:
            if LIBC.setns(home.fileno(), CLONE_NEWNET) != 0:
                os._exit(1)  # nothing may go on in the wrong namespace


class Upstream:
    """Stands in an instance's place, and keeps every byte that comes."""

    def __init__(self, pid):
        self.requests = []  # wire.Request, in the order in which they were whole
        self.problems = []
        self.answers = {}  # by target: the parts of a response case, and an event that is set when they are sent
        self.listener = listen_inside(pid, 80)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        data = b""
        with connection:
            while True:
                try:
                    more = connection.recv(65536)
                except ConnectionError:
                    return
                if not more:
                    return  # in the middle of a request, perhaps: the ingress gave it up
                data += more
                while True:
                    cursor = wire.Cursor(data)
                    try:
                        request = wire.Request(cursor)
                    except wire.Incomplete:
                        break
                    except wire.Malformed as problem:
                        self.problems.append(f"{problem} in {data[:500]!r}")
                        return
                    data = data[cursor.at:]
                    self.requests.append(request)
                    try:
                        if not self.answer(connection, request):
                            return
                    except ConnectionError:
                        return
                    if not data:
                        break

    def answer(self, connection, request):
        parts, sent = self.answers.get(request.target, ([self.echo(request)], threading.Event()))
        try:
            return all(self.send(connection, part) for part in parts)
        finally:
            if request.target in self.answers:
                self.await_taken(connection)
            sent.set()

    @staticmethod
    def await_taken(connection):
        """Until the ingress' end of the connection has all that was sent."""
        wait_for(lambda: struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4)) == (0,), "the kernel",
                 pause=0.001)

    @staticmethod
    def send(connection, part):
        """False if that ends the connection."""
        if part == response_cases.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif isinstance(part, bytes):
            connection.sendall(part)
        elif part != response_cases.CLOSE:
            time.sleep(part)
        return part not in (response_cases.CLOSE, response_cases.RESET)

    @staticmethod
    def echo(request):
        body = drive.echo(request.method, request.target, request.body)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        return head if request.method == "HEAD" else head + body

    def read_of(self, marker):
        return [(each.method, each.target, len(each.body)) for each in self.requests if marker in each.target.split("/")]


class Smuggling(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply(CLASS)
        cls.agent.ctr("get", "smuggle/x")
        cls.upstream = Upstream(cls.pid_of("smuggle"))
        cls.addClassCleanup(cls.upstream.listener.close)

    @classmethod
    def pid_of(cls, class_name):
        agent_id = read(cls.agent.data + "/agent-id").strip()
        for folder, _, files in os.walk("/sys/fs/cgroup"):
            if f"/ctr/{agent_id}/" not in folder or "cgroup.procs" not in files:
                continue
            for pid in read(folder + "/cgroup.procs").split():
                if f"CTR_CLASS={class_name}\0" in read(f"/proc/{pid}/environ"):
                    return int(pid)
        raise AssertionError(f"{class_name} has no process")

    def served(self):
        stats = self.agent.json("stats", "smuggle/x")
        return stats[0]["requests"]

    def test_every_request_case_reaches_the_instance_as_what_it_is(self):
        before, wanted = self.served(), 0
        for index, case in enumerate(request_cases.CASES):
            with self.subTest(case.name):
                self.assertEqual(drive.run_request(self.agent.port, case, f"q{index}", HOST), [])
        for index, case in enumerate(request_cases.CASES):
            with self.subTest(case.name):
                read_of = self.upstream.read_of(f"q{index}")
                self.assertEqual(drive.check_read(case, f"q{index}", HOST, read_of), [])
                wanted += len(read_of) + case.aborted
        self.assertEqual(self.upstream.problems, [])
        self.assertEqual(self.served() - before, wanted)

    def test_after_every_response_case_others_get_their_own(self):
        for index, case in enumerate(response_cases.CASES):
            sent = threading.Event()
            self.upstream.answers[f"/r{index}/case"] = case.parts, sent
            with self.subTest(case.name):
                self.assertEqual(drive.run_response(self.agent.port, case, f"r{index}", HOST, lambda: sent.wait(10)), [])
        self.assertEqual(self.upstream.problems, [])

    def test_an_instance_that_takes_a_bodys_rest_for_a_request_answers_it_to_nobody(self):
        self.agent.apply(CLASS.replace('"smuggle"', '"early"'))
        self.agent.ctr("get", "early/x")
        host = "x.early.localhost"
        smuggled = f"GET /early/smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        head = f"POST /early/1 HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(smuggled)}\r\n\r\n".encode()
        with listen_inside(self.pid_of("early"), 80) as listener, drive.connect(self.agent.port) as client:
            client.sendall(head + smuggled[:1])
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(drive.DEADLINE)
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                response = drive.receive(client, "POST", bytearray(), time.monotonic() + drive.DEADLINE)
                self.assertEqual(response.status, 200)
                client.sendall(smuggled[1:] + f"GET /early/2 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                rest = b""
                try:
                    while more := connection.recv(65536):
                        rest += more
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")
                except ConnectionError:
                    pass  # the ingress has closed it
                self.assertNotIn(b"/early/2", rest)
            connection, _ = listener.accept()
            with connection:
                self.assertIn(b"GET /early/2 ", connection.recv(65536))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")
                response = drive.receive(client, "GET", bytearray(), time.monotonic() + drive.DEADLINE)
                self.assertEqual(response.body, b"mine")


if __name__ == "__main__":
    unittest.main()
