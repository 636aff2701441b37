"""A class that scales itself and routes to the nearest ready instance: from outside, with real traffic."""

import concurrent.futures
import json
import os
import signal
import threading
import time

from audit import processes_of
from floods import resident_mib
from harness import DEADLINE, Case, wait_for

WEB = 'name = "web"\nimage = "demo:latest"\ndefault_port = 8080\n'


class Clients:
    """So many at once, each asking again and again; whatever is no 200 is a failure."""

    def __init__(self, agent, count, path="/sleep?s=0.05", host="web.localhost"):
        self.agent, self.path, self.host = agent, path, host
        self.done = threading.Event()
        self.answers, self.failures = [], []
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]

    def run(self):
        while not self.done.is_set():
            try:
                status, headers, body = self.agent.get(self.path, host=self.host)
                self.answers.append(headers["Ctr-Instance"])
                if status != 200:
                    self.failures.append((status, body))
            except OSError as error:
                self.failures.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for thread in self.threads:
            thread.join(DEADLINE)


class Autoscale(Case):
    def tearDown(self):
        self.agent.ctr("class", "rm", "web", "--force", check=False)

    def live(self):
        return [instance["id"] for instance in self.agent.json("ls", "-c", "web")]

    def of_type(self, type_):
        lines = self.agent.ctr("-o", "jsonl", "events", "--type", type_).splitlines()
        return [json.loads(line) for line in lines]

    def test_autoscale_alone_goes_from_zero_to_many_and_back_without_a_failed_request(self):
        self.agent.apply(WEB + 'autoscale = true\nmax_concurrency = 4\nsleep_after = "2s"\n')
        self.assertEqual(self.live(), [])
        with Clients(self.agent, 16) as clients:
            wait_for(lambda: len(self.live()) >= 4, "several instances")
            wait_for(lambda: len(set(clients.answers[-50:])) >= 4, "answers of several")
            status = self.agent.json("autoscale", "status", "web")
            self.assertTrue(status["on"])
            self.assertGreaterEqual(status["desired"], 4)
            self.assertEqual([signal["name"] for signal in status["signals"]][0], "traffic")
            self.assertIn("in flight", status["signals"][0]["text"])
            self.assertTrue(status["decisions"])
            text = self.agent.ctr("autoscale", "status", "web")
            self.assertIn("Last decisions:", text)
        self.assertEqual(clients.failures, [])
        wait_for(lambda: self.live() == [], "all to sleep")
        shown = self.agent.json("inspect", "web/instance-0")
        self.assertEqual((shown["state"], shown["reason"]), ("stopped", "slept"))
        reasons = [event["message"] for event in self.of_type("scaled")]
        self.assertTrue(any("idle" in reason for reason in reasons), reasons)
        self.assertIn("autoscale: ", self.agent.ctr("why", "web/instance-0"))
        self.assertEqual(self.agent.get(host="web.localhost")[0], 200)

    def test_a_burst_at_a_sleeping_class_starts_what_it_needs_at_once(self):
        self.agent.apply(WEB + '[autoscale]\ntarget_concurrency = 10\nmax = 6\n')
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: self.agent.get("/sleep?s=1", host="web.localhost")[0], range(40)))
        self.assertEqual(answers, [200] * 40)
        # Six if all were there before the first instance was.
        self.assertGreaterEqual(len(self.live()), 4)

    def test_min_instances_are_there_without_a_request_and_come_back(self):
        self.agent.apply(WEB + 'sleep_after = "1s"\n[autoscale]\nmin = 2\n')
        wait_for(lambda: len(self.live()) == 2, "two instances")
        self.agent.ctr("destroy", "web/instance-0")
        wait_for(lambda: self.live() == ["instance-0", "instance-1"], "two instances again")
        time.sleep(2)
        self.assertEqual(len(self.live()), 2)

    def test_scale_in_cuts_no_request(self):
        self.agent.apply(WEB + 'sleep_after = "1s"\ndrain = "30s"\n[autoscale]\ntarget_concurrency = 1\nmax = 4\n')
        slow = []
        threads = [threading.Thread(target=lambda: slow.append(self.agent.get("/slow/15", host="web.localhost")))
                   for _ in range(2)]
        for thread in threads:
            thread.start()
        with Clients(self.agent, 4):
            wait_for(lambda: len(self.live()) == 4, "four instances")
        self.agent.ctr("autoscale", "off", "web")
        self.agent.ctr("autoscale", "on", "web", "--max", 1, "--target-concurrency", 100)
        wait_for(lambda: len(self.live()) == 1, "one instance", timeout=60)
        for thread in threads:
            thread.join(DEADLINE)
        self.assertEqual([(status, body.count(b"\n")) for status, _, body in slow], [(200, 15)] * 2)

    def test_on_and_off_change_the_class_and_are_shown_with_it(self):
        self.agent.apply(WEB)
        self.assertEqual(self.agent.ctr("autoscale", "status", "web"), "class/web: autoscale is off")
        self.assertEqual(self.agent.ctr("autoscale", "on", "web", "--min", 1, "--max", 3, "--target-cpu", "off"),
                         "class/web configured")
        settings = self.agent.json("class", "show", "web")["settings"]
        self.assertEqual((settings["autoscale"]["min"], settings["autoscale"]["max"]), (1, 3))
        self.assertEqual(settings["autoscale"]["target_cpu"], "off")
        self.assertEqual(settings["route"]["policy"], "nearest")
        self.assertEqual(self.agent.ctr("autoscale", "on", "web", "--set", "window=30s"), "class/web configured")
        settings = self.agent.json("class", "show", "web")["settings"]["autoscale"]
        self.assertEqual((settings["min"], settings["window"]), (1, "30s"))
        wait_for(lambda: len(self.live()) == 1, "the one instance")
        self.assertEqual(self.agent.ctr("autoscale", "off", "web"), "class/web configured")
        self.assertIs(self.agent.json("class", "show", "web")["settings"]["autoscale"], False)
        self.assertEqual(self.agent.ctr("autoscale", "off", "web"), "class/web unchanged")

    def test_impossible_settings_are_refused_and_change_nothing(self):
        self.agent.apply(WEB)
        for words, told in ((("--min", "x"), "min"), (("--max", "1000"), "max_instances"),
                            (("--target-cpu", "2"), "target_cpu"), (("--set", "nonsense=1"), "nonsense"),
                            (("--set", "nonsense"), "write it like"), (("--window", "1s"), "window"),
                            (("--target-rps", "1", "--target-concurrency", "1"), "exclude each other")):
            refused = self.agent.ctr("autoscale", "on", "web", *words, check=False)
            self.assertEqual(refused.returncode, 2, (words, refused.stderr))
            self.assertIn(told, refused.stderr)
            self.assertEqual(len(refused.stderr.strip().splitlines()), 1)
        self.assertIs(self.agent.json("class", "show", "web")["settings"]["autoscale"], False)
        self.assertEqual(self.agent.ctr("autoscale", "on", "nothing", check=False).returncode, 3)

    def test_the_nearest_is_explained_and_only_as_many_as_are_needed_wake(self):
        self.agent.apply(WEB + 'max_concurrency = 1\n[route]\npolicy = "nearest"\ninstances = 3\n')
        refused = self.agent.ctr("route", "web", "--explain", "--random", check=False)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("none is ready", self.agent.ctr("route", "web", "--explain"))
        self.assertEqual(self.agent.ctr("-o", "name", "route", "web"), "web/instance-0")
        for _ in range(5):
            self.assertEqual(self.agent.get(host="web.localhost")[1]["Ctr-Instance"], "web/instance-0")
        self.assertEqual(self.live(), ["instance-0"])
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: self.agent.get("/sleep?s=1", host="web.localhost")[0], range(2)))
        self.assertEqual(answers, [200, 200])
        self.assertEqual(self.live(), ["instance-0", "instance-1"])
        told = self.agent.json("route", "web", "--explain")
        self.assertEqual(told["outcome"], "chosen")
        self.assertEqual([candidate["id"] for candidate in told["candidates"]], ["instance-0", "instance-1"])
        self.agent.apply(WEB)
        self.assertEqual(self.agent.ctr("route", "web", "--explain", check=False).returncode, 4)

    def test_one_that_is_stopped_gets_next_to_nothing_and_its_requests_fail_clearly(self):
        self.agent.apply(WEB + 'response_timeout = "2s"\n[autoscale]\nmin = 3\nmax = 3\n')
        wait_for(lambda: self.agent.json("autoscale", "status", "web")["healthy"] == 3, "three instances")
        with Clients(self.agent, 8, "/sleep?s=0.01") as clients:
            wait_for(lambda: len(set(clients.answers)) == 3, "answers of all three")
            server = self.server_of("web/instance-1")
            os.kill(server, signal.SIGSTOP)
            try:
                before = len(clients.answers)
                wait_for(lambda: len(clients.answers) > before + 300, "answers of the others")
                wait_for(lambda: clients.failures, "the one that waits to be given up")
            finally:
                os.kill(server, signal.SIGCONT)
        self.assertLessEqual(len(clients.failures), 8)
        for status, body in clients.failures:
            self.assertEqual(status, 504, body)
            self.assertIn(b"response_timeout", body)

    def test_one_that_answers_503_at_once_is_no_magnet(self):
        broken = 'test $CTR_ID = instance-1 && export UNAVAILABLE=1; exec /bin/server'
        self.agent.apply(WEB + f'entrypoint = ["/bin/sh", "-c", "{broken}"]\n[autoscale]\nmin = 4\nmax = 4\n')
        wait_for(lambda: self.agent.json("autoscale", "status", "web")["healthy"] == 4, "four instances")
        with Clients(self.agent, 8, "/sleep?s=0.005") as clients:
            wait_for(lambda: len(clients.answers) > 2000, "many answers")
        self.assertTrue(clients.failures)  # it was tried
        self.assertLess(len(clients.failures), 0.03 * len(clients.answers))
        self.assertEqual({status for status, _ in clients.failures}, {503})
        # Its cost alone may keep all but a few away from it; nobody else is ejected.
        self.assertLessEqual({event["id"] for event in self.of_type("ejected") if event["class"] == "web"}, {"instance-1"})

    def test_traffic_that_needs_cpu_scales_out_on_that_alone(self):
        self.agent.apply(WEB + '[resources]\ncpus = 0.2\n[autoscale]\ntarget_concurrency = 1000\n')
        with Clients(self.agent, 2, "/cpu/0.05") as clients:
            wait_for(lambda: len(self.live()) >= 2, "a second instance")
            signals = {signal["name"]: signal for signal in self.agent.json("autoscale", "status", "web")["signals"]}
            self.assertGreaterEqual(signals["cpu"]["wish"], 2, signals)
            self.assertLessEqual(signals["traffic"]["wish"], 1, signals)
        self.assertEqual(clients.failures, [])
        self.assertTrue(any("cpu" in event["message"].lower() for event in self.of_type("scaled")))

    def fill(self, name, mebibytes):
        self.agent.ctr("exec", name, "--", "/bin/dd", "if=/dev/zero", "of=/dev/shm/filled", "bs=1M", f"count={mebibytes}")

    def test_traffic_that_needs_memory_scales_out_on_that_alone(self):
        self.agent.apply(WEB + '[resources]\nmemory = "64MiB"\n[autoscale]\nmin = 1\ntarget_memory = 0.5\n')
        wait_for(lambda: self.agent.json("autoscale", "status", "web")["healthy"] == 1, "one instance")
        with Clients(self.agent, 1, "/sleep?s=0.01") as clients:
            self.fill("web/instance-0", 40)
            wait_for(lambda: len(self.live()) == 2, "a second instance")
            signals = {signal["name"]: signal for signal in self.agent.json("autoscale", "status", "web")["signals"]}
            self.assertEqual(signals["memory"]["wish"], 2, signals)
            self.assertLessEqual(signals["traffic"]["wish"], 1, signals)
        self.assertEqual(clients.failures, [])

    def test_idle_instances_at_sixty_percent_of_their_memory_do_not_hold_the_scale_up(self):
        self.agent.apply(WEB + 'max_concurrency = 4\n[resources]\nmemory = "64MiB"\n[autoscale]\nmin = 1\nwindow = "6s"\n')
        with Clients(self.agent, 8):
            wait_for(lambda: self.agent.json("autoscale", "status", "web")["healthy"] >= 2, "two instances")
            for id_ in self.live():
                self.fill(f"web/{id_}", 37)
        wait_for(lambda: len(self.live()) == 1, "all but one to go", timeout=90)

    def test_one_whose_memory_runs_full_is_replaced_and_no_request_is_lost(self):
        self.agent.apply(WEB + '[resources]\nmemory = "64MiB"\n[autoscale]\nmin = 2\nmax = 4\n')
        wait_for(lambda: self.agent.json("autoscale", "status", "web")["healthy"] == 2, "two instances")
        with Clients(self.agent, 4, "/sleep?s=0.01") as clients:
            self.agent.ctr("exec", "web/instance-0", "--", "/bin/dd", "if=/dev/zero", "of=/dev/shm/leak", "bs=1M", "count=61")
            wait_for(lambda: "instance-0" not in self.live(), "the full one to go")
            self.assertEqual(len(self.live()), 2)
        self.assertEqual(clients.failures, [])
        shown = self.agent.json("inspect", "web/instance-0")
        self.assertEqual(shown["reason"], "slept")
        self.assertIn("memory", self.agent.ctr("why", "web/instance-0"))

    def test_a_readiness_check_takes_one_out_of_routing_and_puts_it_back(self):
        self.agent.apply(WEB + '[readiness]\nexec = ["/bin/sh", "-c", "! test -e /tmp/sick"]\ninterval = "100ms"\n'
                         'failures = 2\n[autoscale]\nmin = 2\nmax = 2\n')
        wait_for(lambda: self.agent.json("autoscale", "status", "web")["healthy"] == 2, "two instances")
        self.agent.ctr("exec", "web/instance-0", "--", "/bin/touch", "/tmp/sick")
        self.agent.ctr("wait", "web/instance-0", "--for", "running")
        for _ in range(10):
            self.assertEqual(self.agent.get(host="web.localhost")[1]["Ctr-Instance"], "web/instance-1")
        self.assertEqual(self.agent.get(host="instance-0.web.localhost")[0], 200)
        self.agent.ctr("exec", "web/instance-0", "--", "/bin/rm", "/tmp/sick")
        self.agent.ctr("wait", "web/instance-0", "--for", "healthy")
        self.assertTrue(self.of_type("unready") and self.of_type("ready"))

    def test_http_and_tcp_checks_decide_when_a_start_is_over(self):
        self.agent.apply(WEB + '[readiness]\nhttp = "/status/204"\n')
        self.agent.ctr("get", "web/a")
        self.agent.apply(WEB + 'start_timeout = "1s"\n[readiness]\nhttp = "/status/500"\n')
        refused = self.agent.ctr("get", "web/b", check=False)
        self.assertEqual(refused.returncode, 124)
        self.assertIn("readiness check failed", refused.stderr)
        self.assertIn("GET :8080/status/500 answered 500", refused.stderr)
        self.agent.apply(WEB + '[readiness]\ntcp = true\n')
        self.agent.ctr("get", "web/c")
        self.assertEqual(self.agent.get("/", host="c.web.localhost")[2], b"hello from c, request 1\n")

    def test_recorded_traffic_is_run_against_a_policy_without_touching_the_class(self):
        self.agent.apply(WEB)
        trace = "".join(f'{{"time":{at},"arrivals":{rate},"service":0.1}}\n'
                        for at, rate in ((0, 10), (60, 100), (120, 0), (200, 0)))
        words = ("autoscale", "simulate", "web", "--trace", "-", "--start-time", "0.1")

        def run(*settings):
            return json.loads(self.agent.ctr("-o", "json", *words, *settings, stdin=trace))

        small, large = run("--target-concurrency", "2"), run("--target-concurrency", "10")
        self.assertEqual(small["requests"], large["requests"])
        self.assertEqual(small["completed"], small["requests"])
        self.assertGreater(small["instance_seconds"], large["instance_seconds"])
        self.assertGreaterEqual(small["most"], 5)
        self.assertEqual(small["steps"], run("--target-concurrency", "2")["steps"])  # the same again
        text = self.agent.ctr(*words, stdin=trace)
        self.assertIn("times the ideal", text)
        self.assertIs(self.agent.json("class", "show", "web")["settings"]["autoscale"], False)
        self.assertEqual(self.live(), [])
        for bad, told in (("nonsense\n", "-: line 1: it is no JSON object"), ('{"time":0}\n', "needs time, arrivals"),
                          ('{"time":0,"arrivals":1,"service":1,"x":1}\n', '"x" is unknown'), ("", "nothing in it"),
                          ('{"time":0,"arrivals":-1,"service":1}\n', "row 1")):
            refused = self.agent.ctr(*words, stdin=bad, check=False)
            self.assertEqual(refused.returncode, 2, (bad, refused.stderr))
            self.assertIn(told, refused.stderr)

    def test_a_trace_of_any_length_costs_the_agent_bounded_memory(self):
        self.agent.apply(WEB)
        words = ("-o", "json", "autoscale", "simulate", "web", "--trace", "-")

        def rows(*values):
            return "".join(f'{{"time":{at},"arrivals":{rate},"service":0.1}}\n' for at, rate in values)

        day = json.loads(self.agent.ctr(*words, stdin=rows(*((at, at % 2) for at in range(86400)))))
        self.assertEqual((day["requests"], day["step_seconds"], len(day["steps"])), (43200, 1, 86400))
        month = json.loads(self.agent.ctr(*words, stdin=rows((0, 1), (10, 0), (15 * 86400, 0))))
        self.assertEqual((month["requests"], month["step_seconds"]), (10, 26))
        self.assertLessEqual(len(month["steps"]), 100_000)
        for bad, told in ((rows((0, 1), (30_000_000, 0)), "row 2: its time is more than 31 days"),
                          (rows((0, 1e9)), "row 1: more than 100,000 requests a second"),
                          (rows((0, 90_000), (900, 0)).replace("0.1", "100"), "requests are under way or wait")):
            refused = self.agent.ctr(*words[2:], "--max", "1", stdin=bad, check=False)
            self.assertEqual(refused.returncode, 2, (bad, refused.stderr))
            self.assertIn(told, refused.stderr)
        self.assertLess(resident_mib(self.agent.process.pid, "VmHWM"), 512)

    def test_what_the_agent_recorded_itself_is_a_trace(self):
        self.agent.apply(WEB.replace("web", "traced"))
        self.addCleanup(self.agent.ctr, "class", "rm", "traced", "--force")
        self.agent.ctr("get", "traced/a")
        for _ in range(10):
            self.assertEqual(self.agent.get("/sleep?s=0.02", host="a.traced.localhost")[0], 200)
        wait_for(lambda: [event for event in self.of_type("traffic") if event["class"] == "traced"], "a minute's event", 90)
        trace = self.agent.ctr("-o", "jsonl", "events")
        simulated = self.agent.ctr("-o", "json", "autoscale", "simulate", "traced", "--trace", "-", stdin=trace)
        self.assertEqual(json.loads(simulated)["requests"], 10)

    def server_of(self, name):
        container = self.agent.json("inspect", name)["container_id"]
        return next(pid for pid in processes_of(self.agent.json("info")["agent_id"])[container])

    def test_a_class_that_cannot_start_says_why_and_does_not_try_every_index(self):
        self.agent.apply(WEB + 'autoscale = true\nentrypoint = ["/bin/sh", "-c", "exit 3"]\n')
        status, headers, body = self.agent.get(host="web.localhost")
        self.assertEqual((status, headers["Ctr-Error"]), (502, "start_failed"), body)
        self.assertIn(b"status 3", body)
        time.sleep(1)
        known = {instance["id"] for instance in self.agent.json("ls", "-a", "-c", "web")}
        self.assertEqual(known, {"instance-0"})
