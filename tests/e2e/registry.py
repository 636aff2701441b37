"""Registries for tests: Debian's docker-registry on loopback, one that lies, and a proxy that counts, cuts and spoils.

What is started here is stopped by the process or the thread that it is, also when a test fails."""

import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from harness import DEADLINE, DEMO, free_port, wait_for

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


def run(*command, **options):
    return subprocess.run(command, check=True, timeout=DEADLINE, capture_output=True, **options).stdout


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """A docker-registry of its own. `auth` and `tls` are sections of its configuration."""

    def __init__(self, auth=None, tls=None):
        self.folder = tempfile.mkdtemp(prefix="ctr-registry-")
        self.port = free_port()
        self.scheme = "https" if tls else "http"
        config = {"version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
                  "storage": {"filesystem": {"rootdirectory": self.folder + "/store"}},
                  "http": {"addr": f"127.0.0.1:{self.port}", "secret": "x"}}
        if tls:
            config["http"]["tls"] = tls
        if auth:
            config["auth"] = auth
        with open(self.folder + "/config.yml", "w") as file:
            json.dump(config, file)  # JSON is YAML
        with open(self.folder + "/log", "wb") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", self.folder + "/config.yml"], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_for(self.is_up, "docker-registry")
        except BaseException:
            self.close()
            raise

    def is_up(self):
        if self.process.poll() is not None:
            with open(self.folder + "/log") as log:
                raise AssertionError("docker-registry ended: " + log.read())
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.folder)

    def push(self, source, name, login=None):
        flags = ["--dest-creds", login] if login else []
        run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", *flags, source, f"docker://{self.host}/{name}")

    def put_manifest(self, name, tag, text, media_type):
        request = urllib.request.Request(f"http://{self.host}/v2/{name}/manifests/{tag}", data=text, method="PUT",
                                         headers={"Content-Type": media_type})
        urllib.request.urlopen(request, timeout=DEADLINE).close()

    def manifest(self, name, tag):
        """Its bytes as the registry serves them."""
        request = urllib.request.Request(f"http://{self.host}/v2/{name}/manifests/{tag}",
                                         headers={"Accept": MANIFEST + ", " + INDEX})
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return answer.read()


class Image:
    """The demo image as an OCI layout, with further layers of random bytes, a file /data/N in each."""

    def __init__(self, layers=0, size=1 << 20, zstd=False, seed=None, architecture=None):
        self.folder = tempfile.mkdtemp(prefix="ctr-image-")
        self.files = {}
        run("skopeo", "copy", "--quiet", "oci-archive:" + DEMO, f"oci:{self.folder}:latest")
        index = json.loads(self.read("index.json"))
        manifest = json.loads(self.blob(index["manifests"][0]["digest"]))
        config = json.loads(self.blob(manifest["config"]["digest"]))
        for layer in manifest["layers"]:
            if layer["mediaType"] != GZIP:  # else skopeo packs it, and it is another one
                layer.update(self.add(gzip.compress(self.blob(layer["digest"]), 1)), mediaType=GZIP)
        source = random.Random(seed if seed is not None else os.urandom(8))
        for number in range(layers):
            content = source.randbytes(size)
            self.files[f"/data/{number}"] = hashlib.sha256(content).hexdigest()
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as tar:
                entry = tarfile.TarInfo(f"data/{number}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            plain = packed.getvalue()
            layer = run("zstd", "-q", "-1", "-c", input=plain) if zstd else gzip.compress(plain, 1, mtime=0)
            config["rootfs"]["diff_ids"].append(digest_of(plain))
            manifest["layers"].append({"mediaType": ZSTD if zstd else GZIP, **self.add(layer)})
        config["history"] = []
        config["architecture"] = architecture or config["architecture"]
        self.config = config
        manifest["config"] = {"mediaType": CONFIG, **self.add(json.dumps(config).encode())}
        manifest["mediaType"] = MANIFEST
        self.manifest = manifest
        self.text = json.dumps(manifest).encode()
        index["manifests"] = [{"mediaType": MANIFEST, **self.add(self.text),
                               "annotations": {"org.opencontainers.image.ref.name": "latest"}}]
        with open(self.folder + "/index.json", "w") as file:
            json.dump(index, file)

    def read(self, name):
        with open(f"{self.folder}/{name}", "rb") as file:
            return file.read()

    def blob(self, digest):
        return self.read("blobs/sha256/" + digest.split(":")[1])

    def add(self, data):
        digest = digest_of(data)
        with open(f"{self.folder}/blobs/sha256/{digest.split(':')[1]}", "wb") as file:
            file.write(data)
        return {"digest": digest, "size": len(data)}

    @property
    def source(self):
        return f"oci:{self.folder}:latest"

    @property
    def digests(self):
        return {self.manifest["config"]["digest"], *(layer["digest"] for layer in self.manifest["layers"])}

    def archive(self, path, name):
        """Writes it to a file, as `docker save` would."""
        index = json.loads(self.read("index.json"))
        index["manifests"][0]["annotations"] = {"io.containerd.image.name": name}
        with open(self.folder + "/index.json", "w") as file:
            json.dump(index, file)
        run("tar", "-C", self.folder, "-cf", path, ".")

    def close(self):
        shutil.rmtree(self.folder)


class Proxy:
    """Passes TCP connections on to a registry, and counts the blobs that are asked for. `spoil(data, sent)` may change
    what comes back (None cuts the connection off); `sent` is how much of this connection was sent before."""

    def __init__(self, port, spoil=None):
        self.target = port
        self.spoil = spoil
        self.blobs = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.open = set()
        self.lock = threading.Lock()
        self.closed = False
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=DEADLINE)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.connections += 1
                self.open |= {client, server}
            for work in (self.requests, self.answers):
                threading.Thread(target=work, args=(client, server), daemon=True).start()

    def requests(self, client, server):
        try:
            while data := client.recv(65536):
                for line in data.split(b"\r\n"):
                    if line.startswith(b"GET ") and b"/blobs/" in line:
                        with self.lock:
                            self.blobs.append(line.split()[1].decode().rsplit("/", 1)[1])
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(client, server)

    def answers(self, client, server):
        sent = 0
        try:
            while data := server.recv(65536):
                if self.spoil:
                    changed = self.spoil(data, sent)
                    if changed is None:
                        # A reset, as of a machine that dies.
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        break
                    data = changed
                client.sendall(data)
                sent += len(data)
        except OSError:
            pass
        self.end(client, server)

    def end(self, *sockets):
        for s in sockets:
            with self.lock:
                self.open.discard(s)
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(DEADLINE)
        with self.lock:
            left = list(self.open)
        self.end(*left)


