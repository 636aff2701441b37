"""A stand-in for systemd: the notify socket with its file descriptor store, and starts that hand the store over."""

import array
import os
import select
import socket
import struct
import subprocess
import threading

from harness import BIN, Agent, read, wait_for


CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def parent_of(pid):
    return int(read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[1])


def has_hung_up(fd):
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


class FdStore:
    """Receives notifications, keeps what comes with FDSTORE=1 under its FDNAME, unless it has hung up and FDPOLL=0 does not say
    that this is nothing, drops it at FDSTOREREMOVE=1. Hears the
    main process alone (NotifyAccess=main), which may name another (MAINPID=)."""

    def __init__(self, path):
        self.path = path
        self.main = None
        self.kept = []  # (name, descriptor), as they came
        self.states = []
        self.parents = []  # of those that were named, when they were
        self.unheard = []  # of others than the main process
        self.lock = threading.Lock()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(path)
        self.wake_reader, self.wake_writer = os.pipe()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            ready, _, _ = select.select([self.socket, self.wake_reader], [], [])
            if self.wake_reader in ready:
                return
            data, sender, fds = self.receive()
            fields = dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)
            with self.lock:
                if sender == self.main:
                    self.take(fields, fds)
                else:
                    self.unheard.append(data)
                    for fd in fds:
                        os.close(fd)

    def receive(self):
        room = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(64 * 4)
        data, parts, _, _ = self.socket.recvmsg(65536, room)
        sender, fds = None, array.array("i")
        for _, kind, content in parts:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
            elif kind == socket.SCM_CREDENTIALS:
                sender = CREDENTIALS.unpack(content)[0]
        return data, sender, list(fds)

    def take(self, fields, fds):
        if fields.get("FDSTOREREMOVE") == "1":
            for name, fd in self.kept:
                if name == fields["FDNAME"]:
                    os.close(fd)
            self.kept = [(name, fd) for name, fd in self.kept if name != fields["FDNAME"]]
        elif fields.get("FDSTORE") == "1":
            for fd in fds:
                if fields.get("FDPOLL") == "0" or not has_hung_up(fd):
                    self.kept.append((fields["FDNAME"], fd))
                else:
                    os.close(fd)
        else:
            if "MAINPID" in fields:
                self.main = int(fields["MAINPID"])
                self.parents.append(parent_of(self.main))
            self.states += [f"{key}={value}" for key, value in fields.items()]

    def names(self):
        with self.lock:
            return sorted(name for name, _ in self.kept)

    def add(self, name, fd):
        with self.lock:
            self.kept.append((name, os.dup(fd)))

    def close(self):
        os.write(self.wake_writer, b"x")
        self.thread.join()
        for _, fd in self.kept:
            os.close(fd)
        self.socket.close()
        os.close(self.wake_reader)
        os.close(self.wake_writer)


class ManagedAgent(Agent):
    """An agent whose service manager keeps its listeners over restarts."""

    def __init__(self, extra=()):
        super().__init__(extra)
        self.store = FdStore(self.root + "/notify.sock")

    def spawn(self):
        with self.store.lock:
            kept = [(name, os.dup(fd)) for name, fd in self.store.kept]
            self.store.states.clear()
        environment = {**os.environ, "NOTIFY_SOCKET": self.store.path}
        if kept:
            environment |= {"LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": ":".join(name for name, _ in kept)}
        # They must be 3, 4 …: the shell, which becomes the agent, moves them there, by way of numbers above all of them.
        above = 3 + len(kept) + max([fd for _, fd in kept], default=0)
        moves = [f"exec {above + i}<&{fd}" for i, (_, fd) in enumerate(kept)]
        moves += [f"exec {3 + i}<&{above + i} {above + i}<&-" for i in range(len(kept))]
        script = "; ".join([*moves, "LISTEN_PID=$$ exec \"$@\""])
        with open(self.root + "/agent.log", "ab") as log, self.store.lock:
            self.process = subprocess.Popen(["bash", "-c", script, "sh", BIN + "/ctr-agent", *self.flags], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, env=environment,
                                            pass_fds=[fd for _, fd in kept])
            self.store.main = self.process.pid
        for _, fd in kept:
            os.close(fd)

    def start(self):
        self.spawn()

        def ready():
            if self.process.poll() is not None:
                with open(self.root + "/agent.log") as log:
                    raise AssertionError("ctr-agent ended:\n" + log.read())
            return "READY=1" in self.store.states

        wait_for(ready, "READY=1")
        return self

    def purge(self):
        if not self.purged:
            super().purge()
            self.store.close()
