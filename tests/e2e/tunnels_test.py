"""Connections that carry bytes: TCP ports, and what an Upgrade switches to. From outside, with real sockets."""

import hashlib
import os
import socket
import struct
import threading
import time
import unittest

from harness import DEADLINE, Case, wait_for

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


def receive(sock, size=None):
    """So many bytes, or all until the end."""
    parts, left = [], size
    while left is None or left > 0:
        part = sock.recv(65536 if left is None else min(left, 65536))
        if not part:
            break
        parts.append(part)
        left = None if left is None else left - len(part)
    return b"".join(parts)


def frame(opcode, payload, final=True):
    """A WebSocket frame of a client (RFC 6455, 5.2)."""
    size = len(payload)
    head = bytes([(0x80 if final else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload  # a mask that changes nothing


class Tunnels(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply(TCP)
        cls.agent.apply('name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "1s"\n')

    def connect(self, id, class_name="tcp"):
        self.agent.ctr("get", f"{class_name}/{id}", "--no-start")
        address = self.agent.json("inspect", f"{class_name}/{id}")["address"]
        return socket.create_connection((address, 8080), timeout=DEADLINE)

    def state(self, id):
        return self.agent.json("inspect", id)["state"]

    def upgrade(self, id):
        sock = self.connect(id, "web")
        sock.sendall(b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)
        return sock

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

    def test_websocket_frames_go_through_exactly_also_when_they_wake(self):
        frames = [frame(1, "grüße".encode()), frame(2, os.urandom(70000)), frame(1, b"a", final=False), frame(0, b"b"),
                  frame(9, b"ping"), frame(10, b"pong"), frame(2, os.urandom(16 << 20)), frame(8, struct.pack("!H", 4999) + b"why")]
        with self.upgrade("frames") as sock:
            for each in frames:
                sender = threading.Thread(target=sock.sendall, args=(each,))
                sender.start()
                self.assertEqual(receive(sock, len(each)), each)
                sender.join()
            for byte in frame(1, b"one by one"):
                sock.sendall(bytes([byte]))
                self.assertEqual(sock.recv(1), bytes([byte]))
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(receive(sock), b"")

    def test_a_websocket_is_in_flight_but_idle_it_lets_the_instance_sleep(self):
        with self.upgrade("ws") as sock:
            self.assertEqual(self.agent.json("inspect", "web/ws")["in_flight"], 1)
            for _ in range(5):
                sock.sendall(b"x")
                self.assertEqual(receive(sock, 1), b"x")
                time.sleep(0.4)
            self.assertEqual(self.state("web/ws"), "healthy")
            wait_for(lambda: self.state("web/ws") == "stopped", "sleep")
            self.assertEqual(sock.recv(1), b"")


if __name__ == "__main__":
    unittest.main()