class Server:
    """An HTTP server that answers by `answer(handler)`, in a thread for each connection; counts its requests."""

    def __init__(self, answer):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.seen.append((self.path, dict(self.headers)))
                try:
                    answer(self)
                except OSError:
                    pass  # the client had enough
                self.close_connection = True

            def do_POST(self):
                self.form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.do_GET()

            def log_message(self, *_):
                pass

            def give(self, status, body=b"", **headers):
                self.send_response(status)
                fields = {name.replace("_", "-"): value for name, value in headers.items()}
                fields.setdefault("Content-Length", str(len(body)))
                for name, value in fields.items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_):
                pass  # one that speaks TLS to it, or goes away

        self.seen = []
        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self.server.shutdown()
        self.thread.join(DEADLINE)
        self.server.server_close()


class TokenServer(Server):
    """Gives tokens that a docker-registry believes, to those who know the password (alice, secret)."""

    def __init__(self, folder):
        self.folder = folder
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder + "/key.pem", "-out",
            folder + "/token.pem", "-days", "2", "-subj", "/CN=token")
        super().__init__(self.answer)

    @property
    def auth(self):
        return {"token": {"realm": f"http://{self.host}/token", "service": "test", "issuer": "test",
                          "rootcertbundle": self.folder + "/token.pem"}}

    def answer(self, handler):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(handler.path).query)
        login = base64.b64encode(b"alice:secret").decode()
        if handler.headers["Authorization"] != "Basic " + login:
            return handler.give(401, b"{}")
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        handler.give(200, json.dumps({"token": self.sign(access), "expires_in": 300}).encode(),
                     Content_Type="application/json")

    def sign(self, access):
        def encode(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")

        with open(self.folder + "/token.pem") as file:
            certificate = "".join(line.strip() for line in file if "-----" not in line)
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [certificate]}
        body = {"iss": "test", "sub": "alice", "aud": "test", "exp": now + 300, "nbf": now - 10, "iat": now,
                "jti": os.urandom(8).hex(), "access": access}
        signed = encode(json.dumps(head).encode()) + b"." + encode(json.dumps(body).encode())
        signature = run("openssl", "dgst", "-sha256", "-sign", self.folder + "/key.pem", input=signed)
        return (signed + b"." + encode(signature)).decode()


def make_certificates(folder):
    """A CA of its own, ca.pem, and what it vouches for as localhost: cert.pem and key.pem."""
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder + "/ca.key", "-out",
        folder + "/ca.pem", "-days", "2", "-subj", "/CN=a test's own CA")
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", folder + "/key.pem", "-out",
        folder + "/request.pem", "-subj", "/CN=localhost")
    with open(folder + "/names", "w") as file:
        file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    run("openssl", "x509", "-req", "-in", folder + "/request.pem", "-CA", folder + "/ca.pem", "-CAkey",
        folder + "/ca.key", "-CAcreateserial", "-out", folder + "/cert.pem", "-days", "2", "-extfile",
        folder + "/names")
