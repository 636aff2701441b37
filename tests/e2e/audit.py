"""Compares what the state knows with what is on the host, from outside: containerd's own client, /proc and the cgroups.

`differences(agent)` gives one line for each thing that exists and that the state does not know, and for each that the state
knows and that does not exist. It is exact at rest only; `assert_clean` gives an agent at work the time to come to rest.
"""

import collections
import hashlib
import json
import os
import re
import subprocess

from harness import DEADLINE, read, route_owner, wait_for

CONTAINERD_CTR = "/usr/bin/ctr"
LIVE = ("starting", "running", "healthy", "frozen", "stopping")


def listdir(path):
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def containerd(info, *args):
    """Runs containerd's debug client in the agent's namespace; gives the lines after the heading, as words."""
    result = subprocess.run([CONTAINERD_CTR, "--address", info["containerd_socket"], "--namespace",
                             info["containerd_namespace"], *args], capture_output=True, text=True, timeout=DEADLINE)
    if result.returncode != 0:
        raise AssertionError(f"containerd's ctr {' '.join(args)}: {result.stderr.strip()}")
    return [line.split() for line in result.stdout.splitlines()[1:] if line.strip()]


def processes():
    """(pid, arguments) of every process; one that ends meanwhile is left out."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                yield int(name), file.read().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue


def shims(socket):
    """Container ID -> pids of the shims that serve this containerd."""
    found = collections.defaultdict(list)
    for pid, arguments in processes():
        if "containerd-shim" in arguments[0] and "-address" in arguments:
            if arguments[arguments.index("-address") + 1] == socket:
                found[arguments[arguments.index("-id") + 1]].append(pid)
    return found


def loggers(agent):
    """Folders below the agent's data directory that a ctr-logger writes to, one for each logger."""
    return [word for _, arguments in processes() if arguments[0].endswith("/ctr-logger")
            for word in arguments if word.startswith(agent.data + "/")]


def cgroups(agent_id):
    """Container ID -> its cgroup's folder in each hierarchy."""
    found = collections.defaultdict(list)
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        if folder.endswith(f"/ctr/{agent_id}"):
            for name in folders:
                if name != "agent":  # its threads that carry traffic
                    found[name].append(os.path.join(folder, name))
            folders.clear()
    return found


def processes_of(agent_id):
    """Container ID -> pids, by the cgroups that the processes say they are in."""
    found = collections.defaultdict(set)
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            text = read(f"/proc/{name}/cgroup")
        except (FileNotFoundError, ProcessLookupError):
            continue
        for container in set(re.findall(rf"/ctr/{agent_id}/([0-9a-z]+)", text)):
            found[container].add(int(name))
    return found


def mounts(root):
    """Mount points below a folder."""
    with open("/proc/self/mountinfo") as file:
        return [point for point in (line.split()[4] for line in file) if point.startswith(root + "/")]


