"""What hostile clients send, and what may come of it.

In the bytes, @M stands for a marker that is the case's own, @H for a host name of the instance, and @L and @X for the
length of SMUGGLED, decimal and hexadecimal. A good request,
GET /@M/last, follows each case on the same connection: it must be answered as itself, or, after a refusal, never reach
the instance. A case that names it swallows it.
"""

from dataclasses import dataclass, field

HOST = "Host: @H"
SMUGGLED = "GET /@M/smuggled HTTP/1.1\r\nHost: @H\r\n\r\n"


@dataclass
class Case:
    name: str
    data: bytes
    # What the instance reads of it: (method, target, body).
    requests: list = field(default_factory=list)
    # How the ingress then refuses the rest; None: it refuses nothing.
    status: int = None
    # Requests that were passed on in part before something was found wrong in their bodies.
    aborted: int = 0
    # A server may refuse what the ingress passes on, such as a method that it does not know.
    server_may_refuse: bool = False


CASES = []


def raw(data):
    return data if isinstance(data, bytes) else data.encode("latin-1")


def head(*lines):
    return b"".join(raw(line) + b"\r\n" for line in lines) + b"\r\n"


def refused(name, *parts, status=400, **more):
    CASES.append(Case(name, b"".join(map(raw, parts)), status=status, **more))


def passes(name, *parts, requests, **more):
    requests = [(method, target, raw(body)) for method, target, body in requests]
    CASES.append(Case(name, b"".join(map(raw, parts)), requests, **more))


def post(*fields, body=b"", line="POST /@M/1 HTTP/1.1"):
    return head(line, HOST, *fields) + raw(body)


ONE = [("POST", "/@M/1", "hello")]
EMPTY = [("GET", "/@M/1", "")]
CHUNKED_HELLO = "5\r\nhello\r\n0\r\n\r\n"

# Both Content-Length and Transfer-Encoding: each may frame the body for somebody.
for encoding in ("chunked", "Chunked", "\tchunked", "xchunked", "chunked, identity", "identity", "gzip, chunked", ""):
    for order in (0, 1):
        fields = ["Content-Length: @L", f"Transfer-Encoding: {encoding}"]
        fields = fields[::-1] if order else fields
        refused(f"both, {'encoding' if order else 'length'} first: {encoding!r}", post(*fields, body="0\r\n\r\n" + SMUGGLED))
refused("both, the length between two encodings",
        post("Transfer-Encoding: chunked", "Content-Length: 5", "Transfer-Encoding: chunked", body=CHUNKED_HELLO))
refused("both, the encoding behind a bare LF", post("X: 1\nTransfer-Encoding: chunked", "Content-Length: 5", body=SMUGGLED))
refused("both, the encoding behind a bare CR", post("X: 1\rTransfer-Encoding: chunked", "Content-Length: 5", body=SMUGGLED))
refused("both, the encoding folded", post("Content-Length: 5", "Transfer-Encoding:", " chunked", body=CHUNKED_HELLO))
refused("both, a space before the encoding's colon", post("Content-Length: 5", "Transfer-Encoding : chunked", body="hello"))
passes("both, the encoding with an underscore", post("Content-Length: 5", "Transfer_Encoding: chunked", body="hello"),
       requests=ONE)
passes("both, the length with an underscore", post("Content_Length: 50", "Transfer-Encoding: chunked", body=CHUNKED_HELLO),
       requests=ONE)

# Content-Length alone.
for length in ("+5", "-5", "-1", "0x5", "5,5", "5, 5", "5 5", "", " ", "5.0", "5e0", "5;", '"5"', "five", "\xb5", "5\x0b",
               "\x0b5", "99999999999999999999", "18446744073709551621", "5,", ",5"):
    refused(f"Content-Length: {length!r}", post(f"Content-Length: {length}", body="hello"))
