"""What hostile instances send, and what may come of it.

Each is the whole answer to one request; a number among its parts is a pause in seconds, CLOSE and RESET end the
connection. The requests that follow it, on the client's connection and on another, must get answers of their own: what
comes only when they have been sent to the instance, nobody can tell from their answers.
"""

from dataclasses import dataclass

CLOSE, RESET = "close", "reset"
BAD = 502  # the ingress says so instead
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"


@dataclass
class Case:
    name: str
    parts: tuple
    status: int = 200
    body: bytes = b""
    method: str = "GET"
    cut: bool = False  # the client sees that the answer broke off


CASES = []


def case(name, *parts, **more):
    joined = []  # what no pause stands between is sent at once
    for part in filter(None, parts):
        part = part.encode("latin-1") if isinstance(part, str) and part not in (CLOSE, RESET) else part
        if joined and isinstance(part, bytes) and isinstance(joined[-1], bytes):
            joined[-1] += part
        else:
            joined.append(part)
    CASES.append(Case(name, tuple(joined), **more))


def bad(name, *parts, **more):
    case(name, *parts, status=BAD, **more)


def ok(*fields, status="HTTP/1.1 200 OK", body=""):
    return "\r\n".join([status, *fields]) + "\r\n\r\n" + body


# What frames a body.
bad("both, the length first", ok("Content-Length: 5", "Transfer-Encoding: chunked", body="5\r\nhello\r\n0\r\n\r\n"))
bad("both, the encoding first", ok("Transfer-Encoding: chunked", "Content-Length: 5", body="5\r\nhello\r\n0\r\n\r\n"))
for length in ("+5", "-1", "0x5", "5, 5", "5 5", "", "99999999999999999999", "five", "5\x0b"):
    bad(f"Content-Length: {length!r}", ok(f"Content-Length: {length}", body="hello"))
bad("Content-Length twice, the same", ok("Content-Length: 5", "Content-Length: 5", body="hello"))
bad("Content-Length twice, another", ok("Content-Length: 0", "Content-Length: 5", body="hello"))
for encoding in ("xchunked", "chunked, identity", "identity", "gzip, chunked", "gzip", '"chunked"', "\x0bchunked", "", "chunked;q=1"):
    bad(f"Transfer-Encoding: {encoding!r}", ok(f"Transfer-Encoding: {encoding}", body="5\r\nhello\r\n0\r\n\r\n"))
