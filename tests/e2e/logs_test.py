"""What instances write, from outside: ctr logs, ctr run, and the files that ctr-logger keeps."""

import datetime
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
import unittest

from harness import BIN, Case, wait_for



class Logs(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply('name = "job"\nimage = "demo:latest"\nmax_instances = 50\n')
        cls.agent.environment["CTR_CLASS"] = "job"

    def command(self, *args):
        return [BIN + "/ctr", "--host", self.agent.socket, "-c", "job", *args]

    def run_job(self, id, script, **options):
        """`ctr run` of a shell script in the demo image; gives bytes."""
        return subprocess.run(self.command("run", id, "--", "/bin/sh", "-c", script), capture_output=True, timeout=120,
                              **options)

    def start_run(self, id, script):
        return subprocess.Popen(self.command("run", id, "--", "/bin/sh", "-c", script), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def log_class(self, name, script, max_size="64KiB", files=2):
        self.agent.apply(f"name = \"{name}\"\nimage = \"demo:latest\"\nentrypoint = "
                         f"{json.dumps(['/bin/sh', '-c', script])}\n[log]\nmax_size = \"{max_size}\"\nfiles = {files}\n")

    def folder(self, name):
        return self.agent.json("inspect", name)["log_path"]

    def size(self, name):
        """All that is kept of an instance's output, and the number of files."""
        sizes = []
        for file in os.scandir(self.folder(name)):
            try:
                if file.name.endswith(".log"):
                    sizes.append(file.stat().st_size)
            except FileNotFoundError:
                pass  # rotated away just now
        return sum(sizes), len(sizes)

    def test_run_passes_the_exit_status_on(self):
        for script, status in (("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)):
            with self.subTest(script):
                # PID 1 does not kill itself: a child does it, and its status is passed on.
                result = self.run_job("status", f"/bin/sh -c '{script}'; exit $?")
                self.assertEqual((result.returncode, result.stdout), (status, b""))

    def test_run_tells_stdout_and_stderr_apart(self):
        result = self.run_job("streams", "echo out; echo err >&2; printf end")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, b"out\nend", b"err\n"))

    def test_run_gives_a_megabyte_of_binary_output_exactly(self):
        result = self.run_job("binary", "head -c 1048576 /dev/urandom > /tmp/x; sha256sum < /tmp/x >&2; cat /tmp/x")
        self.assertEqual(len(result.stdout), 1048576)
        self.assertEqual(hashlib.sha256(result.stdout).hexdigest(), result.stderr.split()[0].decode())

    def test_run_loses_nothing_of_more_output_than_is_kept(self):
        self.log_class("small", "seq 1 200000; exit 3", files=1)
        result = subprocess.run(self.command("run", "small/s"), capture_output=True, timeout=120)
        self.assertEqual(result.stdout, b"".join(b"%d\n" % i for i in range(1, 200001)))
        self.assertEqual((result.returncode, result.stderr), (3, b""))

    def test_run_refuses_a_class_with_ports(self):
        self.agent.apply('name = "web"\nimage = "demo:latest"\ndefault_port = 8080\n')
        result = subprocess.run(self.command("run", "web/m", "--", "/bin/true"), capture_output=True, timeout=60)
        self.assertEqual(result.returncode, 4)
        self.assertIn(b"ctr exec web/m -- CMD", result.stderr)

    def test_run_forwards_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number):
                job = self.start_run("signals", f"trap 'echo got it; exit 5' {number.name[3:]}; echo ready; "
                                                "while :; do sleep 0.1; done")
                self.assertEqual(job.stdout.readline(), b"ready\n")
                job.send_signal(number)
                out, err = job.communicate(timeout=60)
                self.assertEqual((job.returncode, out, err), (5, b"got it\n", b""))

    def test_a_second_sigint_leaves_the_job_running(self):
        job = self.start_run("stubborn", "trap 'echo no' INT; echo ready; while :; do sleep 0.1; done")
        self.assertEqual(job.stdout.readline(), b"ready\n")
        job.send_signal(signal.SIGINT)
        self.assertEqual(job.stdout.readline(), b"no\n")
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=60)
        self.assertEqual(job.returncode, 130)
        self.assertIn(b"runs on", err)
        self.assertEqual(self.agent.json("inspect", "stubborn")["state"], "healthy")
        self.agent.ctr("destroy", "stubborn")

    def test_run_of_a_live_id_is_refused_and_of_a_missing_program_fails(self):
        job = self.start_run("twice", "echo ready; while :; do sleep 0.1; done")
        self.assertEqual(job.stdout.readline(), b"ready\n")
        self.assertExit(self.agent.ctr("run", "twice", check=False), 4, "already runs")
        self.agent.ctr("destroy", "twice")
        self.assertEqual(job.wait(60), 137)
        self.assertIn(b"twice was destroyed", job.communicate()[1])
        self.log_class("nothing", "true")
        self.agent.apply('name = "nothing"\nimage = "demo:latest"\nentrypoint = ["/no/such"]\n')
        # runc may have said so on the stderr that it was given, before.
        result = self.agent.ctr("run", "nothing/n", check=False)
        self.assertEqual(result.returncode, 127)
        self.assertIn("/no/such", result.stderr.splitlines()[-1])
        for command, status in (("nothere", 127), ("/no/such", 127), ("/bin", 126)):
            with self.subTest(command):
                result = self.agent.ctr("run", "wrong", "--", command, check=False)
                self.assertEqual(result.returncode, status)
                self.assertIn(command, result.stderr)
                self.assertEqual(len(result.stderr.splitlines()), 1)
        self.assertExit(self.agent.ctr("run", "absent/n", check=False), 3, "absent")

    def test_run_runs_once_whatever_the_restart_policy_says(self):
        for policy in ("always", "on-failure"):
            with self.subTest(policy):
                self.agent.apply(f'name = "again"\nimage = "demo:latest"\nrestart = "{policy}"\nentrypoint = '
                                 '["/bin/sh", "-c", "echo once; exit 4"]\n')
                result = subprocess.run(self.command("run", "again/a"), capture_output=True, timeout=60)
                self.assertEqual((result.returncode, result.stdout), (4, b"once\n"))
                generation = self.agent.json("inspect", "again/a")["generation"]
                time.sleep(1)
                instance = self.agent.json("inspect", "again/a")
                self.assertEqual((instance["state"], instance["generation"]), ("stopped", generation))
                # Started otherwise, it is restarted as before.
                self.agent.ctr("start", "again/a")
                wait_for(lambda: self.agent.json("inspect", "again/a")["generation"] > generation + 1, "a restart")
                self.agent.ctr("destroy", "again/a")

    def test_logs_shows_what_was_written_and_tells_the_streams_apart(self):
        self.run_job("shown", "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three")
        logs = self.agent.ctr("logs", "shown", check=False)
        self.assertEqual((logs.returncode, logs.stdout, logs.stderr), (0, "one\nthree\n", "two\n"))
        self.assertEqual(self.agent.ctr("logs", "shown", "--tail", 1), "three")
        self.assertEqual(self.agent.ctr("logs", "shown", "--tail", 0), "")
        self.assertRegex(self.agent.ctr("logs", "-t", "shown", "--tail", 1), r"^\d{4}-\d\d-\d\dT[\d:]{8}\.\d{9}Z three$")
        lines = [json.loads(line) for line in self.agent.ctr("-o", "jsonl", "logs", "shown").splitlines()]
        self.assertEqual([(line["stream"], line["text"]) for line in lines],
                         [("stdout", "one"), ("stderr", "two"), ("stdout", "three")])
        self.assertEqual(self.agent.json("logs", "shown"), lines)

    def test_since_leaves_out_what_is_older(self):
        self.run_job("since", "echo old; sleep 0.2; echo new")
        times = [line["time"] for line in self.agent.json("logs", "since")]
        self.assertEqual(self.agent.ctr("logs", "since", "--since", "10m"), "old\nnew")
        middle = datetime.datetime.fromisoformat(times[0][:23] + "+00:00") + datetime.timedelta(milliseconds=100)
        self.assertEqual(self.agent.ctr("logs", "since", "--since", middle.isoformat().replace("+00:00", "Z")), "new")

    def test_logs_of_an_unknown_instance_and_wrong_flags_are_refused(self):
        self.assertExit(self.agent.ctr("logs", "unheard-of", check=False), 3, "unheard-of")
        self.run_job("flags", "true")
        self.assertExit(self.agent.ctr("logs", "flags", "--tail", "x", check=False), 2, "--tail")
        self.assertExit(self.agent.ctr("logs", "flags", "--since", "x", check=False), 2, "--since")

    def test_the_tail_of_much_output_is_exact(self):
        self.log_class("much", "seq 1 100000", files=10)
        self.agent.ctr("run", "much/m")
        self.assertEqual(self.agent.ctr("logs", "much/m", "--tail", 3000).splitlines(),
                         [str(i) for i in range(97001, 100001)])

    def test_a_container_that_writes_without_end_stays_within_its_files(self):
        self.log_class("endless", "yes the same line again and again", files=3)
        self.agent.ctr("start", "endless/e")
        end = time.monotonic() + 5
        largest = 0
        while time.monotonic() < end:
            total, files = self.size("endless/e")
            largest = max(largest, total)
            # While it rotates, the new file is there before the oldest is gone.
            self.assertLessEqual(files, 4)
        self.assertLessEqual(largest, 4 * 65536)
        total, files = self.size("endless/e")
        self.agent.ctr("stop", "endless/e", "-t", "0")
        total, files = self.size("endless/e")
        self.assertLessEqual((total, files), (3 * 65536, 3))
        self.assertGreaterEqual(total, 2 * 60000)
        self.agent.ctr("destroy", "endless/e")

    def test_follow_over_rotation_sleep_and_a_killed_agent_loses_and_doubles_nothing(self):
        script = "i=1; while [ $i -le 6000 ]; do echo line $i; i=$((i+1)); [ $((i % 20)) = 0 ] && sleep 0.01; done"
        self.log_class("numbered", script, files=8)
        self.agent.ctr("start", "numbered/n")
        seen = []

        def follow(*flags):
            with subprocess.Popen(self.command("logs", "-f", "numbered/n", *flags), stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True) as logs:
                seen.extend(logs.stdout.read().splitlines())
                return logs.wait()

        reader = threading.Thread(target=follow)
        reader.start()
        time.sleep(1)
        self.agent.kill()
        reader.join(60)
        self.agent.start()
        self.assertGreater(len(seen), 10)
        self.assertLess(len(seen), 6000)
        self.agent.ctr("wait", "numbered/n", "--for", "stopped")
        self.assertEqual(seen, [f"line {i}" for i in range(1, len(seen) + 1)])
        everything = self.agent.ctr("logs", "numbered/n").splitlines()
        self.assertEqual(everything, [f"line {i}" for i in range(1, 6001)])
        self.assertGreater(self.size("numbered/n")[1], 2)

        # It goes on with the next start, and ends when the instance is destroyed.
        seen.clear()
        reader = threading.Thread(target=follow, args=("--tail", "1"))
        reader.start()
        wait_for(lambda: seen or reader.is_alive(), "the follower")
        self.agent.ctr("start", "numbered/n")
        self.agent.ctr("wait", "numbered/n", "--for", "stopped")
        time.sleep(1)
        self.agent.ctr("destroy", "numbered/n")
        reader.join(60)
        self.assertEqual(seen, ["line 6000"] + [f"line {i}" for i in range(1, 6001)])


if __name__ == "__main__":
    unittest.main()
