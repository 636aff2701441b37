"""Sends cases through the ingress, and says what is wrong with what came of them."""

import socket
import time

import request_cases
import wire

DEADLINE = 10


def receive(sock, method, buffer, deadline):
    """One final response off `buffer`, a bytearray, which is filled from `sock`. None: it closed before any; raises what
    wire raises."""
    closed = False
    while True:
        try:
            cursor = wire.Cursor(bytes(buffer))
            response = wire.Response(cursor, method, closed)
            del buffer[:cursor.at]
            return response
        except wire.Incomplete:
            if closed:
                if not buffer:
                    return None
                raise
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            data = sock.recv(65536)
        except ConnectionError:
            data = b""
        closed = not data
        buffer += data


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)


def echo(method, target, body):
    """What every instance answers."""
    return f"{method} {target} {len(body)}\n".encode()


def fill(data, marker, host):
    def named(data):
        return data.replace(b"@M", marker.encode()).replace(b"@H", host.encode())

    length = len(named(request_cases.SMUGGLED.encode()))
    return named(data).replace(b"@L", b"%d" % length).replace(b"@X", b"%x" % length)


def expected(case, marker, host):
    """The requests that an instance must read of a case, and those that the ingress answers by itself."""
    requests = [(method, target.replace("@M", marker), fill(body, marker, host)) for method, target, body in case.requests]
    last = ("GET", f"/{marker}/last", b"")
    if case.status is None and not any(target == last[1] for _, target, _ in requests):
        requests.append(last)
    return requests


def run_request(port, case, marker, host):
    """What is wrong with what the client sees of a case: a list of lines."""
    problems = []
    wanted = expected(case, marker, host)
    data = fill(case.data, marker, host) + f"GET /{marker}/last HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    buffer = bytearray()
    deadline = time.monotonic() + DEADLINE
    with connect(port) as sock:
        try:
            sock.sendall(data)
        except ConnectionError:
            pass  # refused before its end
        try:
            for method, target, body in wanted:
                response = receive(sock, method, buffer, deadline)
                if response is None:
                    problems.append(f"closed instead of answering {method} {target}")
                    return problems
                if case.server_may_refuse and 400 <= response.status < 500:
                    return problems
                if (response.status, response.body) != (200, echo(method, target, body)):
                    problems.append(f"{method} {target} got {response.status} {response.body[:80]!r}")
            if case.status is not None:
                response = receive(sock, "GET", buffer, deadline)
                if response is None or response.status != case.status:
                    problems.append(f"not refused with {case.status}: {response and response.status}")
                elif receive(sock, "GET", buffer, deadline) is not None:
                    problems.append("an answer behind the refusal")
            if buffer:
                problems.append(f"more came: {bytes(buffer[:80])!r}")
        except (wire.Malformed, wire.Incomplete, TimeoutError) as error:
            problems.append(f"{type(error).__name__}: {error} {bytes(buffer[:80])!r}")
    return problems


def check_read(case, marker, host, read):
    """What is wrong with the requests that an instance read of a case: (method, target, length of body) each."""
    wanted = [(method, target, len(body)) for method, target, body in expected(case, marker, host)]
    if case.server_may_refuse:
        wanted = [each for each in wanted if each in read]
    return [] if read == wanted else [f"the instance read {read}, not {wanted}"]


def ask(port, host, target, method="GET", sock=None, buffer=None):
    """One good request; gives the response, None if the connection was closed before it."""
    own = sock is None
    sock = sock or connect(port)
    try:
        try:
            sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        except ConnectionError:
            return None
        return receive(sock, method, bytearray() if buffer is None else buffer, time.monotonic() + DEADLINE)
    finally:
        if own:
            sock.close()


def run_response(port, case, marker, host, wait_until_sent):
    """What is wrong with what clients see of an instance that answers like that. `wait_until_sent` returns when it has."""
    problems = []
    buffer = bytearray()

    def check_own(name, response):
        target = f"/{marker}/{name}"
        if response is None or (response.status, response.body) != (200, echo("GET", target, b"")):
            problems.append(f"GET {target} got {response and (response.status, response.body[:80])}")

    with connect(port) as sock:
        try:
            response = ask(port, host, f"/{marker}/case", case.method, sock, buffer)
            if case.cut:
                problems.append(f"the answer seems whole: {response and (response.status, response.body[:80])}")
            elif response is None or response.status != case.status:
                problems.append(f"got {response and response.status}, not {case.status}")
            elif case.status != 502 and response.body != case.body:
                problems.append(f"got {response.body[:80]!r}")
        except wire.Incomplete:
            if not case.cut:
                problems.append("the answer breaks off")
            sock.close()
        except (wire.Malformed, TimeoutError) as error:
            problems.append(f"{type(error).__name__}: {error}")
            sock.close()
        wait_until_sent()
        if sock.fileno() >= 0:
            response = ask(port, host, f"/{marker}/next", sock=sock, buffer=buffer)
            if response is not None:  # else closed, as it may be
                check_own("next", response)
    check_own("other", ask(port, host, f"/{marker}/other"))
    return problems
