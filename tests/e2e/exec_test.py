"""Commands inside an instance, from outside: exec with pipes and with a real terminal."""

import fcntl
import hashlib
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from harness import BIN, DEADLINE, Case, is_pipe_full, read, wait_for

WEB = """
name = "web"
image = "demo:latest"
default_port = 8080
sleep_after = "2s"
env = { COLOUR = "blue" }
"""


class Terminal:
    """A CLI on a pseudo-terminal of its own."""

    def __init__(self, agent, *args, rows=30, columns=100):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(BIN + "/ctr", ["ctr", "--host", agent.socket, *args],
                      {**os.environ, **agent.environment, "TERM": "xterm-test"})
        self.seen = b""
        self.ended = False

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, text):
        end = time.monotonic() + DEADLINE
        while text.encode() not in self.seen:
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
            try:
                piece = os.read(self.master, 4096)
            except OSError:
                piece = b""
            if not piece:
                raise AssertionError(f"ended without {text!r}: {self.seen!r}")
            self.seen += piece
        at = self.seen.index(text.encode()) + len(text)
        self.seen = self.seen[at:]

    def end(self):
        """Whatever the test came to: what it leaves would disturb the others."""
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.master)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self):
        """The exit status; the modes that the terminal was left in are in `after`."""
        status = None

        def ended():
            nonlocal status
            if select.select([self.master], [], [], 0)[0]:
                try:
                    os.read(self.master, 4096)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return pid

        wait_for(ended, "the end of ctr")
        self.ended = True
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


