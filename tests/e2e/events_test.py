"""What happened and why, from outside: events, why, stats, top, completion."""

import concurrent.futures
import fcntl
import http.client
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time
import unittest

from harness import BIN, DEADLINE, Case, wait_for

WEB = """
name = "web"
image = "demo:latest"
default_port = 8080
sleep_after = "never"
max_instances = 50
"""


class Follower:
    """`ctr events -f -o jsonl`, read as it comes."""

    def __init__(self, agent, *args):
        self.process = subprocess.Popen([BIN + "/ctr", "--host", agent.socket, "events", "-f", "-o", "jsonl", *args],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.events = []
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def types(self, id=None):
        return [event["type"] for event in list(self.events) if id is None or event["id"] == id]

    def end(self, how=signal.SIGINT):
        """Ends it as Ctrl-C would; gives the exit status as a shell shows it, and stderr."""
        if how:
            self.process.send_signal(how)
        status = self.process.wait(DEADLINE)
        self.thread.join(DEADLINE)
        stderr = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return 128 - status if status < 0 else status, stderr


class Base(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply(WEB)
        cls.agent.ctr("get", "first", "--no-start")
        cls.agent.environment["CTR_CLASS"] = "web"

    def events(self, *args):
        lines = self.agent.ctr("events", "-o", "jsonl", *args, env={"CTR_CLASS": ""}).splitlines()
        return [json.loads(line) for line in lines]


class Events(Base):
    def test_a_verb_is_the_cause_of_what_it_brings_about(self):
        self.agent.ctr("get", "made", "--no-start")
        created = self.events("web/made", "--type", "created")
        self.assertEqual(len(created), 1, created)
        self.assertTrue(created[0]["cause"].startswith("ctr get"), created)
        applied = [event for event in self.events("--type", "class_applied") if event["class"] == "web"]
        self.assertTrue(applied[0]["cause"].startswith("ctr class apply"), applied)
        self.assertIsNone(applied[0]["id"])

    def test_a_thousand_refusals_are_a_few_events_that_count_them(self):
        self.agent.apply(WEB.replace('"web"', '"shut"') + "manual_start = true\n")
        self.agent.ctr("get", "shut/a", "--no-start")

        def ask(_):
            connection = http.client.HTTPConnection("127.0.0.1", self.agent.port, timeout=DEADLINE)
            for _ in range(250):
                connection.request("GET", "/door", headers={"Host": "a.shut.localhost"})
                response = connection.getresponse()
                self.assertEqual((response.status, response.headers["Ctr-Error"]), (409, "manual_start"))
                response.read()
            connection.close()

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, range(4)))

        def told():
            found = self.events("shut/a", "--type", "refused")
            return found if len(found) > 1 else None

        found = wait_for(told, "the count of refusals")
        self.assertLessEqual(len(found), 6)
        self.assertTrue(found[0]["message"].startswith("manual_start: shut/a is stopped"), found)
        self.assertEqual(found[0]["cause"], "GET /door from 127.0.0.1")
        self.assertIn("more within 10s)", found[1]["message"])

    def test_requests_for_made_up_names_are_events_of_the_class_or_the_agent(self):
        self.assertEqual(self.agent.get(host="made-up.web.localhost")[0], 404)
        self.assertEqual(self.agent.get(host="a.made-up.localhost")[0], 404)
        found = wait_for(lambda: [event for event in self.events("--type", "refused")
                                  if event["message"].startswith("unknown_instance")], "the refusal")
        self.assertEqual((found[0]["class"], found[0]["id"]), ("web", None))
        found = wait_for(lambda: [event for event in self.events("--type", "refused")
                                  if event["message"].startswith("unknown_class")], "the refusal")
        self.assertEqual((found[0]["class"], found[0]["id"]), (None, None))

    def test_following_shows_what_was_and_what_comes_once_each(self):
        self.agent.ctr("get", "seen-before", "--no-start")
        follower = Follower(self.agent)
        wait_for(lambda: "created" in follower.types("seen-before"), "the history")
        for i in range(50):
            self.agent.ctr("get", f"live-{i}", "--no-start")
        wait_for(lambda: "created" in follower.types("live-49"), "what comes")
        created = [event["id"] for event in follower.events if event["type"] == "created"]
        self.assertEqual(len(created), len(set(created)))
        self.assertTrue({f"live-{i}" for i in range(50)} <= set(created))
        numbers = [event["number"] for event in follower.events]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(follower.end(), (130, ""))

    def test_following_one_instance_shows_no_other(self):
        follower = Follower(self.agent, "web/only")
        self.agent.ctr("get", "other", "--no-start")
        self.agent.ctr("get", "only", "--no-start")
        wait_for(lambda: follower.types("only"), "its event")
        self.assertEqual({event["id"] for event in follower.events}, {"only"})
        follower.end()

    def test_events_are_filtered_by_time_type_and_class(self):
        self.agent.ctr("get", "old", "--no-start")
        time.sleep(1.1)
        self.agent.ctr("get", "new", "--no-start")
        recent = {event["id"] for event in self.events("--since", "1s")}
        self.assertIn("new", recent)
        self.assertNotIn("old", recent)
        at = self.events("web/new")[0]["time"]
        self.assertEqual(self.events("web/new", "--since", at)[0]["id"], "new")
        self.assertEqual(self.events("web/old", "--since", at), [])
        self.assertEqual({event["type"] for event in self.events("--type", "created")}, {"created"})
        self.assertEqual({event["class"] for event in self.events("-c", "web")}, {"web"})
        self.assertEqual(len(self.events("-n", "1")), 1)
        table = self.agent.ctr("events", "web/new")
        self.assertEqual(table.splitlines()[0].split(), ["TIME", "TYPE", "INSTANCE", "MESSAGE"])
        self.assertExit(self.agent.ctr("events", "--since", "yesterday", check=False), 2, "--since", "10m")
        self.assertExit(self.agent.ctr("events", "--type", "sleep", check=False), 2, "\"sleep\"", "slept")

    def test_an_exec_is_an_event_with_its_command_in_any_script(self):
        self.agent.ctr("get", "spoken")
        self.agent.ctr("exec", "spoken", "--", "echo", "grüße 𝄞")
        self.assertIn("echo grüße 𝄞", self.events("web/spoken", "--type", "exec")[0]["message"])

    def test_a_completion_knows_what_there_is(self):
        self.agent.ctr("get", "completed", "--no-start")
        script = """
            source <("$CTR" completion bash)
            ask() { COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; _ctr; printf '%s\\n' "${COMPREPLY[@]}"; echo .; }
            ctr() { "$CTR" "$@"; }
            ask "ctr inspect compl"
            ask "ctr -c web inspect comp"
            ask "ctr inspect web/comp"
            ask "ctr class show w"
            ask "ctr image rm docker.io/library/demo:l"
            ask "ctr ls --output=jsonl"
            ask "ctr class ap"
            cd "$(mktemp -d)"; touch complain other; mkdir completely
            ask "ctr cp compl"
            ask "ctr cp complain completed:/et"
            rm complain other; rmdir completely "$PWD"
        """
        result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=DEADLINE,
                                env={**os.environ, "CTR": BIN + "/ctr", "CTR_HOST": self.agent.socket,
                                     "CTR_CLASS": "web"})
        self.assertEqual(result.stderr, "")
        self.assertEqual([sorted(part.split()) for part in result.stdout.split(".\n")][:9],
                         [["completed"], ["completed"], ["web/completed"], ["web"], ["latest"], ["jsonl"], ["apply"],
                          ["complain", "completed:", "completely/"], []])

    def test_completion_is_silent_without_an_agent(self):
        result = self.agent.ctr("--host", "unix:///nowhere.sock", "version", check=False)
        self.assertEqual(result.returncode, 5)
        result = subprocess.run([BIN + "/ctr", "__complete", "get", ""], capture_output=True, text=True,
                                env={**os.environ, "CTR_HOST": "unix:///nowhere.sock"}, timeout=DEADLINE)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))


