"""Load that comes and goes over a class that scales itself: as its instances come and go, no request may be cut."""

import json
import math
import random
import threading
import time

CLIENTS = 16
PERIOD = 50  # seconds from one wave to the next
CLASS = """
name = "web"
image = "demo:latest"
default_port = 8080
max_concurrency = 4
sleep_after = "3s"
[autoscale]
target_concurrency = 2
window = "6s"
"""

# What is asked for, and whether the whole of it came.
PAGES = {
    "/": lambda body: body.startswith(b"hello from instance-"),
    "/sleep?s=0.4": lambda body: body.startswith(b"hello from instance-"),
    "/bytes/300000": lambda body: len(body) == 300000,
    "/slow/2": lambda body: body.count(b"\n") == 2,
}


def run(agent, seconds, seed=None, say=lambda text: None):
    agent.apply(CLASS)
    begin, done = time.monotonic(), threading.Event()
    answers, failures = [], []

    def wanted():
        """Clients that are active now: none to all, and a while none at all."""
        return CLIENTS * max(0.0, math.sin(2 * math.pi * (time.monotonic() - begin) / PERIOD))

    def client(index):
        dice = random.Random(f"{seed}-{index}")
        while not done.is_set():
            if index >= wanted():
                time.sleep(0.05)
                continue
            page = dice.choice(list(PAGES))
            try:
                status, headers, body = agent.get(page, host="web.localhost")
                if status == 200 and PAGES[page](body):
                    answers.append(headers["Ctr-Instance"])
                else:
                    failures.append(f"{page}: {status} with {len(body)} bytes, {body[:100]}")
            except (OSError, ValueError, RuntimeError) as error:
                failures.append(f"{page}: {type(error).__name__} {error}")

    threads = [threading.Thread(target=client, args=(index,)) for index in range(CLIENTS)]
    for thread in threads:
        thread.start()
    most = 0
    while time.monotonic() - begin < seconds:
        time.sleep(1)
        live = len(agent.json("ls", "-c", "web"))
        most = max(most, live)
        if int(time.monotonic() - begin) % 10 == 0:
            say(f"{time.monotonic() - begin:.0f} s: {live} live, {len(answers)} answers, {len(failures)} failures")
    done.set()
    for thread in threads:
        thread.join()
    lines = agent.ctr("-o", "jsonl", "events", "--limit", "0", "--type", "slept").splitlines()
    ends = sum(json.loads(line)["class"] == "web" for line in lines)
    if failures:
        raise AssertionError(f"{len(failures)} of {len(answers) + len(failures)} requests failed, the first: {failures[0]}")
    if most < 3 or ends < seconds // PERIOD:
        raise AssertionError(f"it hardly scaled: at most {most} live, {ends} went to sleep")
    return f"{len(answers)} requests, none failed; at most {most} instances, {ends} went to sleep meanwhile"
