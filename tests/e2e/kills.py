"""Kills with -9, from outside: of the agent, of its containerd, of shims, and of what runs inside meanwhile."""

import concurrent.futures
import os
import random
import signal
import statistics
import subprocess
import time

import audit
from harness import DEADLINE, read, wait_for
from load import Load

SMALL = """
name = "{name}"
image = "demo:latest"
default_port = 8080
sleep_after = "never"
max_instances = 500
start_timeout = "60s"
{more}
[resources]
cpus = 0.5
memory = "32MiB"
"""


def small(name, more=""):
    return SMALL.format(name=name, more=more)


def get_all(agent, names, at_once=8):
    """`ctr get` of every name; gives the seconds that each took."""
    def get(name):
        begin = time.monotonic()
        agent.ctr("get", name, "--timeout", "120s", timeout=150)
        return time.monotonic() - begin

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(get, names))


def fill(agent, count):
    """`count` healthy instances of two classes; gives their names."""
    agent.apply(small("web"))
    agent.apply(small("api", 'env = { ROLE = "api" }'))
    names = [f"{('web', 'api')[n % 2]}/i{n}" for n in range(count)]
    get_all(agent, names)
    return names


def host_of(name):
    class_name, id = name.split("/")
    return f"{id}.{class_name}.localhost"


def until_served(agent, name):
    """Seconds until an instance answers."""
    begin = time.monotonic()

    def answered():
        try:
            return agent.get(host=host_of(name), timeout=5)[0] == 200
        except OSError:
            return False

    wait_for(answered, f"{name} to be served again", pause=0.001)
    return time.monotonic() - begin


def spread(seconds):
    ms = [s * 1000 for s in seconds]
    return f"min {min(ms):.0f}, median {statistics.median(ms):.0f}, max {max(ms):.0f} ms"


def assert_same(before, after):
    """No instance lost, restarted or doubled: the same generation, container, pid and process of each."""
    changed = [f"{name}: {before.get(name)} became {after.get(name)}" for name in sorted(before.keys() | after.keys())
               if before.get(name) != after.get(name)]
    if changed:
        raise AssertionError(f"{len(changed)} instances changed, such as {changed[0]}")


def assert_all_served(agent, names):
    for name in names:
        status, _, body = agent.get(host=host_of(name))
        if status != 200:
            raise AssertionError(f"{name} answers {status}: {body[:200]!r}")


def kill_agent(agent, names, kills, limit=None, say=lambda text: None):
    """Kills the agent and starts it again, `kills` times, under load. Afterwards every instance is the one it was.
    `limit`: seconds within which it must serve again each time, from the exec of the new agent."""
    before = audit.identity(agent)
    chance = random.Random(1)
    times = []
    with Load(agent, names) as load:
        for n in range(kills):
            time.sleep(chance.uniform(0, 0.5))
            agent.kill()
            agent.spawn()
            times.append(until_served(agent, chance.choice(names)))
            gone = [name for name, (_, _, pid, began) in before.items() if audit.began(pid) != began]
            if gone:
                raise AssertionError(f"after kill {n + 1}: {len(gone)} processes are gone, such as that of {gone[0]}")
            say(f"kill {n + 1}: served again after {times[-1] * 1000:.0f} ms")
    agent.await_ready()
    load.assert_right()
    assert_same(before, audit.identity(agent))
    assert_all_served(agent, names)
    audit.assert_clean(agent, processes_each=1)
    late = [t for t in times if limit and t > limit]
    if late:
        raise AssertionError(f"not served again within {limit} s {len(late)} times of {kills}: {spread(times)}")
    return f"{kills} kills, {len(names)} instances; served again: {spread(times)}; load: {load}"


def containerd_pid(agent):
    return int(read(agent.data + "/containerd/containerd.pid"))


def answers(agent):
    info = agent.json("info")
    return subprocess.run([audit.CONTAINERD_CTR, "--address", info["containerd_socket"], "--connect-timeout", "1s",
                           "version"], capture_output=True, timeout=DEADLINE).returncode == 0


def kill_containerd(agent, names, kills, say=lambda text: None):
    """Kills the private containerd, `kills` times, under load: no request fails, and a new instance starts afterwards."""
    before = audit.identity(agent)
    chance = random.Random(2)
    times = []
    with Load(agent, names) as load:
        for n in range(kills):
            time.sleep(chance.uniform(0, 0.5))
            pid = containerd_pid(agent)
            begin = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: containerd_pid(agent) != pid and answers(agent), "another containerd", pause=0.02)
            times.append(time.monotonic() - begin)
            wait_for(lambda: agent.ctr("get", f"web/new{n}", check=False).returncode == 0, "a new instance", pause=0.1)
            agent.ctr("destroy", f"web/new{n}")
            say(f"kill {n + 1}: containerd answers after {times[-1] * 1000:.0f} ms")
    load.assert_right()
    if load.cut:
        raise AssertionError(f"connections were cut although the agent ran on: {load}")
    assert_same(before, audit.identity(agent))
    audit.assert_clean(agent, processes_each=1)
    return f"{kills} kills, {len(names)} instances; containerd back: {spread(times)}; load: {load}"


def kill_shims(agent, names):
    """Kills shims: their instances' exits are noticed, nothing of them stays, and the next request starts them again."""
    served = audit.shims(agent.json("info")["containerd_socket"])
    before = audit.instances(agent)
    for name in names:
        for pid in served[before[name]["container_id"]]:
            os.kill(pid, signal.SIGKILL)
    for name in names:
        wait_for(lambda: agent.json("inspect", name)["container_id"] != before[name]["container_id"],
                 f"the end of {name}'s shim to be noticed", pause=0.1)
        wait_for(lambda: audit.began(before[name]["pid"]) is None, f"the process of {name} to be gone", pause=0.1)
        until_served(agent, name)
    audit.assert_clean(agent, processes_each=1)
    return f"{len(names)} shims killed"
