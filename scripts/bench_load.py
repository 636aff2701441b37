"""`scripts/bench load`: what the ingress holds out: many requests to one that sleeps, clients that send or read next to
nothing, and bodies that do not end.
"""

import concurrent.futures
import math
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from bench_proxy import Target
from bench_tunnel import resident
from harness import DEADLINE, Agent

WEB = 'name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\nnofile = 20000\n'
SLOW = 3000
BODY = 10 << 30


def percentile(values, percent):
    """By nearest rank."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def storm(agent, times, requests=1000):
    """That many requests at once to an ID that sleeps."""
    agent.ctr("get", "web/storm")
    spent = []
    for _ in range(times):
        agent.ctr("stop", "web/storm")
        generation = agent.json("inspect", "web/storm")["generation"]
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(requests) as pool:
            answers = list(pool.map(lambda _: agent.get(host="storm.web.localhost"), range(requests)))
        spent.append(time.monotonic() - begin)
        right = sum(status == 200 and body.startswith(b"hello from storm") for status, _, body in answers)
        starts = agent.json("inspect", "web/storm")["generation"] - generation
        if (right, starts) != (requests, 1):
            raise AssertionError(f"{right} right answers of {requests}, {starts} starts")
    print(f"{requests} requests at once to one that sleeps: all answered, one start, {times} times; "
          f"{statistics.median(spent):.2f} s for all (with the {requests} client threads)", flush=True)


def gap(agent, times):
    """From the moment at which the server listens to the first byte that it gets; it measures that itself."""
    agent.ctr("get", "web/gap")
    gaps = []
    for _ in range(times):
        agent.ctr("stop", "web/gap")
        gaps.append(int(agent.get("/gap", host="gap.web.localhost")[2]) / 1000)
    print(f"from the open port to the first byte of the request that waits: p50 {percentile(gaps, 50):.2f} ms, "
          f"p99 {percentile(gaps, 99):.2f} ms, most {max(gaps):.2f} ms ({times} wakes)", flush=True)


class Drip(threading.Thread):
    """Clients that send or read a byte a second; whom the agent turns away comes again."""

    REQUEST = "Host: web.localhost\r\nCtr-Instance: web/a\r\n"
    KINDS = {"heads": f"GET /{'x' * 4000} HTTP/1.1\r\n".encode(),
             "bodies": f"POST / HTTP/1.1\r\n{REQUEST}Content-Length: 1000000\r\n\r\n".encode() + b"x" * 4000,
             "readers": f"GET /bytes/10000000 HTTP/1.1\r\n{REQUEST}\r\n".encode()}

    def __init__(self, port, count):
        super().__init__()
        self.port, self.count = port, count
        self.done, self.up = threading.Event(), threading.Event()
        self.turned_away = 0
        self.start()

    def connect(self, text, at_once):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", self.port))
        client.sendall(text[:at_once])
        client.setblocking(False)
        return [client, text, at_once]

    def step(self, slow):
        client, text, sent = slow
        if sent < len(text):
            client.send(text[sent:sent + 1])
            slow[2] += 1
        try:
            if client.recv(1) == b"":
                raise ConnectionError()
        except BlockingIOError:
            pass

    def run(self):
        kinds = [(text, len(text) if name == "readers" else 100) for name, text in self.KINDS.items()]
        clients = [self.connect(*kinds[n % len(kinds)]) for n in range(self.count)]
        self.up.set()
        while not self.done.is_set():
            for n, slow in enumerate(clients):
                if self.done.wait(1 / self.count):
                    break
                try:
                    self.step(slow)
                except OSError:
                    slow[0].close()
                    self.turned_away += 1
                    clients[n] = self.connect(*kinds[n % len(kinds)])
        for client, _, _ in clients:
            client.close()


def drip(agent, times):
    """The p99 of well-behaved clients without and with the slow ones, in turns."""
    agent.ctr("get", "web/a")
    target = Target("ctr", agent.port, "a.web.localhost", [agent.process.pid])
    target.measure("/bytes/64", connections=8)
    alone, beside, grown = [], [], []
    for _ in range(times):
        alone.append(target.measure("/bytes/64", connections=8)["p99"])
        before = resident(agent.process.pid)
        slow = Drip(agent.port, SLOW)
        slow.up.wait(DEADLINE)
        time.sleep(5)
        beside.append(target.measure("/bytes/64", connections=8)["p99"])
        grown.append(resident(agent.process.pid) - before)
        slow.done.set()
        slow.join()
    ratio = statistics.median(b / a for a, b in zip(alone, beside))
    print(f"{SLOW} clients that send or read a byte a second: p99 of 8 others {statistics.median(beside):.2f} ms, "
          f"without them {statistics.median(alone):.2f} ms, ratio {ratio:.2f} (median of {times} pairs in turns); "
          f"RSS grew by {max(grown) / 1024:.1f} MB, {max(grown) / SLOW:.1f} KB each", flush=True)


def endless(agent):
    """A response, and a request, of 10 GiB."""
    agent.ctr("get", "web/a")
    url = f"http://{agent.ctr('get', 'web/a', '--address')}:8080"
    commands = {"down": f"curl -sf -o /dev/null -w '%{{size_download}}' {url}/bytes/{BODY}",
                "up": f"head -c {BODY} /dev/zero | curl -sf -o /dev/null -w '%{{size_upload}}' -X POST -T - {url}/"}
    for direction, command in commands.items():
        before = resident(agent.process.pid)
        most, begin = 0, time.monotonic()
        process = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, text=True)
        while process.poll() is None:
            most = max(most, resident(agent.process.pid))
            time.sleep(0.05)
        count = int(process.communicate()[0])
        if count < BODY:  # more: curl counts the heads of its chunks
            raise AssertionError(f"{direction}: {count} bytes")
        print(f"10 GiB {direction}: {BODY / (1 << 30) / (time.monotonic() - begin):.2f} GiB/s, RSS {before / 1024:.1f} MB before, "
              f"{most / 1024:.1f} MB at most", flush=True)


def load(times=5):
    missing = [tool for tool in ("wrk", "taskset", "curl") if not shutil.which(tool)]
    if missing:
        sys.exit(f"scripts/bench load: no {', '.join(missing)}; apt-get install wrk util-linux curl")
    with tempfile.TemporaryDirectory(prefix="ctr-bench-") as folder:
        config = f"{folder}/agent.toml"
        with open(config, "w") as file:
            file.write("max_connections_per_client = 10000\n")
        agent = Agent(["--config", config]).start()
        try:
            agent.import_demo()
            agent.apply(WEB)
            storm(agent, times)
            gap(agent, 40 * times)
            endless(agent)
            drip(agent, times)
        finally:
            agent.purge()