def network_namespaces(pid):
    """Inodes of the network namespaces that a process holds open, its own left out."""
    own = os.readlink(f"/proc/{pid}/ns/net")
    found = []
    for name in listdir(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if link.startswith("net:[") and link != own:
            found.append(link)
    return found


def interfaces(agent):
    """Container ID -> its interface on the host, of every one that this agent made."""
    prefix = f"ctr{agent.json('info')['agent_id'][:7]}-"
    shown = subprocess.run(["nsenter", f"--net=/proc/{agent.process.pid}/ns/net", "ip", "-j", "link"], capture_output=True,
                           text=True, check=True, timeout=DEADLINE).stdout
    return {link.get("altnames", ["ctr-of nobody"])[0].removeprefix("ctr-"): link["ifname"]
            for link in json.loads(shown) if link["ifname"].startswith(prefix)}


def network(agent, agent_id):
    """What is wrong with what there must be of the network for the interfaces that there are: exactly one table, one claim of a
    network, and one route to each interface."""
    within = ["nsenter", f"--net=/proc/{agent.process.pid}/ns/net"]
    show = lambda *command: subprocess.run([*within, *command], capture_output=True, text=True, check=True, timeout=DEADLINE).stdout
    tables = [line for line in show("nft", "list", "tables").splitlines() if line.endswith(f"ctr-{agent_id}")]
    routes = json.loads(show("ip", "-j", "-4", "route", "show", "table", "all", "proto", "119") or "[]")
    claims = [None for route in routes if route.get("metric") == route_owner(agent_id)]
    inward = [route["dev"] for route in routes if route.get("dev", "").startswith(f"ctr{agent_id[:7]}-")]
    return (compare("table of rules", [f"table inet ctr-{agent_id}"], tables) + compare("claim of a network", [None], claims) +
            compare("route to an interface", interfaces(agent).values(), inward))


def with_internet(agent):
    """Names of the classes whose instances have a way out."""
    return [c["name"] for c in agent.json("class", "ls") if json.loads(agent.ctr("class", "show", c["name"], "-o", "json"))
            ["settings"]["network"]["internet"]]


def shim_sockets(info, container_ids):
    """The sockets of these containers' shims that lie outside of the agent's folders (containerd derives the name)."""
    found = []
    for container in container_ids:
        name = "/".join((info["containerd_socket"], info["containerd_namespace"], container))
        path = "/run/containerd/s/" + hashlib.sha256(name.encode()).hexdigest()
        if os.path.exists(path):
            found.append(container)
    return found


def containers_ever(agent):
    """Every container that this agent's private containerd says in its log that it started a shim for."""
    text = read(agent.data + "/containerd/containerd.log")
    return set(re.findall(r'msg="starting signal loop".* path=\S+/([0-9a-z]{26}) ', text))


def instances(agent):
    """"class/id" -> what `ctr inspect` says, of every ID that the state knows."""
    return {f"{i['class']}/{i['id']}": agent.json("inspect", f"{i['class']}/{i['id']}") for i in agent.json("ls", "-a")}


def compare(what, expected, found):
    """One line for each difference of two lists; what is there twice counts twice."""
    expected, found = collections.Counter(list(expected)), collections.Counter(list(found))
    return ([f"{what}: {name} is missing" for name in sorted((expected - found).elements(), key=str)] +
            [f"{what}: {name} is unknown to the state" for name in sorted((found - expected).elements(), key=str)])


def differences(agent, processes_each=None, keep_disk=()):
    """What differs between state and host. `processes_each`: how many processes a live container must have, if that is
    known; `keep_disk`: the names of classes with disk = "keep". The agent has a private containerd and is running."""
    info = agent.json("info")
    known = instances(agent)
    live = {name: i for name, i in known.items() if i["state"] in LIVE}
    unsettled = [f"{name} is {i['state']}" for name, i in live.items() if i["state"] not in ("healthy", "running", "frozen")]
    by_id = {i["container_id"]: i for i in live.values() if i["container_id"]}
    ids = list(by_id)
    namespace, state = info["containerd_namespace"], agent.run + "/containerd/state/io.containerd.runtime.v2.task"

    found = unsettled
    found += [f"{name} is live and has no container" for name, i in live.items() if not i["container_id"]]
    found += compare("container", ids, [words[0] for words in containerd(info, "containers", "ls")])
    found += compare("task", [(i, str(by_id[i]["pid"]), "RUNNING") for i in ids],
                     [tuple(words[:3]) for words in containerd(info, "tasks", "ls")])
    snapshots = containerd(info, "snapshots", "--snapshotter", "overlayfs", "ls")
    disks = [words[0] for words in snapshots if words[-1] == "Active" and words[0].startswith("disk.")]
    kept = [f"disk.{i['class']}.{i['id']}" for i in known.values() if i["class"] in keep_disk and i["generation"] > 0]
    found += compare("kept disk", kept, disks)
    found += compare("snapshot", [i for i in ids if by_id[i]["class"] not in keep_disk],
                     [words[0] for words in snapshots if words[-1] == "Active" and words[0] not in disks])
    found += compare("folder of a snapshot", [None] * len(snapshots),
                     [None for _ in listdir(agent.data + "/containerd/root/io.containerd.snapshotter.v1.overlayfs/snapshots")])
    found += compare("lease", [], [words[0] for words in containerd(info, "leases", "ls")])
    found += compare("mount", [f"{state}/{namespace}/{i}/rootfs" for i in ids], mounts(agent.root))
    for folder in (f"{state}/{namespace}", f"{agent.run}/containerd/runc/{namespace}",
                   f"{agent.data}/containerd/root/io.containerd.runtime.v2.task/{namespace}"):
        found += compare(f"entry of {folder}", ids, listdir(folder))
    shims_now = shims(info["containerd_socket"])
    found += compare("shim", ids, [i for i, pids in shims_now.items() for _ in pids])
    found += compare("shim's socket", ids, shim_sockets(info, set(ids) | containers_ever(agent)))
    found += compare("interface", [i for i in ids if by_id[i]["class"] in with_internet(agent)], interfaces(agent))
    found += network(agent, info["agent_id"])
    groups = cgroups(info["agent_id"])
    found += compare("cgroup", ids, groups)
    members = processes_of(info["agent_id"])
    found += compare("container with processes", ids, members)
    found += [f"{i} has {len(members[i])} processes" for i in ids
              if processes_each is not None and len(members[i]) != processes_each]
    found += [f"{i}'s first process {by_id[i]['pid']} is not in its cgroup" for i in ids
              if by_id[i]["pid"] not in members[i]]
    namespaces = [os.readlink(f"/proc/{by_id[i]['pid']}/ns/net") for i in ids if os.path.exists(f"/proc/{by_id[i]['pid']}")]
    found += compare("network namespace held by the agent", namespaces, network_namespaces(agent.process.pid))
    if os.path.exists(os.path.join(os.path.dirname(os.readlink(f"/proc/{agent.process.pid}/exe")), "ctr-logger")):
        folder = lambda i: f"{agent.data}/logs/{i['class']}/{i['id']}"
        found += compare("logger", [folder(i) for i in live.values()], [os.path.normpath(f) for f in loggers(agent)])
    logs = {f"{c}/{i}" for c in listdir(agent.data + "/logs") for i in listdir(f"{agent.data}/logs/{c}")}
    found += [f"logs of {name} are kept and the state does not know it" for name in sorted(logs - set(known))]
    return found


def assert_clean(agent, timeout=DEADLINE, **how):
    """Fails with the list of differences if there still are some after `timeout` seconds."""
    last = []

    def clean():
        last[:] = differences(agent, **how)
        return not last

    try:
        wait_for(clean, "the host to match the state", timeout, pause=0.5)
    except AssertionError:
        raise AssertionError("the host does not match the state:\n  " + "\n  ".join(last)) from None


def identity(agent):
    """"class/id" -> (generation, container, pid, when that process began), of every live instance."""
    return {name: (i["generation"], i["container_id"], i["pid"], began(i["pid"]))
            for name, i in instances(agent).items() if i["state"] in LIVE}


def began(pid):
    """When a process began, in clock ticks after boot: tells it from a later one with its pid. None: it is gone."""
    try:
        return read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None