class Life(Base):
    """What the steps of an instance's life leave in the log."""

    def test_a_request_that_wakes_is_the_cause_of_the_wake(self):
        self.agent.ctr("get", "woken", "--no-start")
        self.assertEqual(self.agent.get("/?hello", host="woken.web.localhost")[0], 200)
        wakes = self.events("web/woken", "--type", "wake")
        self.assertEqual([event["cause"] for event in wakes], ["GET /?hello from 127.0.0.1"])
        self.assertIn("woken by GET /?hello from 127.0.0.1", self.agent.ctr("why", "web/woken"))
        self.assertEqual(self.events("web/woken", "--type", "healthy")[0]["generation"], 1)

    def test_a_verb_that_starts_and_one_that_stops_are_the_causes(self):
        self.agent.ctr("start", "verbs")
        self.assertTrue(self.events("web/verbs", "--type", "wake")[0]["cause"].startswith("ctr start"))
        self.agent.ctr("stop", "verbs")
        why = self.agent.ctr("why", "web/verbs")
        self.assertRegex(why, r"web/verbs was stopped .* ago \(.*\) by ctr stop")
        types = [event["type"] for event in self.events("web/verbs")]
        self.assertLess(types.index("wake"), types.index("healthy"))
        self.assertLess(types.index("healthy"), types.index("stopped"))
        self.agent.ctr("destroy", "verbs")
        self.assertTrue(self.events("web/verbs", "--type", "destroyed")[0]["cause"].startswith("ctr destroy"))

    def test_sleeping_is_an_event_and_why_says_so(self):
        self.agent.apply(WEB.replace('"web"', '"tired"').replace('"never"', '"1s"'))
        self.agent.ctr("get", "tired/a")
        self.agent.ctr("wait", "tired/a", "--for", "stopped")
        self.assertEqual(len(self.events("tired/a", "--type", "slept")), 1)
        self.assertIn("nothing was active in it for sleep_after (1s)", self.agent.ctr("why", "tired/a"))

    def test_an_exit_is_an_event_with_its_code(self):
        self.agent.apply(WEB.replace('"web"', '"frail"') + 'restart = "never"\n')
        self.agent.ctr("get", "frail/a")
        self.agent.get("/exit/3", host="a.frail.localhost")
        self.agent.ctr("wait", "frail/a", "--for", "stopped")
        self.assertEqual([event["exit_code"] for event in self.events("frail/a", "--type", "exited")], [3])
        why = self.agent.ctr("why", "frail/a")
        self.assertIn("with status 3.", why)
        self.assertIn('restart = "never"', why)
        self.assertIn("exited (3)", self.agent.ctr("ls", "-a", "-c", "frail"))


