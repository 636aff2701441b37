"""A host and its internet for tests, in network namespaces of their own: the machine's own network is never touched.

  instances ── [host: 198.51.100.1, 2001:db8:51::1] ── veth ── [peer: every address of PUBLIC and NOT_PUBLIC]
                    └── veth ── [behind: another machine of the host's, if it is asked for]

The host's default routes lead to the peer, which answers at addresses that nobody must reach from inside an instance: so what
can't be reached was kept back, and not just missing.
"""

import atexit
import json
import os
import subprocess
import sys

from harness import DEADLINE, Agent, wait_for

HOST4, HOST6 = "198.51.100.1", "2001:db8:51::1"
PEER4, PEER6 = "198.51.100.7", "2001:db8:51::7"
PUBLIC = ["203.0.113.9", PEER4, "2001:db8:99::9", PEER6]
BEHIND4, BEHIND6 = "192.0.2.7", "2001:db8:52::7"
NOT_PUBLIC = ["10.66.6.6", "172.16.9.9", "172.31.9.9", "192.168.9.9", "100.64.9.9", "169.254.169.254", "168.63.129.16", "198.18.0.9",
              "192.0.0.9", "0.1.2.3", "fd66::9", "fc00::9", "fec0::9", "64:ff9b::a42:606", "2002:a42:606::1", "100::9"]
PORT = 9000

# Serves TCP at every address of its namespace, and UDP at those given, since an answer must come from there: tells a client what
# its address is. UDP payloads go to standard output.
SERVER = """
import selectors, socket, sys
port, selector = int(sys.argv[1]), selectors.DefaultSelector()
for kind, address in [(socket.SOCK_STREAM, a) for a in ("0.0.0.0", "::")] + [(socket.SOCK_DGRAM, a) for a in sys.argv[2:]]:
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in address:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port))
    if kind == socket.SOCK_STREAM:
        s.listen(64)
    selector.register(s, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            client, address = key.fileobj.accept()
            client.sendall(address[0].encode())
            client.close()
        else:
            data, address = key.fileobj.recvfrom(2000)
            print(data.decode(), address[0], flush=True)
            key.fileobj.sendto(address[0].encode(), address)
"""

# Tries [kind, address, port] all at once and prints for each what came: "ok ADDRESS-AS-SEEN", an errno's name, or "nothing".
PROBE = """
import errno, json, selectors, socket, sys, time
targets = json.loads(sys.argv[1])
results, selector = ["nothing"] * len(targets), selectors.DefaultSelector()
for n, (kind, address, port) in enumerate(targets):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setblocking(False)
    try:
        error = s.connect_ex((address, port))
        if kind == "udp" and not error:
            s.send(b"probe")
    except OSError as refused:
        error = refused.errno
    if error not in (0, errno.EINPROGRESS):
        results[n] = errno.errorcode[error]
        continue
    selector.register(s, selectors.EVENT_READ, n)
end = time.monotonic() + float(sys.argv[2])
while selector.get_map() and time.monotonic() < end:
    for key, _ in selector.select(max(0, end - time.monotonic())):
        try:
            results[key.data] = "ok " + key.fileobj.recv(100).decode()
        except OSError as refused:
            results[key.data] = errno.errorcode[refused.errno]
        selector.unregister(key.fileobj)
print(json.dumps(results))
"""


def within(netns, *command):
    """`netns`: a path. The mount namespace stays, so that what is mounted is seen by all."""
    return ["nsenter", f"--net={netns}", *command]


def run(*command, check=True):
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