bad("Transfer-Encoding twice", ok("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body="0\r\n\r\n"))
bad("Transfer-Encoding in HTTP/1.0", ok("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK", body="0\r\n\r\n"))
case("Connection lists the framing", ok("Content-Length: 5", "Connection: Content-Length", body="hello"), body=b"hello")
case("HTTP/1.0 until the close", ok(status="HTTP/1.0 200 OK", body="hello"), CLOSE, body=b"hello")
case("until the close", ok(body="hello"), 0.02, " again", CLOSE, body=b"hello again")
case("Connection: close, and not closed", ok("Content-Length: 5", "Connection: close", body="hello"), body=b"hello")

# Lines and characters.
for name, line in (
        ("NUL", "X: a\0b"),
        ("CR", "X: a\rb"),
        ("a fold", "X: a\r\n b"),
        ("no colon", "X"),
        ("no name", ": x"),
        ("a space before the colon", "X : a"),
        ("a space in the name", "X Y: a")):
    bad("a field with " + name, ok("Content-Length: 5", line, body="hello"))
bad("a head without end", "HTTP/1.1 200 OK\r\n" + "X: 1\r\n" * 20000)
bad("too many fields", ok(*["X: 1"] * 300, "Content-Length: 0"))
case("VT in a value", ok("Content-Length: 5", "X: a\x0bb", body="hello"), body=b"hello")
case("lines of LF", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", body=b"hello")

# Status lines.
for line in ("HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 099 X", "HTTP/1.1 2x0 OK", "HTTP/1.1  200 OK",
             "HTTP/2 200 OK", "http/1.1 200 OK", "ICY 200 OK", "200 OK", "HTTP/1.1 200\tOK", "HTTP/1.1",
             "HTTP/1.1 200 O\0K", "HTTP/1.1 200 O\rK", "GET / HTTP/1.1", " HTTP/1.1 200 OK", "HTTP/1.1 -200 OK"):
    bad(f"status line {line!r}", ok("Content-Length: 0", status=line))
bad("two status lines", "HTTP/1.1 200 OK\r\n" + ok("Content-Length: 0"))
bad("an empty line first", "\r\n" + ok("Content-Length: 0"))
case("HTTP/1.2", ok("Content-Length: 0", status="HTTP/1.2 200 OK"))
case("a status beyond 599", ok("Content-Length: 5", status="HTTP/1.1 999 X", body="hello"), status=999, body=b"hello")
case("no reason", ok("Content-Length: 0", status="HTTP/1.1 200"))

# Interim responses.
CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n"
case("a 100 unasked", CONTINUE + ok("Content-Length: 5", body="hello"), body=b"hello")
case("fifty 103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50 + ok("Content-Length: 5", body="hello"), body=b"hello")
bad("a thousand 100", CONTINUE * 1000 + ok("Content-Length: 0"))
bad("100 without end", CONTINUE * 20000)
bad("a switch of protocols unasked", ok("Upgrade: websocket", "Connection: upgrade", status="HTTP/1.1 101 Switching Protocols"), POISON)
bad("an interim response with a body", ok("Content-Length: 5", status="HTTP/1.1 103 Early Hints", body="hello") + ok("Content-Length: 0"))
bad("an interim response and the close", CONTINUE, CLOSE)

# Answers without a body that have one.
for status in ("204 No Content", "304 Not Modified"):
    code = int(status[:3])
    for name, pause in (("at once", 0), ("later", 0.02)):
        case(f"{code} with a body {name}", ok("Content-Length: 6", status=f"HTTP/1.1 {status}"), pause, "POISON", status=code)
        case(f"{code} with chunks {name}", ok("Transfer-Encoding: chunked", status=f"HTTP/1.1 {status}"), pause,
             "6\r\nPOISON\r\n0\r\n\r\n", status=code)
        case(f"{code} with a response {name}", ok(status=f"HTTP/1.1 {status}"), pause, POISON, status=code)
for name, pause in (("at once", 0), ("later", 0.02)):
    case(f"HEAD with a body {name}", ok("Content-Length: 6"), pause, "POISON", method="HEAD")
    case(f"HEAD with a response {name}", ok("Content-Length: 6"), pause, POISON, method="HEAD")
    case(f"HEAD without a length, with a body {name}", ok(), pause, "POISON", method="HEAD")

# More than was asked for: it must be nobody's answer.
for name, pause in (("at once", 0), ("later", 0.02)):
    case(f"a second response {name}", ok("Content-Length: 5", body="hello"), pause, POISON, body=b"hello")
    case(f"ten more responses {name}", ok("Content-Length: 5", body="hello"), pause, POISON * 10, body=b"hello")
    case(f"bytes behind the body {name}", ok("Content-Length: 5", body="hello"), pause, "x", body=b"hello")
    case(f"a line behind the body {name}", ok("Content-Length: 5", body="hello"), pause, "\r\n", body=b"hello")
    case(f"a response behind chunks {name}", ok("Transfer-Encoding: chunked", body="5\r\nhello\r\n0\r\n\r\n"), pause, POISON,
         body=b"hello")
    case(f"a response behind an empty body {name}", ok("Content-Length: 0"), pause, POISON)
    case(f"half a response behind the body {name}", ok("Content-Length: 5", body="hello"), pause, POISON[:20], body=b"hello")
    case(f"an interim response behind the body {name}", ok("Content-Length: 5", body="hello"), pause, CONTINUE, body=b"hello")

# Less than was said.
bad("nothing", CLOSE)
bad("nothing but a reset", RESET)
bad("half a head", "HTTP/1.1 200 OK\r\nContent-Le", CLOSE)
case("half a body", ok("Content-Length: 10", body="hello"), CLOSE, cut=True)
case("half a body and a reset", ok("Content-Length: 10", body="hello"), 0.02, RESET, cut=True)
case("half a chunk", ok("Transfer-Encoding: chunked", body="a\r\nhello"), CLOSE, cut=True)
case("chunks without the last", ok("Transfer-Encoding: chunked", body="5\r\nhello\r\n"), CLOSE, cut=True)
case("chunks without the last line", ok("Transfer-Encoding: chunked", body="5\r\nhello\r\n0\r\n"), CLOSE, cut=True)

# Broken chunks: what came before is sent on by then.
for name, chunks in (
        ("0x form", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a plus", "+5\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a size over 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("LF behind the size", "5\nhello\r\n0\r\n\r\n"),
        ("LF behind the data", "5\r\nhello\n0\r\n\r\n"),
        ("too much data", "5\r\nhelloo\r\n0\r\n\r\n"),
        ("NUL in an extension", "5;\0\r\nhello\r\n0\r\n\r\n"),
        ("a folded trailer", "5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n"),
        ("a trailer without end", "5\r\nhello\r\n0\r\nX: " + "x" * 70000)):
    case("chunks: " + name, ok("Transfer-Encoding: chunked", body=chunks), cut=True)
case("chunks: white space behind their sizes", ok("Transfer-Encoding: chunked", body="5  \r\nhello\r\n0\t\r\n\r\n"),
     body=b"hello")
case("a trailer that would frame", ok("Transfer-Encoding: chunked", body="5\r\nhello\r\n0\r\nContent-Length: 50\r\nX-T: 1\r\n\r\n"),
     body=b"hello")
