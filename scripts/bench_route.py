"""`scripts/bench route`: eight instances, one of them ten times slower, under an open loop of requests at 60 % of what all can take:
the latency through our own routing, beside HAProxy (leastconn, two random choices, roundrobin) over the same instances by their
addresses, in turns. `scripts/bench autoscale`: a step from nothing to ten times what one instance takes.

An instance works on one request at a time (the demo image's /work). Requests come at random moments, as many a second as asked for,
whether or not earlier ones are answered: what waits is seen.
"""

import asyncio
import random
import shutil
import statistics
import sys
import tempfile
import time

from bench_load import percentile
from bench_proxy import started_peer
from harness import Agent, free_port, wait_for

INSTANCES = 8
SERVICE = 0.02
SLOWER = 10
SECONDS = 10

CLASS = f"""
name = "web"
image = "demo:latest"
default_port = 8080
sleep_after = "never"
[autoscale]
min = {INSTANCES}
max = {INSTANCES}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  balance {balance}
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 60s
listen proxy
  bind 127.0.0.1:{port}
{servers}
"""


class Load:
    """An open loop of requests over as many connections as it takes."""

    def __init__(self, port, host, path):
        self.port = port
        self.request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self.free, self.latencies, self.failures = [], [], 0

    async def ask(self):
        begin = time.perf_counter()
        try:
            reader, writer = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self.request)
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(size)
            if not head.startswith(b"HTTP/1.1 200"):
                self.failures += 1
            self.free.append((reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            self.failures += 1
        self.latencies.append((time.perf_counter() - begin) * 1000)

    async def run(self, rate, seconds):
        chance = random.Random(1)
        tasks, end = [], time.perf_counter() + seconds
        next_at = time.perf_counter()
        while next_at < end:
            next_at += chance.expovariate(rate)
            await asyncio.sleep(max(0, next_at - time.perf_counter()))
            tasks.append(asyncio.create_task(self.ask()))
        await asyncio.gather(*tasks)
        for _, writer in self.free:
            writer.close()


def measure(port, host, rate, path=f"/work?s={SERVICE}", seconds=SECONDS):
    load = Load(port, host, path)
    asyncio.run(load.run(rate, seconds))
    return percentile(load.latencies, 50), percentile(load.latencies, 99), load.failures


def route(rounds=3):
    if not shutil.which("haproxy"):
        sys.exit("scripts/bench route: no haproxy; apt-get install haproxy")
    agent = Agent().start()
    peers = []
    with tempfile.TemporaryDirectory(prefix="ctr-bench-") as folder:
        try:
            agent.import_demo()
            agent.apply(CLASS)
            healthy = lambda: agent.json("autoscale", "status", "web")["healthy"] == INSTANCES
            wait_for(healthy, "the instances")
            rate = 0.6 * INSTANCES / SERVICE
            even = [measure(agent.port, "web.localhost", rate) for _ in range(rounds)]
            agent.ctr("stop", "web/instance-7")
            agent.ctr("start", "web/instance-7", "-e", f"SLOWER={SLOWER}")
            wait_for(healthy, "the slow one")
            rate = 0.6 * (INSTANCES - 1 + 1 / SLOWER) / SERVICE
            targets = {"ctr": (agent.port, "web.localhost")}
            addresses = [agent.ctr("get", f"web/instance-{n}", "--address") for n in range(INSTANCES)]
            servers = "\n".join(f"  server s{n} {address}:8080" for n, address in enumerate(addresses))
            for balance in ("leastconn", "random(2)", "roundrobin"):
                port = free_port()
                config = f"{folder}/{port}.conf"
                with open(config, "w") as file:
                    file.write(HAPROXY.format(balance=balance, port=port, servers=servers))
                peers.append(started_peer(balance, ["haproxy", "-db", "-f", config], port))
                targets["haproxy " + balance] = (port, "x")
            figures = {name: [] for name in targets}
            for i in range(rounds + 1):
                for name, (port, host) in targets.items():
                    figure = measure(port, host, rate)
                    if i > 0:  # the first round warms up
                        figures[name].append(figure)
        finally:
            for peer in peers:
                peer.kill()
                peer.wait()
            agent.purge()
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in figures.items()}
    alone = statistics.median(p99 for _, p99, _ in even)
    print(f"{INSTANCES} instances, one {SLOWER} times slower, open loop at 60 %: " +
          ", ".join(f"{name} p50 {p50:.1f} p99 {p99:.1f} ms" + (f", {failed:.0f} failed" if failed else "")
                    for name, (p50, p99, failed) in medians.items()))
    print(f"  our p99 against a fleet without a slow one ({alone:.1f} ms at its 60 %): {medians['ctr'][1] / alone:.2f}; against leastconn's: "
          f"{medians['ctr'][1] / medians['haproxy leastconn'][1]:.2f} (medians of {rounds} rounds in turns)", flush=True)


def autoscale(rounds=3):
    """From nothing to ten times what one instance takes, at a target of one request in flight each."""
    agent = Agent().start()
    try:
        agent.import_demo()
        agent.apply('name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "2s"\nmax_concurrency = 4\n'
                    '[autoscale]\nmax = 20\ntarget_concurrency = 1\n')
        rate, wanted = 10 / SERVICE, 10
        for _ in range(rounds):
            load = Load(agent.port, "web.localhost", f"/work?s={SERVICE}")
            reached, seconds = [], 15

            async def watch():
                begin = time.perf_counter()
                while time.perf_counter() - begin < seconds:
                    status = await asyncio.to_thread(agent.json, "autoscale", "status", "web")
                    if status["healthy"] >= wanted and not reached:
                        reached.append(time.perf_counter() - begin)
                    await asyncio.sleep(0.1)

            async def both():
                await asyncio.gather(load.run(rate, seconds), watch())

            asyncio.run(both())
            late = load.latencies[len(load.latencies) // 2:]
            print(f"a step from 0 to {rate:.0f} requests a second, ten times one instance: {wanted} healthy after "
                  f"{reached[0] if reached else float('nan'):.1f} s, {load.failures} of {len(load.latencies)} failed, p99 of all "
                  f"{percentile(load.latencies, 99):.0f} ms, of the second half {percentile(late, 99):.0f} ms", flush=True)
            wait_for(lambda: agent.json("ls", "-c", "web") == [], "all to sleep")
    finally:
        agent.purge()