class Lab:
    """The two namespaces, with a server in each. Removed by close()."""

    def __init__(self):
        self.names = [f"ctr-test-{os.getpid()}-{what}" for what in ("host", "peer")]
        self.host, self.peer = (f"/run/netns/{name}" for name in self.names)
        self.servers, self.outputs = [], []
        self.closed = False
        atexit.register(self.close)
        for name in self.names:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        host, peer = self.names
        run("ip", "-n", host, "link", "add", "uplink", "mtu", "1400", "type", "veth", "peer", "name", "uplink", "netns", peer)
        for name, addresses in ((host, (HOST4, HOST6)), (peer, (PEER4, PEER6))):
            for address, prefix in zip(addresses, (24, 64)):
                run("ip", "-n", name, "address", "add", f"{address}/{prefix}", "dev", "uplink", *self.nodad(address))
            run("ip", "-n", name, "link", "set", "uplink", "up")
        for address in PUBLIC + NOT_PUBLIC:
            if address not in (PEER4, PEER6):
                run("ip", "-n", peer, "address", "add", address, "dev", "lo", *self.nodad(address))
        self.forward(0)  # a new namespace has what the machine has
        run("ip", "-n", host, "route", "add", "default", "via", PEER4)
        run("ip", "-n", host, "-6", "route", "add", "default", "via", PEER6)
        # So that one that gets out with an address of its own is seen, and one that gets in would be answered.
        run("ip", "-n", peer, "route", "add", "default", "via", HOST4)
        run("ip", "-n", peer, "-6", "route", "add", "default", "via", HOST6)
        self.serve(self.host, PORT, HOST4, HOST6)
        self.serve(self.peer, PORT, *PUBLIC, *NOT_PUBLIC)

    def forward(self, on):
        """As the host's administrator has it."""
        for setting in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            self.set(setting, on)

    def set(self, setting, value):
        run(*within(self.host, "sh", "-c", f"echo {value} > /proc/sys/net/{setting.replace('.', '/')}"))

    def get(self, setting):
        return run(*within(self.host, "cat", f"/proc/sys/net/{setting.replace('.', '/')}")).strip()

    def add_behind(self):
        """A machine at another interface of the host, which has the host for its router. Gives its namespace."""
        name, host = f"{self.names[0]}-behind", self.names[0]
        run("ip", "netns", "add", name)
        self.names.append(name)
        run("ip", "-n", host, "link", "add", "inner", "type", "veth", "peer", "name", "uplink", "netns", name)
        for netns, dev, four, six in ((host, "inner", "192.0.2.1", "2001:db8:52::1"), (name, "uplink", BEHIND4, BEHIND6)):
            run("ip", "-n", netns, "address", "add", f"{four}/24", "dev", dev)
            run("ip", "-n", netns, "address", "add", f"{six}/64", "dev", dev, "nodad")
            run("ip", "-n", netns, "link", "set", dev, "up")
        run("ip", "-n", name, "route", "add", "default", "via", "192.0.2.1")
        run("ip", "-n", name, "-6", "route", "add", "default", "via", "2001:db8:52::1")
        return f"/run/netns/{name}"

    @staticmethod
    def nodad(address):
        return ["nodad"] if ":" in address else []

    def serve(self, netns, port, *addresses):
        output = os.memfd_create("server")
        server = subprocess.Popen(within(netns, sys.executable, "-c", SERVER, str(port), *addresses), stdout=output,
                                  stdin=subprocess.DEVNULL)
        self.servers.append(server)
        self.outputs.append(output)
        wait_for(lambda: self.printed(output).startswith("ready"), "a server")
        return output

    @staticmethod
    def printed(output):
        return os.pread(output, 1 << 20, 0).decode()

    def seen_by_peer(self):
        """What UDP servers of the peer have got: lines of payload and sender."""
        return "".join(self.printed(output) for output in self.outputs)

    def close(self):
        if self.closed:
            return
        self.closed = True
        for server in self.servers:
            server.kill()
            server.wait()
        for output in self.outputs:
            os.close(output)
        for name in self.names:
            run("ip", "netns", "delete", name, check=False)


class LabAgent(Agent):
    """An agent that takes the lab's host for its machine. (containerd, runc and instances have its namespace from it.)"""

    def __init__(self, lab, config=""):
        super().__init__()
        self.lab = lab
        self.before = within(lab.host)
        self.flags += ["--config", self.root + "/agent.toml"]
        self.configure(config)

    def configure(self, config):
        """For the next start."""
        with open(self.root + "/agent.toml", "w") as file:
            file.write(config)

    def mounted(self, *mounts):
        """What runs an agent on the lab's host where files of the machine are others: of [file, place] each."""
        binds = "".join(f'mount --bind "{file}" "{place}" && ' for file, place in mounts)
        return [*within(self.lab.host), "unshare", "--mount", "sh", "-c", binds + 'exec "$@"', "sh"]

    def opened(self):
        """How often the way out was opened, by the log."""
        with open(self.root + "/agent.log") as file:
            return file.read().count("the way out of instances is open")

    def netns(self, name):
        return f"/proc/{self.json('inspect', name)['pid']}/ns/net"

    def addresses(self, name):
        """Those of the instance towards the outside: IPv4, IPv6."""
        found = json.loads(run(*within(self.netns(name), "ip", "-j", "address", "show", "dev", "eth0")))
        return [a["local"] for a in found[0]["addr_info"] if a["scope"] == "global"]


def probe(netns, targets, seconds=1.5):
    """What a program in the namespace gets of each of [kind, address, port], kind is tcp or udp."""
    return json.loads(run(*within(netns, sys.executable, "-c", PROBE, json.dumps(targets), str(seconds))))
