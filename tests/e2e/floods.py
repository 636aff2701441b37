"""Much of something: starts at once, output without end, a process that always fails. What it costs is measured, too."""

import os
import time

import audit
from harness import wait_for
from kills import get_all, host_of, small, spread

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a process and of its children that have ended and were waited for."""
    with open(f"/proc/{pid}/stat") as file:
        return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:15])) / TICKS


def resident_mib(pid, key="VmRSS"):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024


def folder_bytes(path):
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except FileNotFoundError:  # rotated away
                continue
    return total


def start_storm(agent, count):
    """`ctr get` of `count` different IDs at once: all succeed."""
    agent.apply(small("storm"))
    names = [f"storm/i{n}" for n in range(count)]
    begin = time.monotonic()
    times = get_all(agent, names, at_once=count)
    elapsed = time.monotonic() - begin
    shown = audit.instances(agent)
    wrong = [name for name in names if (shown[name]["state"], shown[name]["generation"]) != ("healthy", 1)]
    if wrong:
        raise AssertionError(f"{len(wrong)} of {count} were not started once and healthy, such as {shown[wrong[0]]}")
    audit.assert_clean(agent, processes_each=1)
    return f"{count} gets at once in {elapsed:.1f} s; each: {spread(times)}"


def crash_loop(agent, seconds=20):
    """One that fails at once, again and again: starts get rarer, it costs next to nothing, and a request is told when to
    come again."""
    agent.apply(small("loop", 'restart = "always"\nentrypoint = ["/bin/sh", "-c", "exit 3"]'))
    failed = agent.ctr("get", "loop/a", check=False)
    if failed.returncode != 1 or "exited with status 3" not in failed.stderr:
        raise AssertionError(f"ctr get of one that exits at once: {failed.returncode} {failed.stderr}")
    # Not the first few, quick ones.
    wait_for(lambda: agent.json("inspect", "loop/a")["generation"] >= 5, "the first restarts", pause=0.1)
    watched = [agent.process.pid, int(open(agent.data + "/containerd/containerd.pid").read())]
    before, first = sum(map(cpu_seconds, watched)), agent.json("inspect", "loop/a")["generation"]
    end = time.monotonic() + seconds
    answers = set()
    while time.monotonic() < end:
        status, headers, _ = agent.get(host=host_of("loop/a"))
        answers.add((status, headers["Ctr-Error"], headers["Retry-After"] is not None))
        time.sleep(0.5)
    cpu = sum(map(cpu_seconds, watched)) - before
    shown = agent.json("inspect", "loop/a")
    starts = shown["generation"] - first
    if answers != {(502, "start_failed", True)}:
        raise AssertionError(f"requests during the backoff are answered {answers}")
    if starts > seconds / 2:
        raise AssertionError(f"{starts} starts in {seconds} s: nothing backs off")
    if not shown.get("next_start"):
        raise AssertionError(f"inspect tells no next start: {shown}")
    why = agent.ctr("why", "loop/a")
    agent.ctr("destroy", "loop/a")
    audit.assert_clean(agent)
    return f"{starts} starts in {seconds} s, agent and containerd {cpu:.2f} s of CPU; ctr why: {why.splitlines()[0]}"


FLOOD = """
name = "flood"
image = "demo:latest"
sleep_after = "never"
entrypoint = ["/bin/sh", "-c", "yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz"]
[log]
max_size = "4MiB"
files = 3
"""


def log_flood(agent, minutes, say=lambda text: None):
    """One that writes without end: the disk holds what the class says and no more, and the agent does not grow."""
    agent.apply(FLOOD)
    agent.ctr("get", "flood/a")
    folder = os.path.dirname(agent.data + "/logs/flood/a/")
    bound = 3 * (4 << 20) + (64 << 10)
    time.sleep(5)
    pid = agent.process.pid
    cpu, start, begin = cpu_seconds(pid), resident_mib(pid), time.monotonic()
    largest, most, seen = 0, start, set()
    while time.monotonic() < begin + minutes * 60:
        time.sleep(0.2)
        seen.update(os.listdir(folder))
        size, memory = folder_bytes(folder), resident_mib(pid)
        largest, most = max(largest, size), max(most, memory)
        if size > bound:
            raise AssertionError(f"{folder} holds {size} bytes; three files of 4 MiB are {3 << 22}")
        if memory > start + 16:
            raise AssertionError(f"the agent grew from {start:.1f} to {memory:.1f} MiB")
    elapsed = time.monotonic() - begin
    files = sum(name.endswith(".log") for name in seen)
    if files < 4:
        raise AssertionError(f"only {files} log files were ever there: it was no flood")
    last = agent.ctr("logs", "--tail", "3", "flood/a").splitlines()
    if len(last) != 3 or any(len(line) != 72 for line in last[:2]):
        raise AssertionError(f"the last lines are {last}")
    agent.ctr("destroy", "flood/a")
    audit.assert_clean(agent)
    return (f"{minutes} min: {files} files of 4 MiB came by (about {files * 4 / elapsed:.0f} MiB/s), at most "
            f"{largest / 2**20:.1f} MiB on disk; agent's RSS {start:.1f} at first, {most:.1f} at most, CPU "
            f"{(cpu_seconds(pid) - cpu) / elapsed * 100:.1f} %")