refused("Content-Length with NUL", post("Content-Length: 5\0", body="hello"))
refused("Content-Length twice, the same", post("Content-Length: 5", "Content-Length: 5", body="hello"))
refused("Content-Length twice, another", post("Content-Length: 5", "content-length: 0", body="hello"))
refused("Content-Length twice, one empty", post("Content-Length: 5", "Content-Length:", body="hello"))
refused("Content-Length, space before the colon", post("Content-Length : 5", body="hello"))
refused("Content-Length, tab before the colon", post("Content-Length\t: 5", body="hello"))
refused("Content-Length folded", post("Content-Length:", " 5", body="hello"))
refused("Content-Length as a fold of the first field", head("POST /@M/1 HTTP/1.1", " Content-Length: 5", HOST), "hello")
for length in ("5", "005", "  5\t ", "\t5"):
    passes(f"Content-Length: {length!r}", post(f"Content-Length: {length}", body="hello"), requests=ONE)
passes("Content-Length in capitals", post("CONTENT-LENGTH:5", body="hello"), requests=ONE)
passes("Content_Length frames nothing", head("GET /@M/1 HTTP/1.1", HOST, "Content_Length: @L"), requests=EMPTY)
passes("GET with a body", post("Content-Length: 5", body="hello", line="GET /@M/1 HTTP/1.1"),
       requests=[("GET", "/@M/1", "hello")])
passes("a body that looks like a request", post("Content-Length: @L", body=SMUGGLED),
       requests=[("POST", "/@M/1", SMUGGLED)])

# Transfer-Encoding alone.
for encoding in ("xchunked", "chunkedx", "chunked,identity", "chunked, chunked", "chunked;q=1",
                 "chunked;", '"chunked"', "'chunked'", "\x0bchunked", "chunked\x0b", "\x0cchunked", "chu nked", "chunked,",
                 ",chunked", "", "cow", "identity", "gzip", "chunked\x7f", "\xa0chunked", "chunked\0", "chunked\rx"):
    refused(f"Transfer-Encoding: {encoding!r}", post(f"Transfer-Encoding: {encoding}", body=CHUNKED_HELLO))
for encoding in ("identity, chunked", "gzip,deflate ,Chunked"):
    refused(f"Transfer-Encoding: {encoding!r}", post(f"Transfer-Encoding: {encoding}", body=CHUNKED_HELLO), status=501)
for second in ("chunked", "identity", ""):
    refused(f"Transfer-Encoding twice, then {second!r}",
            post("Transfer-Encoding: chunked", f"transfer-encoding: {second}", body=CHUNKED_HELLO))
refused("Transfer-Encoding, space before the colon", post("Transfer-Encoding : chunked", body=CHUNKED_HELLO))
refused("Transfer-Encoding with NUL in its name", post("Transfer-Encoding\0: chunked", body=CHUNKED_HELLO))
refused("Transfer-Encoding folded twice", post("Transfer-Encoding:", "\t", "\tchunked", body=CHUNKED_HELLO))
refused("Transfer-Encoding in HTTP/1.0",
        head("POST /@M/1 HTTP/1.0", HOST, "Connection: keep-alive", "Transfer-Encoding: chunked"), CHUNKED_HELLO)
for encoding in ("chunked", "CHUNKED", "\tchunked ", "chunked\t"):
    passes(f"Transfer-Encoding: {encoding!r}", post(f"Transfer-Encoding: {encoding}", body=CHUNKED_HELLO), requests=ONE)
passes("Transfer-Encoding without a space", post("Transfer-Encoding:chunked", body=CHUNKED_HELLO), requests=ONE)

