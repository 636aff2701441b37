"""Operations at random on a few IDs from several clients, with the agent killed at random: in the end the host is what the
state says, and the state is what the answered operations leave."""

import random
import threading
import time

import audit
from harness import wait_for
from kills import small

# What an operation that succeeds leaves an ID as. One that was not answered leaves that, or what was.
LEAVES = {
    "get": "live", "start": "live", "restart": "live", "stop": "stopped", "destroy": "absent", "renew": None,
}
WEIGHTS = {"get": 10, "start": 2, "restart": 2, "stop": 6, "destroy": 4, "renew": 1}


class Operation:
    """One call of the CLI: when it began and ended, and whether it took effect: True, False, or None: unknown."""

    def __init__(self, verb, name):
        self.verb, self.name = verb, name
        self.begin = self.end = self.status = self.error = None

    def perform(self, agent):
        self.begin = time.monotonic()
        result = agent.ctr(self.verb, self.name, "--timeout", "60s", check=False, timeout=120)
        self.end = time.monotonic()
        self.status, self.error = result.returncode, result.stderr.strip()
        return self

    @property
    def took_effect(self):
        if self.status == 0:
            return True
        return False if self.status in (3, 4) else None  # unknown, refused

    def __str__(self):
        return f"{self.verb} {self.name}: {self.status} {self.error} ({self.begin:.3f} to {self.end:.3f})"


def possible(operations, before="absent"):
    """The states that an ID may be in after these operations on it, of which some overlapped."""
    effects = [o for o in operations if LEAVES[o.verb] and o.took_effect is not False]
    certain = [o for o in effects if o.took_effect]
    result = set() if certain else {before}
    for o in effects:
        # One that began after this one had ended, and was answered, has the last word.
        if any(other.begin > o.end for other in certain):
            continue
        result.add(LEAVES[o.verb])
        if o.took_effect is None:  # it may have been cut in the middle
            result |= {"stopped", "absent"} if o.verb == "destroy" else {"stopped"}
    return result


class Chaos:
    """Kills the agent at random moments until it has done so `kills` times or is told to end; it starts it again."""

    def __init__(self, agent, kills, seed, pause):
        self.agent, self.left, self.pause = agent, kills, pause
        self.chance = random.Random(seed)
        self.ending = threading.Event()
        self.failure = None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while self.left > 0 and not self.ending.wait(self.chance.uniform(0.2, 2 * self.pause)):
                self.agent.kill()
                time.sleep(self.chance.uniform(0, 0.3))
                self.agent.start()
                self.left -= 1
        except BaseException as error:  # told where the thread is joined
            self.failure = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        if self.failure:
            raise self.failure


def run(agent, count, kills, ids=50, clients=8, seed=None, pause=3.0, say=lambda text: None):
    """`count` operations; gives the figures. The seed is in every message."""
    seed = random.randrange(10**6) if seed is None else seed
    say(f"seed {seed}")
    agent.apply(small("web"))
    agent.apply(small("api", 'stop_grace = "1s"\nenv = { IGNORE_TERM = "1" }'))
    names = [f"{('web', 'api')[n % 2]}/r{n}" for n in range(ids)]
    done, numbers, lock = [], iter(range(count)), threading.Lock()

    def client(chance):
        while True:
            with lock:
                if next(numbers, None) is None:
                    return
            verb = chance.choices(list(WEIGHTS), WEIGHTS.values())[0]
            operation = Operation(verb, chance.choice(names)).perform(agent)
            with lock:
                done.append(operation)
                if len(done) % 100 == 0:
                    say(f"{len(done)} operations")
            if operation.status == 5:
                time.sleep(0.3)  # the agent is away

    threads = [threading.Thread(target=client, args=(random.Random(seed * 100 + n),)) for n in range(clients)]
    begin = time.monotonic()
    with Chaos(agent, kills, seed, pause) as chaos:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    elapsed = time.monotonic() - begin
    try:
        settle(agent)
        audit.assert_clean(agent, timeout=90, processes_each=1)
        assert_explained(agent, names, done)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from None
    unanswered = sum(o.took_effect is None for o in done)
    unexpected = [str(o) for o in done if o.status not in (0, 3, 4, 5)]
    return (f"seed {seed}: {count} operations on {ids} IDs in {elapsed:.0f} s, {kills - chaos.left} kills, {unanswered} "
            f"unanswered, {len(unexpected)} failed" + (f", such as: {unexpected[0]}" if unexpected else ""))


def settle(agent):
    moving = lambda: [i for i in agent.json("ls", "-a") if i["state"] in ("starting", "stopping")]
    wait_for(lambda: not moving(), "every start and stop to end", timeout=120, pause=0.5)


def assert_explained(agent, names, done):
    """Every ID is in a state that an answered operation, or one that was cut, leaves it in."""
    known = {f"{i['class']}/{i['id']}": i["state"] for i in agent.json("ls", "-a")}
    for name in names:
        of_name = [o for o in done if o.name == name]
        state = known.get(name, "absent")
        state = "live" if state in audit.LIVE else state
        if state not in possible(of_name):
            story = "\n  ".join(map(str, sorted(of_name, key=lambda o: o.begin)[-6:]))
            raise AssertionError(f"{name} is {state}; its last operations leave it {possible(of_name)}:\n  {story}")
