"""`scripts/bench tunnel`: a TCP port beside HAProxy in TCP mode, without and with splice, in turns; and idle WebSockets.

What crosses is HTTP to the demo image's server, of which none of the proxies knows anything: small answers asked for over
kept connections are the small exchanges, one long answer is the stream. Cores and CPU time as in `scripts/bench proxy`.
"""

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from audit import processes_of
from bench_proxy import CPUS, Target, cpu_seconds, pin, started_peer
from harness import DEADLINE, Agent, free_port, read, wait_for

HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode tcp
  {option}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen tunnel
  bind 127.0.0.1:{port}
  server backend 127.0.0.1:{backend}
"""

TCP = """
name = "tcp"
image = "demo:latest"
default_port = 8080
default_protocol = "tcp"
sleep_after = "never"
"""

UPGRADE = b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
GIB = 1 << 30
IDLE = 5000


class Tunnel(Target):
    def __init__(self, name, address, port, pids):
        super().__init__(name, port, "x", pids, address)

    def exchange(self):
        """CPU µs of a small exchange, over many connections at once."""
        return self.measure("/bytes/64")["cpu"]

    def stream(self):
        """CPU ms of a GiB from the server to the client."""
        before = cpu_seconds(self.pids)
        result = subprocess.run(["taskset", "-c", str(CPUS - 1), "curl", "-sf", "-o", "/dev/null", "-w", "%{size_download}",
                                 f"http://{self.address}:{self.port}/bytes/{GIB}"], check=True, capture_output=True, text=True)
        if int(result.stdout) != GIB:
            raise AssertionError(f"{self.name}: {result.stdout} bytes came")
        return (cpu_seconds(self.pids) - before) * 1e3


def tell(what, unit, targets, measure, pairs):
    figures = {target.name: [] for target in targets}
    for i in range(pairs + 1):
        for target in targets:
            figure = measure(target)
            if i > 0:  # the first round warms up
                figures[target.name].append(figure)
    medians = ", ".join(f"{name} {statistics.median(rounds):.1f}" for name, rounds in figures.items())
    ours, *peers = figures.values()
    ratio = statistics.median(a / min(others) for a, *others in zip(ours, *peers))
    print(f"{what}: CPU {unit} {medians}; ours against the better peer {ratio:.2f} (median of {pairs} rounds in turns)",
          flush=True)


def compare(agent, folder, pairs):
    """CPU and system calls beside HAProxy; `agent` has one data thread."""
    agent.apply(TCP)
    agent.ctr("get", "tcp/a")
    server = f"{folder}/server"
    agent.ctr("cp", "tcp/a:/bin/server", server)
    for pid in set().union(*processes_of(agent.json("info")["agent_id"]).values()):
        pin(pid, str(CPUS - 1))
    backend = free_port()
    processes = [subprocess.Popen(["taskset", "-c", str(CPUS - 1), server], stdout=subprocess.DEVNULL,
                                  env={"PORT": str(backend), "BIND": "127.0.0.1", "CTR_ID": "a"})]
    try:
        targets = [Tunnel("ctr", agent.ctr("get", "tcp/a", "--address"), 8080, [agent.process.pid])]
        for name, option in (("haproxy", ""), ("haproxy with splice", "option splice-auto")):
            port = free_port()
            config = f"{folder}/{port}.conf"
            with open(config, "w") as file:
                file.write(HAPROXY.format(option=option, port=port, backend=backend))
            processes.append(started_peer(name, ["haproxy", "-db", "-f", config], port))
            targets.append(Tunnel(name, "127.0.0.1", port, [processes[-1].pid]))
        for target in targets:
            pin(target.pids[0], "0")
        tell("a small exchange", "µs", targets, Tunnel.exchange, pairs)
        tell("a GiB", "ms", targets, Tunnel.stream, pairs)
        calls = [(target.name, target.syscalls("/bytes/64")) for target in targets]
        print("system calls of a small exchange: " + ", ".join(f"{name} {count:.1f}" if count else f"{name} -"
                                                               for name, count in calls), flush=True)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", read(f"/proc/{pid}/status"))[1])


def idle(agent):
    """What WebSockets cost on which nothing moves any more."""
    agent.apply('name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\nnofile = 20000\n')
    agent.ctr("get", "web/a")
    address = agent.ctr("get", "web/a", "--address")

    def opened():
        connection = socket.create_connection((address, 8080), timeout=DEADLINE)
        connection.sendall(UPGRADE)
        if not connection.recv(4096).startswith(b"HTTP/1.1 101 "):
            raise AssertionError("no WebSocket")
        return connection

    opened().close()
    wait_for(lambda: agent.json("inspect", "web/a")["in_flight"] == 0, "the first one's end")
    time.sleep(1)
    before = resident(agent.process.pid)
    connections = [opened() for _ in range(IDLE)]
    time.sleep(1)
    grown = resident(agent.process.pid) - before
    cpu = cpu_seconds([agent.process.pid])
    time.sleep(5)
    cpu = (cpu_seconds([agent.process.pid]) - cpu) * 20
    print(f"{IDLE} idle WebSockets: {grown / IDLE:.1f} KB of RSS each (the agent had {before / 1024:.1f} MB), CPU {cpu:.2f} %")
    for connection in connections:
        connection.close()


def tunnel(pairs=7):
    missing = [tool for tool in ("haproxy", "wrk", "perf", "taskset", "curl") if not shutil.which(tool)]
    if missing:
        sys.exit(f"scripts/bench tunnel: no {', '.join(missing)}; apt-get install haproxy wrk linux-perf util-linux curl")
    with tempfile.TemporaryDirectory(prefix="ctr-bench-") as folder:
        config = f"{folder}/agent.toml"
        with open(config, "w") as file:
            file.write("data_threads = 1\n")
        agent = Agent(["--config", config]).start()
        try:
            agent.import_demo()
            compare(agent, folder, pairs)
            idle(agent)
        finally:
            agent.purge()