class Exec(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply(WEB)
        cls.agent.environment["CTR_CLASS"] = "web"
        cls.agent.ctr("get", "alice")

    def exec(self, *args, stdin=b"", text=True):
        result = subprocess.run([BIN + "/ctr", "--host", self.agent.socket, "exec", *args], input=stdin,
                                capture_output=True, timeout=DEADLINE, env={**os.environ, **self.agent.environment})
        if text:
            result.stdout, result.stderr = result.stdout.decode(), result.stderr.decode()
        return result

    def popen(self, *args, **kwargs):
        return subprocess.Popen([BIN + "/ctr", "--host", self.agent.socket, "exec", *args], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env={**os.environ, **self.agent.environment}, **kwargs)

    def terminal(self, *args):
        terminal = Terminal(self.agent, *args)
        self.addCleanup(terminal.end)
        return terminal

    def commands(self):
        """The command lines of every process of every instance."""
        agent_id = read(self.agent.data + "/agent-id").strip()
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if f"/ctr/{agent_id}/" in read(f"/proc/{pid}/cgroup"):
                    found.append(read(f"/proc/{pid}/cmdline").replace("\0", " ").strip())
            except (FileNotFoundError, ProcessLookupError):
                pass
        return found

    def fifos(self):
        folder = self.agent.run + "/exec"
        return os.listdir(folder) if os.path.exists(folder) else []

    def test_output_and_exit_status_are_the_commands_own(self):
        result = self.exec("alice", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual((result.stdout, result.stderr, result.returncode), ("out\n", "err\n", 7))
        self.assertEqual(self.exec("alice", "true").returncode, 0)
        result = self.exec("alice", "sh", "-c", "kill -9 $$")
        self.assertEqual(result.returncode, 137)
        wait_for(lambda: not self.fifos(), "the FIFOs to go")

    def test_flags_after_the_command_are_the_commands(self):
        self.assertEqual(self.exec("alice", "echo", "-t", "--help").stdout, "-t --help\n")
        self.assertEqual(self.exec("alice", "--", "echo", "--", "x").stdout, "-- x\n")

    def test_environment_and_working_directory(self):
        result = self.exec("-e", "A=1 2", "-w", "/tmp", "alice", "--", "sh", "-c", 'echo "$A $COLOUR $CTR_ID"; pwd; id -u')
        self.assertEqual(result.stdout, "1 2 blue alice\n/tmp\n0\n")
        self.assertEqual(self.exec("alice", "grep", "-E", "^(CapEff|NoNewPrivs|Seccomp):", "/proc/self/status").stdout,
                         self.exec("alice", "grep", "-E", "^(CapEff|NoNewPrivs|Seccomp):", "/proc/1/status").stdout)

    def test_errors_say_what_failed(self):
        self.assertExit(self.exec("alice", "nope"), 127, "nope", "not found")
        self.assertExit(self.exec("alice", "/etc/passwd"), 126, "/etc/passwd", "executable")
        self.assertExit(self.exec("-w", "/nope", "alice", "true"), 126, "/nope")
        self.assertExit(self.exec("nobody", "true"), 125, "nobody", "ctr get")
        self.assertExit(self.exec("-it", "alice", "sh"), 2, "terminal")
        self.assertExit(self.exec("alice"), 2, "command")
        wait_for(lambda: not self.fifos(), "the FIFOs to go")

    def test_ten_megabytes_pass_through_exactly(self):
        data = os.urandom(10 << 20)
        result = self.exec("-i", "-o", "json", "alice", "cat", stdin=data, text=False)
        self.assertEqual(result.returncode, 0)
        self.assertEqual(hashlib.sha256(result.stdout).digest(), hashlib.sha256(data).digest())

    def test_a_command_that_does_not_read_its_input_ends(self):
        self.assertEqual(self.exec("-i", "alice", "true", stdin=os.urandom(4 << 20), text=False).returncode, 0)

    def test_signals_reach_the_command(self):
        process = self.popen("alice", "sh", "-c", "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
        with process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=DEADLINE)
            self.assertEqual((out, process.returncode), (b"term\n", 3))

    def test_a_signal_reaches_a_command_that_does_not_read_its_input(self):
        with open("/dev/zero", "rb") as zeros, self.popen("-i", "alice", "sh", "-c", "echo ready; sleep 4321",
                                                         stdin=zeros) as process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE)
            self.assertEqual(process.returncode, 130)
        wait_for(lambda: not any("4321" in line for line in self.commands()), "the command's end")

    def test_a_killed_client_leaves_no_process(self):
        with self.popen("alice", "sh", "-c", "echo ready; sleep 9876; true") as process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            self.assertTrue(any("9876" in line for line in self.commands()))
            process.kill()
            process.communicate()
        wait_for(lambda: not any("9876" in line for line in self.commands()), "the command's end")
        wait_for(lambda: not self.fifos(), "the FIFOs to go")

    def test_it_wakes_a_sleeping_instance_and_keeps_it_awake(self):
        self.agent.ctr("get", "sleepy")
        self.agent.ctr("wait", "sleepy", "--for", "stopped")
        self.assertEqual(self.exec("sleepy", "sh", "-c", "sleep 5; echo done").stdout, "done\n")
        self.assertEqual(self.agent.json("inspect", "sleepy")["generation"], 2)
        events = self.agent.ctr("events", "sleepy", "--type", "exec", "-o", "jsonl").splitlines()
        self.assertTrue(all('"ctr exec by root' in event for event in events) and events, events)
        self.agent.ctr("wait", "sleepy", "--for", "stopped")

    def test_it_ends_with_its_instance(self):
        self.agent.ctr("get", "brief")
        with self.popen("brief", "sh", "-c", "echo ready; sleep 1000") as process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            self.agent.ctr("stop", "brief", "-t", "0")
            process.communicate(timeout=DEADLINE)
            self.assertEqual(process.returncode, 137)

    def test_a_background_process_does_not_hold_the_client(self):
        started = time.monotonic()
        self.assertEqual(self.exec("alice", "sh", "-c", "sleep 1357 & echo gone").stdout, "gone\n")
        self.assertLess(time.monotonic() - started, 30)
        self.exec("alice", "pkill", "-f", "sleep 1357")

    def test_output_that_is_read_late_does_not_wait_for_what_was_left_behind(self):
        with self.popen("alice", "sh", "-c", "sleep 1359 & seq 200000") as process:
            wait_for(lambda: is_pipe_full(process.pid), "the pipe to be full")
            out, _ = process.communicate(timeout=15)
            self.assertEqual(out.decode().splitlines(), [str(i) for i in range(1, 200001)])
        self.exec("alice", "pkill", "-f", "sleep 1359")

    def test_a_terminal_without_input_can_be_interrupted(self):
        terminal = self.terminal("exec", "-t", "alice", "--", "sh", "-c", "echo up; sleep 1000")
        terminal.expect("up")
        terminal.type("\x03")
        self.assertEqual(terminal.wait(), 130)

    def test_an_interactive_shell_on_a_terminal(self):
        terminal = self.terminal("exec", "-it", "alice", "--", "sh")
        terminal.expect("# ")
        terminal.type("stty size; echo $TERM; tty\n")
        terminal.expect("30 100\r\nxterm-test\r\n/dev/pts/")
        terminal.resize(40, 120)
        terminal.type('while [ "$(stty size)" != "40 120" ]; do sleep 0.1; done; echo resi""zed\n')
        terminal.expect("resized\r\n")
        terminal.expect("# ")
        terminal.type("sh -c 'echo sta\"\"rted; sleep 1000'\n")
        terminal.expect("started\r\n")
        terminal.type("\x03")
        terminal.expect("# ")
        terminal.type("echo status $?\n")
        terminal.expect("status 130\r\n")
        terminal.expect("# ")  # what is typed before, the shell may throw away
        terminal.type("\x04")  # the shell's status is its last command's
        self.assertEqual(terminal.wait(), 0)

    def test_a_terminal_is_restored_when_ctr_is_ended(self):
        terminal = self.terminal("exec", "-it", "alice", "--", "sh")
        terminal.expect("# ")
        wait_for(lambda: not termios.tcgetattr(terminal.master)[3] & termios.ECHO, "the terminal to be raw")
        os.kill(terminal.pid, signal.SIGTERM)
        wait_for(lambda: os.waitid(os.P_PID, terminal.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the end of ctr")
        self.assertTrue(termios.tcgetattr(terminal.master)[3] & termios.ECHO)
        self.assertEqual(terminal.wait(), 143)

    def test_z_an_agent_killed_meanwhile_leaves_no_process(self):
        with self.popen("alice", "sh", "-c", "echo ready; sleep 2468") as process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            self.agent.kill()
            _, err = process.communicate(timeout=DEADLINE)
            self.assertEqual(process.returncode, 125, err)
        self.agent.start()
        wait_for(lambda: not any("2468" in line for line in self.commands()), "the command's end")
        self.assertEqual(self.fifos(), [])
        self.assertEqual(self.exec("alice", "echo", "again").stdout, "again\n")


if __name__ == "__main__":
    unittest.main()
