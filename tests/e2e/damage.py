"""Damage to state.db while the agent is down, at random: the next start serves every running instance, and says what it did."""

import os
import random

import audit
from kills import assert_all_served, assert_same, fill


def truncate(chance, path):
    size = chance.randrange(os.path.getsize(path) + 1)
    os.truncate(path, size)
    return f"truncated to {size} bytes"


def flip(chance, path):
    size, count = os.path.getsize(path), chance.choice((1, 2, 8, 64))
    with open(path, "r+b") as file:
        for _ in range(count if size else 0):
            position = chance.randrange(size)
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ (1 << chance.randrange(8))]))
    return f"{count} bits flipped"


def delete(_, path):
    os.remove(path)
    return "deleted"


def clear_pages(chance, path):
    pages = os.path.getsize(path) // 4096
    chosen = [chance.randrange(pages) for _ in range(chance.randint(1, 4))] if pages else []
    with open(path, "r+b") as file:
        for page in chosen:
            file.seek(page * 4096)
            file.write(bytes(4096))
    return f"pages {chosen} zeroed"


KINDS = (truncate, flip, flip, delete, clear_pages)


def run(agent, count, instances=8, seed=None, say=lambda text: None):
    """`count` times: stop or kill the agent, damage the database or what belongs to it, start it again."""
    seed = random.randrange(10**6) if seed is None else seed
    chance = random.Random(seed)
    names = fill(agent, instances)
    before = audit.identity(agent)
    addresses = {name: i["address"] for name, i in audit.instances(agent).items()}
    rebuilt = 0
    for n in range(count):
        if chance.random() < 0.5:
            agent.stop()
        else:
            agent.kill()
        files = [agent.data + "/state.db" + end for end in ("", "-wal") if os.path.exists(agent.data + "/state.db" + end)]
        path = chance.choice(files)
        what = f"seed {seed}, damage {n + 1}: {os.path.basename(path)} {chance.choice(KINDS)(chance, path)}"
        say(what)
        aside = len([name for name in os.listdir(agent.data) if ".damaged-" in name and not name.endswith(("-wal", "-shm"))])
        try:
            agent.start()
            assert_same(before, audit.identity(agent))
            assert_all_served(agent, names)
            now = {name: i["address"] for name, i in audit.instances(agent).items()}
            if now != addresses:
                raise AssertionError(f"addresses became {now}, and were {addresses}")
            audit.assert_clean(agent, processes_each=1)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None
        more = len([name for name in os.listdir(agent.data) if ".damaged-" in name and not name.endswith(("-wal", "-shm"))])
        rebuilt += more > aside
    return f"seed {seed}: {count} times damaged, {instances} instances, put aside and rebuilt {rebuilt} times"
