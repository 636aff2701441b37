"""Entrypoints that do not go quietly: deaf to their signal, with children, out of memory, with a signal of their own."""

import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
import time

import audit
from harness import BIN, DEMO, wait_for
from kills import small

GRACE = 1.0  # seconds

FAMILY = """trap '' TERM HUP
sleep 1000 &
setsid sleep 1000 &
(setsid sh -c 'trap "" TERM HUP INT; sleep 1000 & sleep 1000 & wait' &)
(setsid sh -c '(setsid sleep 1000 &) ; exit 0' &)
exec /bin/server"""


def shell(text):
    return f"entrypoint = {json.dumps(['/bin/sh', '-c', text])}\n"


def deaf(agent):
    """One that ignores SIGTERM is gone at the grace and a second. Gives the seconds that the stop took."""
    agent.apply(small("deaf", f'stop_grace = "{GRACE:.0f}s"\nenv = {{ IGNORE_TERM = "1" }}'))
    agent.ctr("get", "deaf/a")
    pid = agent.json("inspect", "deaf/a")["pid"]
    start = audit.began(pid)
    begin = time.monotonic()
    stop = subprocess.Popen([BIN + "/ctr", "--host", agent.socket, "stop", "deaf/a"], stdout=subprocess.DEVNULL)
    wait_for(lambda: audit.began(pid) != start, "SIGKILL")
    elapsed = time.monotonic() - begin
    if stop.wait(60) != 0:
        raise AssertionError("ctr stop fails on one that ignores SIGTERM")
    shown = agent.json("inspect", "deaf/a")
    if (shown["state"], shown["reason"], shown["exit_code"]) != ("stopped", "requested", 137):
        raise AssertionError(f"a deaf one is recorded as {shown['state']} {shown['reason']} {shown['exit_code']}")
    if elapsed < GRACE:
        raise AssertionError(f"it was killed after {elapsed:.2f} s, before its grace of {GRACE} s")
    return elapsed


def family(agent):
    """One that forks, with children in sessions of their own and orphans, leaves none of them. Gives their number."""
    agent.apply(small("family", f'stop_grace = "{GRACE:.0f}s"\n' + shell(FAMILY)))
    agent_id = agent.json("info")["agent_id"]
    count = 0
    for how in ("stop", "restart", "destroy"):
        agent.ctr("get", "family/a")
        container = agent.json("inspect", "family/a")["container_id"]
        wait_for(lambda: len(audit.processes_of(agent_id)[container]) >= 6, "its children")
        pids = {pid: audit.began(pid) for pid in audit.processes_of(agent_id)[container]}
        agent.ctr(how, "family/a")
        left = [pid for pid, start in pids.items() if start and audit.began(pid) == start]
        if left:
            raise AssertionError(f"after ctr {how}, {len(left)} of {len(pids)} processes are left: "
                                 f"{[open(f'/proc/{pid}/cmdline').read() for pid in left]}")
        count += len(pids)
    audit.assert_clean(agent)
    return count


def out_of_memory(agent):
    """One that takes more memory than its limit says so; whether it is the first process itself or a child that it waits for."""
    for name, entrypoint in (("itself", '["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"]'),
                             ("late", '["/bin/sh", "-c", "sleep 0.5; exec dd if=/dev/zero of=/dev/null bs=256M count=1"]')):
        agent.apply(f'name = "hungry-{name}"\nimage = "demo:latest"\nentrypoint = {entrypoint}\n'
                    '[resources]\nmemory = "16MiB"\n')
        agent.ctr("get", f"hungry-{name}/a")
        code = agent.ctr("wait", f"hungry-{name}/a", "--for", "stopped")
        shown = agent.json("inspect", f"hungry-{name}/a")
        if (shown["reason"], shown["exit_code"], code) != ("oom_killed", 137, "137"):
            raise AssertionError(f"{name}, out of memory, is recorded as {shown['reason']} {shown['exit_code']}")


def stop_signals(agent):
    """The class's signal, by name and by number, and the image's; a number is given by `ctr stop`, too."""
    text = "trap 'exit 41' USR1; trap 'exit 42' USR2; trap 'exit 43' TERM; trap 'exit 44' INT; trap 'exit 45' 37; echo ready; while :; do sleep 0.05; done"

    def stopped(name, *flags):
        agent.ctr("get", f"{name}/a")
        wait_for(lambda: "ready" in agent.ctr("logs", f"{name}/a"), "the shell's traps")
        agent.ctr("stop", f"{name}/a", *flags)
        return agent.json("inspect", f"{name}/a")["exit_code"]

    job = 'name = "{name}"\nimage = "{image}"\n' + shell(text)
    for n, (signal, code) in enumerate((('"SIGUSR1"', 41), ('"USR2"', 42), ('"12"', 42), ("10", 41), ('"sigint"', 44))):
        agent.apply(job.format(name=f"signal{n}", image="demo:latest") + f"stop_signal = {signal}\n")
        if stopped(f"signal{n}") != code:
            raise AssertionError(f"stop_signal = {signal} is not what was sent")
    for stop_signal, code in (("SIGUSR1", 41), ("12", 42), ("SIGRTMIN+3", 45)):
        image = "signal-" + stop_signal.lower().replace("+", "-")
        with tempfile.TemporaryDirectory() as folder:
            import_as(agent, image, changed_image(folder, StopSignal=stop_signal))
        agent.apply(job.format(name=image, image=image))
        if stopped(image) != code:
            raise AssertionError(f"the image's STOPSIGNAL {stop_signal} is not what was sent")
    agent.apply(job.format(name="flags", image="demo:latest"))
    for flag, code in (("USR1", 41), ("SIGUSR2", 42), ("2", 44), ("TERM", 43)):
        if stopped("flags", "--signal", flag) != code:
            raise AssertionError(f"ctr stop --signal {flag} sends another")


def import_as(agent, name, archive):
    agent.ctr("image", "import", archive, "--name", name)


def changed_image(folder, **changes):
    """The demo image with other settings in its config; gives the archive's path."""
    with tarfile.open(DEMO) as archive:
        archive.extractall(folder, filter="data")
    blob = lambda digest: os.path.join(folder, "blobs", *digest.split(":"))

    def put(text):
        digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        with open(blob(digest), "w") as file:
            file.write(text)
        return {"digest": digest, "size": len(text)}

    with open(os.path.join(folder, "index.json")) as file:
        index = json.load(file)
    with open(blob(index["manifests"][0]["digest"])) as file:
        manifest = json.load(file)
    with open(blob(manifest["config"]["digest"])) as file:
        config = json.load(file)
    config["config"].update(changes)
    manifest["config"].update(put(json.dumps(config)))
    index["manifests"][0].update(put(json.dumps(manifest)))
    with open(os.path.join(folder, "index.json"), "w") as file:
        json.dump(index, file)
    path = os.path.join(folder, "changed.tar")
    with tarfile.open(path, "w") as archive:
        for name in ("oci-layout", "index.json", "blobs"):
            archive.add(os.path.join(folder, name), name)
    return path