# Lines and characters.
refused("all lines end in LF", "GET /@M/1 HTTP/1.1\nHost: @H\n\n")
refused("the request line ends in LF", "GET /@M/1 HTTP/1.1\nHost: @H\r\n\r\n")
refused("a field ends in LF", "GET /@M/1 HTTP/1.1\r\nHost: @H\n\r\n")
refused("the empty line is LF", "GET /@M/1 HTTP/1.1\r\nHost: @H\r\n\n")
refused("a line ends in CR CR LF", "GET /@M/1 HTTP/1.1\r\nHost: @H\r\r\n\r\n")
refused("lines end in CR", "GET /@M/1 HTTP/1.1\rHost: @H\r\r\n\r\n")
refused("CR in a value", head("GET /@M/1 HTTP/1.1", HOST, "X: a\rb"))
refused("CR in a name", head("GET /@M/1 HTTP/1.1", HOST, "X\rY: a"))
refused("CR in the target", head("GET /@M/1\rx HTTP/1.1", HOST))
refused("LF in a value", head("GET /@M/1 HTTP/1.1", HOST, "X: a\nb: c"))
for name, value in (("NUL", "\0"), ("VT", "\x0b"), ("FF", "\x0c"), ("SOH", "\x01"), ("DEL", "\x7f"), ("ESC", "\x1b")):
    refused(f"{name} in a value", head("GET /@M/1 HTTP/1.1", HOST, f"X: a{value}b"))
    refused(f"{name} in a name", head("GET /@M/1 HTTP/1.1", HOST, f"X{value}: a"))
refused("NUL in the target", head("GET /@M/1\0 HTTP/1.1", HOST))
refused("NUL in the method", head("GE\0T /@M/1 HTTP/1.1", HOST))
refused("a folded field", head("GET /@M/1 HTTP/1.1", HOST, "X: a", " b"))
refused("a field folded by a tab", head("GET /@M/1 HTTP/1.1", HOST, "X: a", "\tb"))
refused("a folded Host", head("GET /@M/1 HTTP/1.1", "Host:", " @H"))
refused("a line of spaces", head("GET /@M/1 HTTP/1.1", HOST, "  "))
refused("a field without a colon", head("GET /@M/1 HTTP/1.1", HOST, "X"))
refused("a field without a name", head("GET /@M/1 HTTP/1.1", HOST, ": x"))
refused("a name in parentheses", head("GET /@M/1 HTTP/1.1", HOST, "(X): x"))
refused("a request line as a field", head("GET /@M/1 HTTP/1.1", HOST, "GET /@M/2 HTTP/1.1"))
refused("too many fields", head("GET /@M/1 HTTP/1.1", HOST, *["X: 1"] * 300), status=431)
refused("a target of 70 KiB", head("GET /@M/" + "x" * 70000 + " HTTP/1.1", HOST), status=414)
refused("a head of 70 KiB", head("GET /@M/1 HTTP/1.1", HOST, "X: " + "x" * 70000), status=431)
passes("bytes above ASCII in a value", head("GET /@M/1 HTTP/1.1", HOST, "X: gr\xfc\xdfe"), requests=EMPTY)

