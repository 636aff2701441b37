"""Real sockets for the tests of what goes through as bytes: a client's, and a program's in an instance."""

import contextlib
import ctypes
import os
import socket
import struct
import threading

from harness import DEADLINE

CLONE_NEWNET = 0x40000000


def receive(sock, size=None):
    """So many bytes, or all until the end."""
    parts, left = [], size
    while left is None or left > 0:
        part = sock.recv(65536 if left is None else min(left, 65536))
        if not part:
            break
        parts.append(part)
        left = None if left is None else left - len(part)
    return b"".join(parts)


@contextlib.contextmanager
def sending(sock, data):
    """Sends beside what the block does, and is done at its end."""
    failures = []

    def send():
        try:
            sock.sendall(data)
        except OSError as error:
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    yield
    sender.join(DEADLINE)
    if sender.is_alive() or failures:
        raise AssertionError(f"not all was sent: {failures}")


def reset(sock):
    """Closes it with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def listen_inside(pid, port):
    """A listener in the network namespace of a process, as a program there would have it."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {path}")
        finally:
            os.close(fd)

    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(f"/proc/{pid}/ns/net")
        try:
            listener = socket.create_server(("0.0.0.0", port))
        finally:
            enter(f"/proc/self/fd/{own}")
    finally:
        os.close(own)
    listener.settimeout(DEADLINE)
    return listener
