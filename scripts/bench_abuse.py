"""`scripts/bench abuse`: what one instance that does its worst costs the others.

Another instance gets 200 requests a second, on one connection, from a client that the kernel schedules before
everything else: what it measures is the agent's and the instances' delay, as a client on another machine would.
"""

import http.client
import os
import statistics
import threading
import time

import abuse
from bench_load import percentile
from harness import Agent

RATE = 200
SECONDS = 5


class Client(threading.Thread):
    """Sends at the times that are planned, and counts from these."""

    def __init__(self, port):
        super().__init__()
        self.port = port
        self.spent = []

    def run(self):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))  # of this thread alone
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        begin = time.perf_counter()
        for n in range(RATE * SECONDS):
            due = begin + n / RATE
            time.sleep(max(0, due - time.perf_counter()))
            connection.request("GET", "/", headers={"Host": "a.other.localhost"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise AssertionError(f"status {response.status}")
            self.spent.append((time.perf_counter() - due) * 1000)
        connection.close()


def p99(agent):
    client = Client(agent.port)
    client.start()
    client.join()
    if len(client.spent) != RATE * SECONDS:
        raise AssertionError("a request failed")
    return percentile(client.spent, 99)


def abuses(pairs=5):
    kinds = {"a fork bomb": abuse.FORK_BOMB, "a memory hog": abuse.MEMORY_HOG, "100,000 files": abuse.MANY_FILES,
             "reads of /proc and /sys": abuse.PROC, "writes to cgroups": abuse.CGROUPS}
    agent = Agent().start()
    try:
        agent.import_demo()
        agent.apply(abuse.CLASS.replace("abuse", "other"))
        agent.ctr("get", "other/a")
        for name, script in kinds.items():
            alone, beside = [], []
            agent.apply(abuse.CLASS + (abuse.LIMITS_FOR_FILES if script == abuse.MANY_FILES else abuse.LIMITS))
            for _ in range(pairs):
                agent.ctr("get", "abuse/a")
                alone.append(p99(agent))
                process = abuse.begin(agent, script)
                time.sleep(1)
                beside.append(p99(agent))
                abuse.end(process)
                agent.ctr("destroy", "abuse/a")
            ratio = statistics.median(b / a for a, b in zip(alone, beside))
            print(f"{name}: p99 of another instance's requests {statistics.median(beside):.2f} ms, without "
                  f"{statistics.median(alone):.2f} ms, ratio {ratio:.2f} (median of {pairs} pairs in turns)", flush=True)
        print(f"the agent lives: {agent.process.poll() is None}; starts of the other: "
              f"{agent.json('inspect', 'other/a')['generation']}")
    finally:
        agent.purge()
