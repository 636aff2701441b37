"""Exits that happen while the agent, containerd or both are away: each must be recorded with its code and its reason."""

import os
import signal
import subprocess

import audit
from harness import DEADLINE, wait_for
from kills import containerd_pid, host_of, small

OUTAGES = ("none", "agent", "containerd", "both")

# How a process ends: what makes it end, given its pid on the host; the exit status that is right; and its class.
ASK = "nsenter --net=/proc/{pid}/ns/net curl --silent --max-time 5 http://127.0.0.1:8080/{page}"
ENDS = {
    "zero": (lambda pid: ask(pid, "exit/0"), 0, "served"),
    "seven": (lambda pid: ask(pid, "exit/7"), 7, "served"),
    "crash": (lambda pid: ask(pid, "crash"), 128 + signal.SIGSEGV, "served"),
    "kill": (lambda pid: os.kill(pid, signal.SIGKILL), 128 + signal.SIGKILL, "served"),
    "trap": (lambda pid: os.kill(pid, signal.SIGUSR1), 9, "job"),
    "done": (lambda pid: os.kill(pid, signal.SIGUSR2), 0, "job"),
}
JOB = """
name = "job"
image = "demo:latest"
max_instances = 100
entrypoint = ["/bin/sh", "-c", "trap 'exit 9' USR1; trap 'exit 0' USR2; while :; do sleep 0.05; done"]
"""


def ask(pid, page):
    """Asks a demo server for a page from within its own network namespace: past the agent, which may be away."""
    subprocess.run(ASK.format(pid=pid, page=page).split(), capture_output=True, timeout=DEADLINE, check=False)


def gone(pid, began):
    """True once a process has ended; one that nobody has reaped yet has ended, too."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z" or audit.began(pid) != began
    except (FileNotFoundError, ProcessLookupError):
        return True


def miss(agent, outage, rounds=1):
    """Has a process end in each way while something is away, `rounds` of each; afterwards each exit is recorded right, and
    what serves is served again, by a next start."""
    agent.apply(small("served", 'restart = "never"'))
    agent.apply(JOB)
    names = {f"{class_name}/{end}-{outage}-{n}": end for end, (_, _, class_name) in ENDS.items() for n in range(rounds)}
    for name in names:
        agent.ctr("get", name)
    before = audit.identity(agent)
    if outage in ("agent", "both"):
        agent.kill()
    if outage in ("containerd", "both"):
        os.kill(containerd_pid(agent), signal.SIGKILL)
    for name, end in names.items():
        ENDS[end][0](before[name][2])
    for name in names:
        wait_for(lambda: gone(*before[name][2:]), f"the process of {name} to end")
    if outage in ("agent", "both"):
        agent.start()
    for name, end in names.items():
        code = ENDS[end][1]
        wait_for(lambda: agent.json("inspect", name)["state"] == "stopped", f"the exit of {name} to be recorded", pause=0.1)
        shown = agent.json("inspect", name)
        if (shown["reason"], shown["exit_code"], shown["generation"]) != ("exited", code, before[name][0]):
            raise AssertionError(f"{name} exited with {code} while {outage} was away; recorded is {shown['reason']} "
                                 f"{shown['exit_code']}, generation {shown['generation']}")
    for name, end in names.items():
        if ENDS[end][2] == "served":
            status = agent.get(host=host_of(name))[0]
            if status != 200 or agent.json("inspect", name)["generation"] != before[name][0] + 1:
                raise AssertionError(f"{name} is not started again by a request: it answers {status}")
    audit.assert_clean(agent)
    for name in names:
        agent.ctr("destroy", name)
    return f"{len(names)} exits while {outage} was away"
