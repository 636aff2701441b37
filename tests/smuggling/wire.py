"""HTTP/1.1 read as strictly as it can be: a reader that shares nothing with the agent's."""

import re

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(%s) ([^\x00-\x20\x7f#]+) HTTP/1\.1" % TOKEN)
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9][0-9]) ([^\x00-\x08\x0a-\x1f\x7f]*)")
FIELD = re.compile(rb"(%s): ([^\x00-\x08\x0a-\x1f\x7f]*)" % TOKEN)
RESPONSE_FIELD = re.compile(rb"(%s): ([^\x00\r\n]*)" % TOKEN)
CHUNK_SIZE = re.compile(rb"[0-9a-f]{1,15}")


class Malformed(Exception):
    pass


class Incomplete(Exception):
    """The bytes end within a message."""


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def line(self):
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise Incomplete
        line = self.data[self.at:end]
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise Malformed(f"a line does not end in CR LF: {line!r}")
        self.at = end + 1
        return line[:-1]

    def take(self, size):
        if len(self.data) - self.at < size:
            raise Incomplete
        self.at += size
        return self.data[self.at - size:self.at]

    def rest(self):
        return self.take(len(self.data) - self.at)


def read_fields(cursor, field=FIELD):
    fields = []
    while line := cursor.line():
        match = field.fullmatch(line)
        if not match:
            raise Malformed(f"no field: {line!r}")
        fields.append((match[1].decode().lower(), match[2].decode("latin-1")))
    return fields


def values(fields, name):
    return [value for key, value in fields if key == name]


def read_chunks(cursor):
    body = b""
    while True:
        line = cursor.line()
        if not CHUNK_SIZE.fullmatch(line):
            raise Malformed(f"no chunk size: {line!r}")
        size = int(line, 16)
        if size == 0:
            break
        body += cursor.take(size)
        if cursor.line():
            raise Malformed("a chunk is longer than its size")
    for name, _ in read_fields(cursor):
        if name in ("content-length", "transfer-encoding", "host", "authorization"):
            raise Malformed(f"{name} is no trailer")
    return body


def read_body(cursor, fields, until_close):
    """The body, as its fields frame it; `until_close`: what it is if they don't."""
    lengths, encodings = values(fields, "content-length"), values(fields, "transfer-encoding")
    if len(lengths) + len(encodings) > 1:
        raise Malformed("more than one field frames the body")
    if encodings:
        if encodings != ["chunked"]:
            raise Malformed(f"Transfer-Encoding: {encodings[0]}")
        return read_chunks(cursor)
    if lengths:
        if not re.fullmatch("[0-9]{1,18}", lengths[0]):
            raise Malformed(f"Content-Length: {lengths[0]}")
        return cursor.take(int(lengths[0]))
    return cursor.rest() if until_close else b""


class Request:
    def __init__(self, cursor):
        line = cursor.line()
        match = REQUEST_LINE.fullmatch(line)
        if not match:
            raise Malformed(f"no request line: {line!r}")
        self.method, self.target = match[1].decode(), match[2].decode("latin-1")
        self.fields = read_fields(cursor)
        if len(values(self.fields, "host")) != 1:
            raise Malformed("not one Host")
        self.body = read_body(cursor, self.fields, until_close=False)


class Response:
    """`closed`: no more bytes will come, which ends a body without any framing."""

    def __init__(self, cursor, method, closed):
        while True:
            line = cursor.line()
            match = STATUS_LINE.fullmatch(line)
            if not match:
                raise Malformed(f"no status line: {line!r}")
            self.status = int(match[1])
            self.fields = read_fields(cursor, RESPONSE_FIELD)
            if self.status >= 200:
                break
        if method == "HEAD" or self.status in (204, 304):
            self.body = b""
            return
        framed = values(self.fields, "content-length") or values(self.fields, "transfer-encoding")
        if not framed and not closed:
            raise Incomplete
        self.body = read_body(cursor, self.fields, until_close=True)
