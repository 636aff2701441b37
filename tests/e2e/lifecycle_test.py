"""What happens to an instance that fails, computes, or is about to sleep; from outside."""

import glob
import os
import signal
import subprocess
import time
import unittest

from harness import Case, read, wait_for

WEB = 'image = "demo:latest"\ndefault_port = 8080\n'
FAILS = 'entrypoint = ["/bin/sh", "-c", "echo no database; exit 7"]\n'


def named(name, rest=""):
    return f'name = "{name}"\n{WEB}{rest}'


class Lifecycle(Case):
    def inspect(self, id):
        return self.agent.json("inspect", id)

    def shown(self, id):
        return next(i for i in self.agent.json("ls", "-a") if f"{i['class']}/{i['id']}" == id)

    def test_a_process_that_is_killed_is_started_again(self):
        self.agent.apply(named("mended"))
        self.agent.ctr("get", "mended/a")
        before = self.inspect("mended/a")
        os.kill(before["pid"], 9)
        after = wait_for(lambda: (i := self.inspect("mended/a"))["state"] == "healthy" and i["generation"] == 2 and i,
                         "the restart")
        self.assertNotEqual(before["container_id"], after["container_id"])

    def test_with_restart_never_it_stays_down_until_a_request(self):
        self.agent.apply(named("frail", 'restart = "never"\n'))
        self.agent.ctr("get", "frail/a")
        os.kill(self.inspect("frail/a")["pid"], 9)
        self.assertEqual(self.agent.ctr("wait", "frail/a", "--for", "stopped"), "137")
        status, _, _ = self.agent.get(host="a.frail.localhost")
        self.assertEqual((status, self.inspect("frail/a")["generation"]), (200, 2))

    def test_a_crash_loop_refuses_requests_and_says_when_to_try_again(self):
        self.agent.apply(named("loop", 'restart = "always"\n' + FAILS))
        self.agent.ctr("get", "loop/a", "--no-wait")
        wait_for(lambda: self.inspect("loop/a")["generation"] >= 6, "some restarts")
        status, headers, body = wait_for(
            lambda: (answer := self.agent.get(host="a.loop.localhost"))[2].find(b"crash loop") >= 0 and answer, "a refusal")
        self.assertEqual((status, headers["Ctr-Error"]), (502, "start_failed"))
        self.assertGreaterEqual(int(headers["Retry-After"]), 1)
        self.assertIn(b"status 7", body)
        # Mended by a new revision, and asked for by name, it starts at once.
        self.agent.apply(named("loop", 'restart = "always"\n'))
        self.agent.ctr("get", "loop/a")
        self.assertEqual(self.agent.get(host="a.loop.localhost")[0], 200)

    def test_a_stop_ends_a_crash_loop(self):
        self.agent.apply(named("ended", 'restart = "always"\n' + FAILS))
        self.agent.ctr("get", "ended/a", "--no-wait")
        wait_for(lambda: self.inspect("ended/a")["generation"] >= 3, "some restarts")
        self.agent.ctr("stop", "ended/a")
        generation = self.inspect("ended/a")["generation"]
        time.sleep(2)
        self.assertEqual(self.inspect("ended/a")["generation"], generation)
        self.assertEqual(self.inspect("ended/a")["state"], "stopped")

    def test_hooks_are_called_with_the_instance_in_their_environment(self):
        log = self.agent.root + "/hooks.log"
        command = f'["/bin/sh", "-c", "echo $CTR_EVENT $CTR_CLASS/$CTR_ID $CTR_EXIT_CODE >> {log}"]'
        self.agent.apply(named("hooked", f'restart = "never"\n[hooks]\non_start = {command}\n'
                                         f'on_stop = {command}\non_error = {command}\n'))
        self.agent.ctr("get", "hooked/a")
        self.agent.ctr("stop", "hooked/a")
        self.agent.ctr("get", "hooked/a")
        os.kill(self.inspect("hooked/a")["pid"], 9)
        lines = wait_for(lambda: os.path.exists(log) and len(read(log).splitlines()) == 4 and read(log), "the hooks")
        self.assertEqual([line.split() for line in lines.splitlines()],
                         [["on_start", "hooked/a"], ["on_stop", "hooked/a", "0"], ["on_start", "hooked/a"],
                          ["on_error", "hooked/a", "137"]])

    def test_on_activity_expired_keeps_it_awake_as_long_as_it_fails(self):
        flag, asked = self.agent.root + "/busy", self.agent.root + "/asked"
        open(flag, "w").close()
        self.agent.apply(named("asking", 'sleep_after = "300ms"\n[hooks]\non_activity_expired = '
                                         f'["/bin/sh", "-c", "echo >> {asked}; test ! -e {flag}"]\n'))
        self.agent.ctr("get", "asking/a")
        wait_for(lambda: os.path.exists(asked) and len(read(asked)) >= 3, "three questions")
        self.assertEqual(self.inspect("asking/a")["state"], "healthy")
        os.unlink(flag)
        self.agent.ctr("wait", "asking/a", "--for", "stopped")
        self.assertEqual(self.inspect("asking/a")["reason"], "slept")

    def test_an_instance_that_computes_does_not_sleep(self):
        self.agent.apply(named("busy", 'sleep_after = "500ms"\nbusy_cpu = 0.05\n'
                                       'entrypoint = ["/bin/sh", "-c", "(i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done) & '
                                       'exec /bin/server"]\n'))
        self.agent.apply(named("lazy", 'sleep_after = "500ms"\nbusy_cpu = 0.05\n'))
        self.agent.ctr("get", "busy/a")
        self.agent.ctr("get", "lazy/a")
        self.agent.ctr("wait", "lazy/a", "--for", "stopped")
        self.assertEqual(self.inspect("busy/a")["state"], "healthy")
        self.agent.ctr("wait", "busy/a", "--for", "stopped")  # its loop comes to an end
        self.assertEqual(self.inspect("busy/a")["reason"], "slept")

    def test_a_start_that_containerd_does_not_answer_ends_at_start_timeout_and_leaves_nothing(self):
        self.agent.apply(named("hung", 'start_timeout = "1s"\n'))
        containerd = int(read(self.agent.data + "/containerd/containerd.pid"))
        os.kill(containerd, signal.SIGSTOP)
        try:
            result = self.agent.ctr("get", "hung/a", check=False)
        finally:
            os.kill(containerd, signal.SIGCONT)
        self.assertExit(result, 124, "hung/a", "was not healthy in time")
        self.agent.ctr("get", "hung/a")
        self.assertEqual(self.agent.get(host="a.hung.localhost")[0], 200)
        self.agent.ctr("destroy", "hung/a")
        # What was begun for the first start goes, too.
        info = self.agent.json("info")
        client = ["/usr/bin/ctr", "--address", info["containerd_socket"], "--namespace", info["containerd_namespace"]]
        wait_for(lambda: not subprocess.run([*client, "containers", "ls", "-q", 'labels."ctr.class"==hung'], check=True,
                                            capture_output=True, text=True).stdout, "the first start's end")

    def test_the_files_of_one_that_stops_while_containerd_deletes_anothers_go_too(self):
        self.agent.apply(named("full"))
        folders = self.agent.data + "/containerd/root/io.containerd.snapshotter.v1.overlayfs/snapshots"
        before = wait_for(lambda: not glob.glob(folders + "/*/fs/full") and set(os.listdir(folders)), "the snapshots")
        for id in ("first", "second"):
            self.agent.ctr("get", f"full/{id}")
        many = f"/proc/{self.inspect('full/first')['pid']}/root/full"
        os.mkdir(many)
        for n in range(40000):
            os.mknod(f"{many}/{n}")
        self.agent.ctr("stop", "full/first", "-t", "0")
        wait_for(lambda: len(glob.glob(folders + "/*/fs/full/*")) < 40000, "its deletion", pause=0.001)
        self.agent.ctr("stop", "full/second", "-t", "0")
        wait_for(lambda: set(os.listdir(folders)) <= before, "the files of both to be gone")

    def test_one_that_is_killed_after_the_grace_says_so(self):
        self.agent.apply(named("deaf", 'stop_grace = "200ms"\nenv = { IGNORE_TERM = "1" }\n'))
        self.agent.ctr("get", "deaf/a")
        self.agent.ctr("stop", "deaf/a")
        shown = self.inspect("deaf/a")
        self.assertEqual((shown["reason"], shown["exit_code"]), ("requested", 137))
        self.assertIn("did not end within 200ms", shown["message"])


if __name__ == "__main__":
    unittest.main()
