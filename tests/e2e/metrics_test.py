"""What the agent tells of its traffic: /metrics and the access log."""

import http.client
import json
import os
import re
import socket
import unittest

from harness import Agent, free_port, wait_for


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.agent = Agent()
        cls.addClassCleanup(cls.agent.purge)
        cls.port, cls.log = free_port(), cls.agent.root + "/access.log"
        with open(cls.agent.root + "/agent.toml", "w") as file:
            file.write(f'metrics = "127.0.0.1:{cls.port}"\naccess_log = "{cls.log}"\n')
        cls.agent.flags += ["--config", cls.agent.root + "/agent.toml"]
        cls.agent.start()
        cls.agent.import_demo()
        cls.agent.apply('name = "web"\nimage = "demo:latest"\ndefault_port = 8080\n')

    def scrape(self, path="/metrics", method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def value(self, name, **labels):
        """Of one metric; its labels may be in any order."""
        for line in self.scrape()[1].splitlines():
            match = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line)
            if match and match[1] == name and dict(re.findall(r'(\w+)="([^"]*)"', match[2])) == labels:
                return float(match[3])
        return None

    def entries(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log) as file:
            return [json.loads(line) for line in file]

    def test_requests_are_counted_by_status_and_timed(self):
        before = self.value("ctr_requests_total", **{"class": "web", "status": "2xx"})
        self.agent.ctr("get", "counted")
        for _ in range(5):
            self.assertEqual(self.agent.get("/bytes/1000", host="counted.web.localhost")[0], 200)
        self.assertEqual(self.agent.get("/status/404", host="counted.web.localhost")[0], 404)
        self.assertEqual(self.value("ctr_requests_total", **{"class": "web", "status": "2xx"}), before + 5)
        self.assertGreaterEqual(self.value("ctr_requests_total", **{"class": "web", "status": "4xx"}), 1)
        self.assertGreaterEqual(self.value("ctr_request_duration_seconds_count", **{"class": "web"}), 6)
        self.assertGreaterEqual(self.value("ctr_bytes_total", **{"class": "web", "direction": "out"}), 5000)
        self.assertEqual(self.value("ctr_in_flight", **{"class": "web"}), 0)

    def test_wakes_have_their_phases(self):
        self.agent.ctr("get", "woken", "--no-start")
        before = self.value("ctr_wake_duration_seconds_count", **{"class": "web", "phase": "total"})
        self.assertEqual(self.agent.get("/", host="woken.web.localhost")[0], 200)
        total = self.value("ctr_wake_duration_seconds_sum", **{"class": "web", "phase": "total"})
        self.assertEqual(self.value("ctr_wake_duration_seconds_count", **{"class": "web", "phase": "total"}), before + 1)
        parts = sum(self.value("ctr_wake_duration_seconds_sum", **{"class": "web", "phase": phase})
                    for phase in ("queue", "create", "start", "ready"))
        self.assertAlmostEqual(parts, total, places=3)
        self.assertGreaterEqual(self.value("ctr_instances", **{"class": "web", "state": "healthy"}), 1)

    def test_other_paths_and_garbage_are_refused(self):
        self.assertEqual(self.scrape("/")[0], 404)
        self.assertEqual(self.scrape(method="POST")[0], 405)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall(b"garbage\r\n\r\n")
            self.assertTrue(sock.recv(100).startswith(b"HTTP/1.1 400 "))

    def test_the_access_log_has_a_line_for_each_request_and_refusal(self):
        self.agent.ctr("get", "logged")
        self.agent.get("/?logged", host="logged.web.localhost")
        self.agent.get("/nobody", host="x.nosuch.localhost")
        wait_for(lambda: len([e for e in self.entries() if "logged" in e["target"] or e["target"] == "/nobody"]) == 2, "lines")
        answered = next(e for e in self.entries() if "logged" in e["target"])
        self.assertEqual((answered["method"], answered["status"], answered["class"], answered["id"], answered["client"]),
                         ("GET", 200, "web", "logged", "127.0.0.1"))
        self.assertGreater(answered["bytes_out"], 10)
        refused = next(e for e in self.entries() if e["target"] == "/nobody")
        self.assertEqual((refused["status"], refused["error"]), (404, "unknown_class"))


if __name__ == "__main__":
    unittest.main()