class Restarted(Base):
    def test_events_outlive_a_kill_and_their_numbers_ascend(self):
        follower = Follower(self.agent)
        self.agent.ctr("get", "before", "--no-start")
        wait_for(lambda: follower.types("before"), "the event")
        shown = follower.events[-1]["number"]
        self.agent.kill()
        self.assertEqual(follower.end(how=None)[0], 5)
        self.assertIn("cannot reach the agent", follower.events.pop()["error"]["message"])
        self.agent.start()
        self.agent.ctr("get", "after", "--no-start")
        events = self.events()
        self.assertGreater(events[-1]["number"], shown)
        numbers = [event["number"] for event in events]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertIn("first", {event["id"] for event in events})
        following = Follower(self.agent)
        wait_for(lambda: following.types("after"), "the history")
        self.agent.stop()
        status, stderr = following.end(how=None)
        self.assertEqual(status, 5)
        self.assertIn("as it does when it stops", following.events.pop()["error"]["message"])
        self.assertEqual(following.events[-1]["type"], "agent_stopped")
        self.agent.start()
        ends = [event["type"] for event in self.events() if event["type"].startswith("agent_")]
        self.assertEqual(ends, ["agent_started", "agent_started", "agent_stopped", "agent_started"])


class Usage(Base):
    def stats(self, *args):
        return {row["id"]: row for row in self.agent.json("stats", *args)}

    def test_stats_show_who_is_busy_and_what_was_served(self):
        self.agent.ctr("get", "busy")
        self.agent.ctr("get", "idle")
        for _ in range(20):
            self.agent.get(host="idle.web.localhost")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            computing = pool.submit(self.agent.get, "/cpu/8", "busy.web.localhost")
            wait_for(lambda: self.stats()["busy"]["in_flight"] == 1, "the request")
            rows = self.stats()
            computing.result()
        self.assertGreater(rows["busy"]["cpu_percent"], 5)
        self.assertGreater(rows["busy"]["cpu_percent"], 4 * rows["idle"]["cpu_percent"])
        self.assertGreater(rows["busy"]["memory_bytes"], 50_000)
        self.assertGreaterEqual(rows["busy"]["processes"], 1)
        self.assertEqual(rows["idle"]["requests"], 20)
        self.assertNotIn("first", rows)
        self.assertIsNone(self.stats("-a")["first"]["memory_bytes"])
        self.assertEqual(list(self.stats("web/idle")), ["idle"])
        self.assertIn("web/idle", self.agent.ctr("top"))

    def test_stats_show_the_memory_limit(self):
        self.agent.apply(WEB.replace('"web"', '"small"') + '[resources]\nmemory = "64MiB"\ncpus = 0.5\n')
        self.agent.ctr("get", "small/a")
        row = self.stats("small/a")["a"]
        self.assertEqual((row["memory_limit_bytes"], row["cpu_limit"]), (64 << 20, 0.5))

    def test_stats_of_what_is_not_there(self):
        self.assertExit(self.agent.ctr("stats", "nobody", check=False), 3, "nobody")


