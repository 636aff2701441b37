"""What an Upgrade switches to, WebSockets above all, and HTTP/2 by connection: from outside, with real sockets."""

import os
import socket
import struct
import time
import unittest

from harness import DEADLINE, Case, wait_for
from sockets import receive, sending

UPGRADE = b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


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


def receive_head(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise AssertionError(f"it ended after {head}")
        head += byte
    return head


class WebSockets(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply('name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "1s"\n'
                        'max_concurrency = 3\n')

    def connect(self, id):
        self.agent.ctr("get", f"web/{id}", "--no-start")
        address = self.agent.json("inspect", f"web/{id}")["address"]
        return socket.create_connection((address, 8080), timeout=DEADLINE)

    def state(self, id):
        return self.agent.json("inspect", id)["state"]

    def upgrade(self, id):
        sock = self.connect(id)
        sock.sendall(UPGRADE)
        head = receive_head(sock)
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)
        return sock

    def ask(self, sock, fields, version="1.1", body=b"", path="/echo"):
        """One request on a connection; gives the answer's body."""
        sock.sendall(f"POST {path} HTTP/{version}\r\nHost: x\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = receive_head(sock).decode().lower()
        return receive(sock, int(head.split("content-length: ")[1].split("\r")[0]))

    def test_websocket_frames_go_through_exactly_also_when_they_wake(self):
        frames = [frame(1, "grüße".encode()), frame(2, os.urandom(70000)), frame(1, b"a", final=False), frame(0, b"b"),
                  frame(9, b"ping"), frame(10, b"pong"), frame(2, os.urandom(16 << 20)), frame(8, struct.pack("!H", 4999) + b"why")]
        with self.upgrade("frames") as sock:
            for each in frames:
                with sending(sock, each):
                    self.assertEqual(receive(sock, len(each)), each)
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

    def test_what_a_client_sends_behind_its_upgrade_at_once_comes_first(self):
        early = frame(1, b"early")
        with self.connect("early") as sock:
            sock.sendall(UPGRADE + early)
            receive_head(sock)
            sock.sendall(b"later")
            self.assertEqual(receive(sock, len(early) + 5), early + b"later")

    def test_an_upgrade_by_name_switches_too(self):
        self.agent.ctr("get", "web/named", "--no-start")
        with socket.create_connection(("127.0.0.1", self.agent.port), timeout=DEADLINE) as sock:
            sock.sendall(UPGRADE.replace(b"Host: x", b"Host: named.web.localhost"))
            self.assertIn(b"Ctr-Instance: web/named\r\n", receive_head(sock))
            sock.sendall(b"hello")
            self.assertEqual(receive(sock, 5), b"hello")

    def test_an_upgrade_that_the_instance_ignores_is_an_ordinary_request_body_and_all(self):
        fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        with self.connect("ignores") as sock:
            for body in (b"", b"with a body"):
                seen = self.ask(sock, fields, body=body).lower()
                self.assertIn(b"\r\nupgrade: websocket\r\n", seen)
                self.assertIn(b"\r\nconnection: upgrade\r\n", seen)
                self.assertTrue(seen.endswith(b"\r\n\r\n" + body), seen)

    def test_an_upgrade_to_h2c_or_of_an_old_client_does_not_reach_the_instance(self):
        for fields, version in (("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", "1.1"),
                                ("Connection: Upgrade\r\nUpgrade: websocket\r\n", "1.0"),
                                ("Upgrade: websocket\r\n", "1.1")):
            with self.subTest(fields), self.connect("old") as sock:
                seen = self.ask(sock, fields, version).lower()
                self.assertNotIn(b"upgrade", seen)
                self.assertNotIn(b"http2-settings", seen)

    def test_websockets_count_for_max_concurrency(self):
        sockets = [self.upgrade("counted") for _ in range(3)]
        try:
            status, headers, _ = self.agent.get("/", host="counted.web.localhost")
            self.assertEqual((status, headers["Ctr-Error"]), (503, "overloaded"))
        finally:
            for sock in sockets:
                sock.close()
        wait_for(lambda: self.agent.get("/", host="counted.web.localhost")[0] == 200, "room")

    def test_http2_by_name_is_refused_in_words_and_by_address_passes(self):
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.agent.port), timeout=DEADLINE) as sock:
            sock.sendall(preface)
            answer = receive(sock)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        self.assertIn(b"own address", answer)
        with self.connect("http2") as sock:
            sock.sendall(preface)
            self.assertTrue(receive(sock).startswith(b"HTTP/1.1 400 "))  # the demo's: it knows none either
        self.assertEqual(self.agent.json("inspect", "web/http2")["generation"], 1)


if __name__ == "__main__":
    unittest.main()
