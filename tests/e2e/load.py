"""Bounded load on instances through the ingress, which tells a wrong answer from an agent that is away."""

import http.client
import random
import re
import threading
import time

HELLO = re.compile(rb"hello from (\S+), request (\d+)\n")


class Load:
    """A few clients that ask instances of the demo image at random, in turns over a kept and a fresh connection, as long as
    the `with` block lasts. `names`: "class/id". An answer that is not 200, names another instance, or counts its requests
    anew (the process behind it is another one) is wrong; a connection that is refused or cut is counted apart."""

    def __init__(self, agent, names, clients=3, pause=0.004):
        self.agent, self.names, self.pause = agent, list(names), pause
        self.answered, self.cut, self.wrong = 0, 0, []
        self.longest = 0.0  # seconds of one answer
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(random.Random(n),)) for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def _run(self, chance):
        kept = None
        counts = {}
        while not self.ending.is_set():
            name = chance.choice(self.names)
            keep = chance.random() < 0.5
            connection = kept if keep and kept else http.client.HTTPConnection("127.0.0.1", self.agent.port, timeout=30)
            begin = time.monotonic()
            try:
                self._ask(connection, name, keep, counts)
                with self.lock:
                    self.answered += 1
                    self.longest = max(self.longest, time.monotonic() - begin)
            except (OSError, http.client.HTTPException):
                with self.lock:
                    self.cut += 1
                keep = False
                self.ending.wait(0.01)
            if keep:
                kept = connection
            else:
                kept = None if connection is kept else kept
                connection.close()
            self.ending.wait(self.pause)
        if kept:
            kept.close()

    def _ask(self, connection, name, keep, counts):
        class_name, id = name.split("/")
        connection.request("GET", "/", headers={"Host": f"{id}.{class_name}.localhost",
                                                "Connection": "keep-alive" if keep else "close"})
        response = connection.getresponse()
        body = response.read()
        hello = HELLO.fullmatch(body)
        if response.status != 200 or not hello or hello[1].decode() != id:
            self._is_wrong(f"{name}: {response.status} {response.headers.get('Ctr-Error', '')} {body[:100]!r}")
            return
        count = int(hello[2])
        if count <= counts.get(name, 0):
            self._is_wrong(f"{name} counts from anew: request {count} after {counts[name]}")
        counts[name] = count

    def _is_wrong(self, what):
        with self.lock:
            self.wrong.append(what)

    def assert_right(self):
        if self.wrong:
            raise AssertionError(f"{len(self.wrong)} wrong answers of {self.answered}, such as: {self.wrong[0]}")

    def __str__(self):
        return f"{self.answered} answers, {self.cut} connections refused or cut, longest {self.longest * 1000:.0f} ms"
