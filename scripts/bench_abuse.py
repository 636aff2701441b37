"""`scripts/bench abuse`: what one instance that does its worst costs the others.

Another instance gets 200 requests a second, on one connection, from a client that the kernel schedules before
everything else: what it measures is the agent's and the instances' delay, as a client on another machine would.

Between these, another such client asks a server on the host that is in no container, has nothing before it, and is
scheduled before everything else, too. What that loses is the machine's own doing, and nobody's to avoid.
"""

import contextlib
import http.client
import os
import statistics
import subprocess
import sys
import threading
import time

import abuse
from bench_load import percentile
from harness import Agent

RATE = 200  # of each of the two
SECONDS = 5

BARE = """
import os, socket
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while client.recv(65536):
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
"""


@contextlib.contextmanager
def bare_server():
    process = subprocess.Popen([sys.executable, "-c", BARE], stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


class Client(threading.Thread):
    """Sends at the times that are planned, and counts from these: ms."""

    def __init__(self, port, begin):
        super().__init__()
        self.port = port
        self.begin = begin
        self.spent = []

    def run(self):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))  # of this thread alone
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        for n in range(RATE * SECONDS):
            due = self.begin + n / RATE
            time.sleep(max(0, due - time.perf_counter()))
            connection.request("GET", "/", headers={"Host": "a.other.localhost"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise AssertionError(f"status {response.status}")
            self.spent.append((time.perf_counter() - due) * 1000)
        connection.close()


def p99s(*ports):
    begin = time.perf_counter() + 0.1
    clients = [Client(port, begin + i / RATE / len(ports)) for i, port in enumerate(ports)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if any(len(client.spent) != RATE * SECONDS for client in clients):
        raise AssertionError("a request failed")
    return [percentile(client.spent, 99) for client in clients]


def abuses(pairs=5):
    with bare_server() as bare:
        beside_each(Agent().start(), bare, pairs)


def beside_each(agent, bare, pairs):
    kinds = {"a fork bomb": abuse.FORK_BOMB, "a memory hog": abuse.MEMORY_HOG, "100,000 files": abuse.MANY_FILES,
             "reads of /proc and /sys": abuse.PROC, "writes to cgroups": abuse.CGROUPS}
    try:
        agent.import_demo()
        agent.apply(abuse.CLASS.replace("abuse", "other"))
        agent.ctr("get", "other/a")
        for name, script in kinds.items():
            alone, beside = [], []
            agent.apply(abuse.CLASS + (abuse.LIMITS_FOR_FILES if script == abuse.MANY_FILES else abuse.LIMITS))
            for _ in range(pairs):
                agent.ctr("get", "abuse/a")
                alone.append(p99s(agent.port, bare))
                process = abuse.begin(agent, script)
                time.sleep(1)
                beside.append(p99s(agent.port, bare))
                abuse.end(process)
                agent.ctr("destroy", "abuse/a")
            for whose, without, within in zip(("another instance's requests", "a bare server's"), zip(*alone), zip(*beside)):
                ratio = statistics.median(b / a for a, b in zip(without, within))
                print(f"{name}: p99 of {whose} {statistics.median(within):.2f} ms, without "
                      f"{statistics.median(without):.2f} ms, ratio {ratio:.2f} (median of {pairs} pairs in turns)", flush=True)
        print(f"the agent lives: {agent.process.poll() is None}; starts of the other: "
              f"{agent.json('inspect', 'other/a')['generation']}")
    finally:
        agent.purge()
