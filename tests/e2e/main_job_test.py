"""The main job, from outside: real agent, containerd, runc, curl and sockets."""

import collections
import concurrent.futures
import subprocess
import threading
import time
import unittest

from harness import Case, wait_for

WEB = """
name = "web"
image = "demo:latest"
default_port = 8080
sleep_after = "2s"
max_instances = 50
"""


class MainJob(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        assert cls.agent.apply(WEB) == "class/web created"
        assert cls.agent.apply(WEB) == "class/web unchanged"
        # The only class there is needs no name; the tests below make more.
        assert cls.agent.ctr("get", "first", "--no-start").startswith("http://")
        cls.agent.environment["CTR_CLASS"] = "web"

    def state(self, id):
        return self.agent.json("inspect", id)["state"]

    def test_get_prints_a_url_that_curl_reaches(self):
        url = self.agent.ctr("get", "alice")
        self.assertRegex(url, r"^http://127\.\d+\.\d+\.\d+:8080$")
        answer = subprocess.run(["curl", "-sS", "--max-time", "30", url], capture_output=True, text=True, check=True)
        self.assertIn("alice", answer.stdout)
        self.assertEqual(self.agent.ctr("get", "alice", "--address"), url.removeprefix("http://").removesuffix(":8080"))

    def test_an_idle_instance_sleeps_and_the_next_request_wakes_it(self):
        url = self.agent.ctr("get", "sleepy")
        self.assertEqual(self.agent.ctr("wait", "sleepy", "--for", "stopped"), "0")
        shown = self.agent.json("inspect", "sleepy")
        self.assertEqual((shown["state"], shown["reason"]), ("stopped", "slept"))
        address = url.removeprefix("http://").split(":")[0]
        status, headers, body = self.agent.get(address=address, port=8080)
        self.assertEqual(status, 200)
        self.assertIn(b"sleepy", body)
        self.assertRegex(headers["Server-Timing"], r"wake;dur=[\d.]+")
        self.assertEqual(self.agent.json("inspect", "sleepy")["generation"], 2)

    def test_a_response_longer_than_sleep_after_arrives_whole(self):
        self.agent.ctr("get", "busy")
        status, _, body = self.agent.get("/slow/5", host="busy.web.localhost")
        self.assertEqual(status, 200)
        self.assertTrue(body.endswith(b"5000 ms\n"), body[-100:])
        self.assertEqual(self.agent.json("inspect", "busy")["generation"], 1)

    def test_two_hundred_requests_to_a_sleeping_id_are_all_answered_by_one_start(self):
        self.agent.ctr("get", "popular")
        self.agent.ctr("stop", "popular")
        before = self.agent.json("inspect", "popular")["generation"]
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(lambda _: self.agent.get(host="popular.web.localhost"), range(200)))
        self.assertEqual({status for status, _, _ in answers}, {200})
        self.assertEqual(self.agent.json("inspect", "popular")["generation"], before + 1)

    def test_a_request_that_arrives_during_a_stop_waits_and_starts_it_again(self):
        self.agent.apply(WEB.replace('"web"', '"stubborn"') + 'stop_grace = "2s"\nenv = { IGNORE_TERM = "1" }\n')
        self.agent.ctr("get", "stubborn/a")
        self.agent.ctr("stop", "stubborn/a", "--no-wait")
        self.agent.ctr("wait", "stubborn/a", "--for", "stopping")
        status, _, _ = self.agent.get(host="a.stubborn.localhost")
        self.assertEqual(status, 200)
        self.assertEqual(self.agent.json("inspect", "stubborn/a")["generation"], 2)

    def test_a_process_that_ignores_the_stop_signal_is_killed_after_the_grace(self):
        self.agent.apply(WEB.replace('"web"', '"deaf"') + 'env = { IGNORE_TERM = "1" }\n')
        self.agent.ctr("get", "deaf/a")
        self.agent.ctr("stop", "deaf/a", "-t", "100ms")
        self.assertEqual(self.agent.json("inspect", "deaf/a")["exit_code"], 137)

    def test_random_routing_names_each_of_its_three_instances(self):
        self.agent.apply(WEB.replace('"web"', '"pool"').replace('"2s"', '"1h"'))
        urls = collections.Counter(self.agent.ctr("route", "pool", "--random=3") for _ in range(60))
        self.assertEqual(len(urls), 3)
        address = self.agent.json("class", "show", "pool")["address"]
        bodies = collections.Counter()
        for _ in range(300):
            status, headers, _ = self.agent.get(address=address, port=8080)
            self.assertEqual(status, 200)
            bodies[headers["Ctr-Instance"]] += 1
        self.assertEqual(set(bodies), {f"pool/instance-{i}" for i in range(3)})
        # 300 draws of probability 1/3: 70 … 130 is 3.7 standard deviations on each side.
        self.assertTrue(all(70 <= count <= 130 for count in bodies.values()), bodies)
        by_name = {self.agent.get(host="pool.localhost")[1]["Ctr-Instance"] for _ in range(60)}
        self.assertEqual(len(by_name), 3)

    def test_an_instance_is_reached_by_name_by_header_and_by_address(self):
        url = self.agent.ctr("get", "web/hana")
        address = url.removeprefix("http://").split(":")[0]
        for answer in (self.agent.get(host="hana.web.localhost"),
                       self.agent.get(headers={"Ctr-Instance": "web/hana"}),
                       self.agent.get(address=address, port=8080)):
            self.assertEqual(answer[0], 200)
            self.assertIn(b"hana", answer[2])
            self.assertEqual(answer[1]["Ctr-Instance"], "web/hana")

    def test_an_undeclared_port_of_an_address_is_refused(self):
        address = self.agent.ctr("get", "iris", "--address")
        with self.assertRaises(ConnectionRefusedError):
            self.agent.get(address=address, port=8081)

    def test_manual_start_starts_by_ctr_start_alone(self):
        self.agent.apply(WEB.replace('"web"', '"manual"') + "manual_start = true\n")
        self.agent.ctr("get", "manual/m")
        self.assertEqual(self.state("manual/m"), "stopped")
        status, headers, _ = self.agent.get(host="m.manual.localhost")
        self.assertEqual((status, headers["Ctr-Error"]), (409, "manual_start"))
        self.assertEqual(self.agent.ctr("start", "manual/m"), "manual/m")
        self.assertEqual(self.agent.get(host="m.manual.localhost")[0], 200)

    def test_create_by_request_makes_new_ids_and_a_destroyed_id_is_unknown_again(self):
        self.agent.apply(WEB.replace('"web"', '"open"') + 'create = "request"\n')
        self.assertEqual(self.agent.get(host="new.open.localhost")[0], 200)
        self.assertEqual(self.agent.get(host="new.web.localhost")[0], 404)
        self.agent.ctr("get", "gone")
        self.agent.ctr("destroy", "gone")
        status, headers, _ = self.agent.get(host="gone.web.localhost")
        self.assertEqual((status, headers["Ctr-Error"]), (404, "unknown_instance"))
        self.assertEqual(self.agent.ctr("inspect", "gone", check=False).returncode, 3)

    def test_max_instances_is_said_with_retry_after_and_exit_status_4(self):
        self.agent.apply(WEB.replace('"web"', '"small"').replace("50", "1").replace('"2s"', '"1h"') +
                         "[route]\ninstances = 1\n")
        self.agent.ctr("get", "small/one")
        self.assertExit(self.agent.ctr("get", "small/two", check=False), 4, "max_instances")
        status, headers, _ = self.agent.get(host="two.small.localhost")
        self.assertEqual((status, headers["Ctr-Error"]), (503, "max_instances"))
        self.assertIn("Retry-After", headers)

    def test_renew_restarts_the_idle_timer(self):
        self.agent.ctr("get", "renewed")
        end = time.monotonic() + 4
        while time.monotonic() < end:
            self.agent.ctr("renew", "renewed")
        self.assertEqual(self.agent.json("inspect", "renewed")["generation"], 1)

    def test_a_request_body_comes_back_byte_for_byte(self):
        self.agent.ctr("get", "echo")
        body = bytes(range(256)) * 4096
        status, _, echoed = self.agent.get("/echo", host="echo.web.localhost", method="POST", body=body)
        self.assertEqual(status, 200)
        self.assertIn(body, echoed)

    def test_an_instance_runs_hardened(self):
        self.agent.apply('name = "probe"\nimage = "demo:latest"\nentrypoint = ["/bin/sh", "-c", '
                         '"cat /proc/self/status; exit 5"]\n')
        self.agent.ctr("get", "probe/p")
        self.assertEqual(self.agent.ctr("wait", "probe/p", "--for", "stopped"), "5")
        lines = self.agent.ctr("logs", "probe/p").splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        self.assertEqual(status["CapEff"].strip(), "00000000800405fb")
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        self.assertEqual(status["Seccomp"].strip(), "2")

    def test_ls_shows_the_live_and_with_a_the_stopped(self):
        self.agent.ctr("get", "lively")
        self.agent.ctr("get", "tired")
        self.agent.ctr("stop", "tired")
        self.agent.ctr("renew", "lively")
        live = self.agent.ctr("ls", "-q").splitlines()
        self.assertIn("web/lively", live)
        self.assertNotIn("web/tired", live)
        everything = {f"{i['class']}/{i['id']}": i for i in self.agent.json("ls", "-a")}
        self.assertEqual(everything["web/tired"]["reason"], "requested")

    def test_restart_takes_the_new_class_and_settings_are_kept_with_the_id(self):
        self.agent.apply(WEB.replace('"web"', '"versioned"').replace('"2s"', '"1h"') + 'env = { V = "one" }\n')
        self.agent.ctr("start", "versioned/v", "-e", "MINE=kept")
        self.agent.apply(WEB.replace('"web"', '"versioned"').replace('"2s"', '"1h"') + 'env = { V = "two" }\n')
        self.assertIn(b"V=one", self.agent.get("/env", host="v.versioned.localhost")[2])
        self.agent.ctr("restart", "versioned/v")
        environment = self.agent.get("/env", host="v.versioned.localhost")[2]
        self.assertIn(b"V=two", environment)
        self.assertIn(b"MINE=kept", environment)
        self.assertExit(self.agent.ctr("start", "versioned/v", "-e", "MINE=other", check=False), 4, "versioned/v")

    def test_a_held_client_that_goes_away_leaves_nothing_in_flight(self):
        self.agent.apply(WEB.replace('"web"', '"late"') + 'env = { LISTEN_DELAY_MS = "1000" }\n')
        self.agent.ctr("get", "late/l", "--no-start")
        threads = []
        for _ in range(5):
            def give_up():
                try:
                    self.agent.get(host="l.late.localhost", timeout=0.2)
                except OSError:
                    pass
            threads.append(threading.Thread(target=give_up))
            threads[-1].start()
        for thread in threads:
            thread.join()
        self.agent.ctr("wait", "late/l", "--for", "healthy")
        wait_for(lambda: self.agent.json("inspect", "late/l")["in_flight"] == 0, "nothing in flight")


if __name__ == "__main__":
    unittest.main()