# Chunks.
for name, chunks in (
        ("a size in 0x form", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a minus", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
        ("a space behind the size", "5 \r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a size that is no number", "g\r\nhello\r\n0\r\n\r\n"),
        ("two sizes", "5 5\r\nhello\r\n0\r\n\r\n"),
        ("VT behind the size", "5\x0b\r\nhello\r\n0\r\n\r\n"),
        ("NUL behind the size", "5\0\r\nhello\r\n0\r\n\r\n"),
        ("a size over 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size of 64 bits", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("a size with very many zeros", "0" * 300 + "5\r\nhello\r\n0\r\n\r\n"),
        ("a size that ends in LF", "5\nhello\r\n0\r\n\r\n"),
        ("data that ends in LF", "5\r\nhello\n0\r\n\r\n"),
        ("the last line is LF", "5\r\nhello\r\n0\r\n\n"),
        ("data without an end", "5\r\nhello0\r\n\r\n"),
        ("data longer than its size", "5\r\nhelloo\r\n0\r\n\r\n"),
        ("data shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        ("an extension with a bare LF", "5;a\nhello\r\n0\r\n\r\n"),
        ("an extension with a bare CR", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("an extension with NUL", "5;a=\0\r\nhello\r\n0\r\n\r\n"),
        ("an extension without a semicolon", "5 a=b\r\nhello\r\n0\r\n\r\n"),
        ("an extension of 70 KiB", "5;" + "a" * 70000 + "\r\nhello\r\n0\r\n\r\n"),
        ("a last chunk in 0x form", "5\r\nhello\r\n0x0\r\n\r\n"),
        ("a folded trailer", "0\r\nX: 1\r\n 2\r\n\r\n"),
        ("a trailer with a space before the colon", "0\r\nX : 1\r\n\r\n"),
        ("a trailer with NUL", "0\r\nX: \0\r\n\r\n"),
        ("a trailer without a colon", "0\r\nX\r\n\r\n"),
        ("a request for a trailer", "0\r\n" + SMUGGLED),
        ("a trailer that ends in LF", "0\r\nX: 1\n\r\n"),
        ("trailers of 70 KiB", "0\r\nX: " + "x" * 70000 + "\r\n\r\n")):
    refused("chunks: " + name, post("Transfer-Encoding: chunked", body=chunks), aborted=1)
for name, chunks in (
        ("leading zeros", "0005\r\nhello\r\n000\r\n\r\n"),
        ("capitals and several", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("a quoted extension", '5;a="\\";b"\r\nhello\r\n0;c\r\n\r\n'),
        ("an extension behind a space", "5 ; a\r\nhello\r\n0\r\n\r\n"),
        ("a trailer", "5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"),
        ("a trailer that would frame", "5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\nHost: y\r\n\r\n")):
    passes("chunks: " + name, post("Transfer-Encoding: chunked", body=chunks), requests=ONE)
passes("chunks that hold a request", post("Transfer-Encoding: chunked", body=f"@X\r\n{SMUGGLED}\r\n0\r\n\r\n"),
       requests=[("POST", "/@M/1", SMUGGLED)])
passes("GET with chunks", post("Transfer-Encoding: chunked", body=CHUNKED_HELLO, line="GET /@M/1 HTTP/1.1"),
       requests=[("GET", "/@M/1", "hello")])

# Hosts and targets.
for name, lines in (
        ("no Host", ["GET /@M/1 HTTP/1.1"]),
        ("two Hosts", ["GET /@M/1 HTTP/1.1", HOST, HOST]),
        ("two Hosts, another", ["GET /@M/1 HTTP/1.1", HOST, "host: evil"]),
        ("an empty Host", ["GET /@M/1 HTTP/1.1", "Host:"]),
        ("a Host with a user", ["GET /@M/1 HTTP/1.1", "Host: u@@H"]),
        ("a Host with a space", ["GET /@M/1 HTTP/1.1", "Host: @H evil"]),
        ("a list of Hosts", ["GET /@M/1 HTTP/1.1", "Host: @H, evil"]),
        ("a Host with a path", ["GET /@M/1 HTTP/1.1", "Host: @H/x"]),
        ("a Host with a bad port", ["GET /@M/1 HTTP/1.1", "Host: @H:80x"]),
        ("a Host with two ports", ["GET /@M/1 HTTP/1.1", "Host: @H:80:80"]),
        ("a Host behind a space", ["GET /@M/1 HTTP/1.1", "Host : @H"]),
        ("a Host with NUL", ["GET /@M/1 HTTP/1.1", "Host: @H\0.evil"]),
        ("another host in the target", ["GET http://evil/@M/1 HTTP/1.1", HOST]),
        ("a user in the target", ["GET http://u@@H/@M/1 HTTP/1.1", HOST]),
        ("another port in the target", ["GET http://@H:81/@M/1 HTTP/1.1", HOST]),
        ("https's port in an http target", ["GET http://@H:443/@M/1 HTTP/1.1", HOST]),
        ("a scheme of its own", ["GET ftp://@H/@M/1 HTTP/1.1", HOST]),
        ("no host in the target", ["GET http:///@M/1 HTTP/1.1", HOST]),
        ("a query without a path", ["GET http://@H?@M HTTP/1.1", HOST]),
        ("an empty target", ["GET  HTTP/1.1", HOST]),
        ("no target", ["GET HTTP/1.1", HOST]),
        ("a relative target", ["GET @M/1 HTTP/1.1", HOST]),
        ("a target with a space", ["GET /@M/1 x HTTP/1.1", HOST]),
        ("a target with a tab", ["GET /@M/1\tx HTTP/1.1", HOST]),
        ("a target with a fragment", ["GET /@M/1#x HTTP/1.1", HOST]),
        ("two spaces before the target", ["GET  /@M/1 HTTP/1.1", HOST]),
        ("two spaces behind the target", ["GET /@M/1  HTTP/1.1", HOST]),
        ("a space behind the version", ["GET /@M/1 HTTP/1.1 ", HOST]),
        ("a space before the method", [" GET /@M/1 HTTP/1.1", HOST]),
        ("a method that is no token", ["G{T /@M/1 HTTP/1.1", HOST]),
        ("* of GET", ["GET * HTTP/1.1", HOST]),
        ("a request line without a version", ["GET /@M/1"]),
        ("HTTP/1.10", ["GET /@M/1 HTTP/1.10", HOST]),
        ("http/1.1", ["GET /@M/1 http/1.1", HOST]),
        ("HTTP/1,1", ["GET /@M/1 HTTP/1,1", HOST]),
        ("no slash in the version", ["GET /@M/1 HTTP1.1", HOST]),
        ("a version of its own", ["GET /@M/1 XTTP/1.1", HOST]),
        ("HTTP/2's preface", ["PRI * HTTP/2.0", "", "SM", ""])):
    refused(name, head(*lines))
refused("CONNECT", head("CONNECT @H:80 HTTP/1.1", "Host: @H:80"), status=405)
refused("CONNECT of a path", head("CONNECT /@M/1 HTTP/1.1", HOST), status=405)
for version in ("HTTP/2.0", "HTTP/0.9", "HTTP/3.1"):
    refused(version, head(f"GET /@M/1 {version}", HOST), status=505)
passes("HTTP/1.2", head("GET /@M/1 HTTP/1.2", HOST), requests=EMPTY)
passes("an https URL as target", head("GET https://@H/@M/1 HTTP/1.1", HOST), requests=EMPTY)
passes("a URL with its scheme's port", head("GET http://@H:80/@M/1 HTTP/1.1", HOST), requests=EMPTY)
passes("a Host with its scheme's port", head("GET http://@H/@M/1 HTTP/1.1", "Host: @H:80"), requests=EMPTY)
passes("a URL as target", head("GET http://@H/@M/1 HTTP/1.1", HOST), requests=EMPTY)
passes("a URL in capitals", head("GET HTTP://@H/@M/1 HTTP/1.1", HOST), requests=EMPTY)
passes("two slashes", head("GET //evil/@M/1 HTTP/1.1", HOST), requests=[("GET", "//evil/@M/1", "")])
passes("an encoded line end", head("GET /@M/1%0d%0aX:%20y HTTP/1.1", HOST), requests=[("GET", "/@M/1%0d%0aX:%20y", "")])
passes("HTTP/1.0 that stays", head("GET /@M/1 HTTP/1.0", HOST, "Connection: keep-alive"), requests=EMPTY)
passes("a method of its own", head("BREW /@M/1 HTTP/1.1", HOST), requests=[("BREW", "/@M/1", "")], server_may_refuse=True)

# Several requests, and what stands between them.
passes("an empty line before", "\r\n", head("GET /@M/1 HTTP/1.1", HOST), requests=EMPTY)
passes("empty lines before", "\r\n" * 50, head("GET /@M/1 HTTP/1.1", HOST), requests=EMPTY)
refused("an empty line of LF before", "\n", head("GET /@M/1 HTTP/1.1", HOST))
refused("a line of CR before", "\r", head("GET /@M/1 HTTP/1.1", HOST))
passes("ten at once", *[head(f"GET /@M/{i} HTTP/1.1", HOST) for i in range(10)],
       requests=[("GET", f"/@M/{i}", "") for i in range(10)])
passes("bodies of each kind in turn", post("Content-Length: 5", body="hello"), post("Transfer-Encoding: chunked", body=CHUNKED_HELLO),
       head("GET /@M/2 HTTP/1.1", HOST), post("Content-Length: 0"),
       requests=[*ONE, *ONE, ("GET", "/@M/2", ""), ("POST", "/@M/1", "")])
passes("a line behind a body", post("Content-Length: 5", body="hello\r\n"), requests=ONE)
CASES.append(Case("a good one, then both framings", head("GET /@M/1 HTTP/1.1", HOST) +
                  post("Content-Length: 5", "Transfer-Encoding: chunked", body=CHUNKED_HELLO), [("GET", "/@M/1", b"")], status=400))
CASES.append(Case("a good body, then bytes that begin nothing", post("Content-Length: 5", body="hello\0\r\n\r\n"),
                  [("POST", "/@M/1", b"hello")], status=400))
passes("a body longer than its length", post("Content-Length: 5", body="helloX"), requests=[*ONE, ("XGET", "/@M/last", "")],
       server_may_refuse=True)

# What Connection lists goes no further; framing, Host and our own fields do.
for listed in ("Content-Length", "content-length, host", "close-not, Content-Length", "X-Forwarded-For, Content-Length"):
    passes(f"Connection: {listed}", post("Content-Length: 5", f"Connection: {listed}", body="hello"), requests=ONE)
passes("Connection: Transfer-Encoding", post("Transfer-Encoding: chunked", "Connection: Transfer-Encoding", body=CHUNKED_HELLO),
       requests=ONE)
passes("Connection: keep-alive, Host", post("Content-Length: 5", "Connection: keep-alive, Host", body="hello"), requests=ONE)
refused("Connection that is no list", post("Content-Length: 5", "Connection: a b", body="hello"))
refused("Connection in quotes", post("Content-Length: 5", 'Connection: "Content-Length"', body="hello"))

# Upgrades to HTTP/2, and Expect.
passes("h2c", head("GET /@M/1 HTTP/1.1", HOST, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
       requests=EMPTY)
passes("h2c among others", head("GET /@M/1 HTTP/1.1", HOST, "Connection: Upgrade", "Upgrade: websocket, h2c"), requests=EMPTY,
       server_may_refuse=True)
passes("h2c with a body", post("Content-Length: 5", "Connection: Upgrade", "Upgrade: h2c", body="hello"), requests=ONE)
passes("h2c without Connection", head("GET /@M/1 HTTP/1.1", HOST, "Upgrade: h2c"), requests=EMPTY)
passes("Expect with all of the body", post("Content-Length: 5", "Expect: 100-continue", body="hello"), requests=ONE)
passes("Expect with chunks", post("Transfer-Encoding: chunked", "Expect: 100-Continue", body=CHUNKED_HELLO), requests=ONE)
passes("Expect without a body", head("GET /@M/1 HTTP/1.1", HOST, "Expect: 100-continue"), requests=EMPTY)
passes("Expect in HTTP/1.0", head("POST /@M/1 HTTP/1.0", HOST, "Connection: keep-alive", "Content-Length: 5", "Expect: 100-continue"),
       "hello", requests=ONE)
for expect in ("200-ok", "100-continue, x", "100-continu"):
    refused(f"Expect: {expect!r}", post("Content-Length: 5", f"Expect: {expect}", body="hello"), status=417)
for expect in ("", "100-continue, ", ", 100-continue,100-continue"):
    passes(f"Expect: {expect!r}", post("Content-Length: 5", f"Expect: {expect}", body="hello"), requests=ONE)