class Terminal:
    """A command on a pseudo terminal, run by a shell, which then tells its exit status and how the terminal is set."""

    SCRIPT = 'trap : INT QUIT; "$@"; echo "status $?"; stty -a; echo end; read line'

    def __init__(self, agent, *args, rows=24, columns=100):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.shell = subprocess.Popen(["sh", "-c", self.SCRIPT, "sh", BIN + "/ctr", "--host", agent.socket, *args],
                                      stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"},
                                      start_new_session=True,
                                      preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.output = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            self.output += os.read(self.master, 65536).decode()
        return self.output

    def write(self, keys):
        os.write(self.master, keys)

    def end(self):
        """The command's exit status, and what it wrote since it gave the screen back."""
        wait_for(lambda: self.read().endswith("end\r\n"), "the command's end")
        shown, _, told = self.output.rpartition("status ")
        assert " icanon " in told and " echo " in told, told
        assert shown.count("\x1b[?1049h") == shown.count("\x1b[?1049l") == shown.count("\x1b[?25h"), shown
        self.write(b"\n")
        self.shell.wait(DEADLINE)
        os.close(self.master)
        return int(told.split()[0]), shown.rpartition("\x1b[?1049l")[2]


class Top(Base):
    def setUp(self):
        self.agent.ctr("get", "shown")

    def test_top_refreshes_and_q_gives_the_terminal_back(self):
        top = Terminal(self.agent, "top")
        wait_for(lambda: top.read().count("web/shown") >= 2, "a second picture")
        self.assertIn("\x1b[?1049h", top.output)
        top.write(b"q")
        self.assertEqual(top.end(), (0, ""))

    def test_ctrl_c_ends_top_with_130_and_gives_the_terminal_back(self):
        top = Terminal(self.agent, "top")
        wait_for(lambda: "web/shown" in top.read(), "the picture")
        top.write(b"\x03")
        self.assertEqual(top.end()[0], 130)

    def test_ctrl_backslash_too_gives_the_terminal_back(self):
        top = Terminal(self.agent, "top")
        wait_for(lambda: "web/shown" in top.read(), "the picture")
        top.write(b"\x1c")
        self.assertEqual(top.end()[0], 131)

    def test_top_follows_the_terminals_size(self):
        top = Terminal(self.agent, "top", columns=30)
        wait_for(lambda: "web/shown" in top.read(), "the picture")
        self.assertNotIn("REQUESTS", top.output)
        top.resize(24, 150)
        wait_for(lambda: "REQUESTS" in top.read(), "the wider picture")
        top.write(b"q")
        self.assertEqual(top.end(), (0, ""))

    def test_an_agent_that_goes_ends_top_with_a_message_on_the_usual_screen(self):
        top = Terminal(self.agent, "top")
        wait_for(lambda: "web/shown" in top.read(), "the picture")
        self.agent.kill()
        status, after = top.end()
        self.agent.start()
        self.assertEqual(status, 5)
        self.assertIn("ctr: cannot reach the agent", after)


if __name__ == "__main__":
    unittest.main()
