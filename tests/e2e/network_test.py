"""The way out of instances: what they reach and what they don't, from inside; that their rules hold; that nothing stays."""

import concurrent.futures
import json
import os
import random
import re
import shutil
import signal
import sys
import time
import unittest

import audit
import kills
from harness import network_remains, read, route_owner, wait_for
from netlab import BEHIND4, BEHIND6, HOST4, HOST6, NOT_PUBLIC, PEER4, PEER6, PORT, PUBLIC, Lab, LabAgent, probe, run, within

WEB = """
name = "{name}"
image = "demo:latest"
default_port = 8080
sleep_after = "never"
max_instances = 50
{more}
"""
CLOSED = "[network]\ninternet = false\n"


def web(name, more=""):
    return WEB.format(name=name, more=more)


def interfaces(agent):
    """Names of this agent's interfaces on its host."""
    prefix = f"ctr{agent.json('info')['agent_id'][:7]}-"
    links = json.loads(run(*within(f"/proc/{agent.process.pid}/ns/net", "ip", "-j", "link")))
    return [link["ifname"] for link in links if link["ifname"].startswith(prefix)]


class Network(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = Lab()
        cls.addClassCleanup(cls.lab.close)
        cls.agent = cls.start_agent()
        cls.agent.apply(web("open"))
        cls.agent.apply(web("closed", CLOSED))

    @classmethod
    def start_agent(cls, config=""):
        agent = LabAgent(cls.lab, config)
        cls.addClassCleanup(agent.purge)
        # Its ingress on every address of the host: what an instance must not reach.
        agent.flags[agent.flags.index("--http") + 1] = f"0.0.0.0:{agent.port}"
        agent.start()
        agent.import_demo()
        return agent

    def probe(self, name, targets, **how):
        return dict(zip(map(tuple, targets), probe(self.agent.netns(name), targets, **how)))

    def assertNothingReached(self, results):
        reached = [f"{kind} {address} {port}: {result}" for (kind, address, port), result in results.items()
                   if result.startswith("ok")]
        self.assertEqual(reached, [])

    def test_the_outside_is_reached_with_the_hosts_own_address(self):
        self.agent.ctr("get", "open/out")
        results = self.probe("open/out", [[kind, address, PORT] for kind in ("tcp", "udp") for address in PUBLIC])
        self.assertEqual({result for (_, address, _), result in results.items() if ":" not in address}, {f"ok {HOST4}"})
        self.assertEqual({result for (_, address, _), result in results.items() if ":" in address}, {f"ok {HOST6}"})
        # And by the instance's own tools.
        shell = self.agent.ctr("exec", "open/out", "--", "sh", "-c", f"nc -w 3 {PEER4} {PORT} < /dev/null")
        self.assertEqual(shell, HOST4)

    def test_what_is_not_public_is_refused_although_the_host_reaches_it(self):
        self.agent.ctr("get", "open/private")
        targets = [[kind, address, PORT] for kind in ("tcp", "udp") for address in NOT_PUBLIC]
        # 0.0.0.0/8 is no destination for the kernel either, which proves nothing; the rest the host itself reaches.
        from_host = dict(zip(map(tuple, targets), probe(self.lab.host, targets)))
        missed = [target for target, result in from_host.items() if not result.startswith("ok")]
        self.assertLessEqual({address for _, address, _ in missed}, {"0.1.2.3"})
        results = self.probe("open/private", targets)
        self.assertNothingReached(results)
        # At once, so that who tries need not wait.
        refused = {address for (kind, address, _), result in results.items() if kind == "tcp" and result == "ECONNREFUSED"}
        self.assertLessEqual({"10.66.6.6", "172.31.9.9", "192.168.9.9", "169.254.169.254", "fd66::9"}, refused)

    def test_the_host_is_not_reached_at_any_of_its_addresses(self):
        self.agent.ctr("get", "open/inward")
        links = json.loads(run(*within(self.lab.host, "ip", "-j", "address")))
        addresses = {a["local"] for link in links for a in link["addr_info"] if link["ifname"] != "lo"}
        self.assertLessEqual({HOST4, HOST6}, addresses)
        # The gateways that an instance sees, broadcast and multicast, and the ranges that steering serves on the host.
        addresses |= {"169.254.77.3", "198.51.100.255", "255.255.255.255", "224.0.0.1", "127.0.0.1", "127.82.0.2", "127.77.0.2"}
        ports = [PORT, self.agent.port, 53, 8080]
        targets = [[kind, address, port] for kind in ("tcp", "udp") for port in ports for address in addresses
                   if not (port == 8080 and address.startswith("127."))  # its own server
                   and not address.startswith("fe80")]
        results = self.probe("open/inward", targets)
        self.assertNothingReached(results)
        self.assertEqual({results["tcp", HOST4, PORT], results["tcp", HOST6, PORT], results["tcp", HOST4, self.agent.port]},
                         {"ECONNREFUSED"})

    def test_link_local_addresses_lead_nowhere(self):
        self.agent.ctr("get", "open/linklocal")
        results = self.probe("open/linklocal", [[kind, f"fe80::{n}%eth0", PORT] for kind in ("tcp", "udp") for n in (1, 2)] +
                             [["udp", "ff02::1%eth0", PORT]])
        self.assertNothingReached(results)

    def test_instances_do_not_reach_each_other_nor_does_anybody_else_reach_one_past_the_agent(self):
        for name in ("open/one", "open/two"):
            self.agent.ctr("get", name)
        addresses = self.agent.addresses("open/two")
        self.assertEqual(len(addresses), 2)
        targets = [["tcp", address, 8080] for address in addresses]
        # It listens there: what follows says nothing else.
        self.assertEqual(len(run(*within(self.agent.netns("open/two"), "ss", "-Hlnt", "sport", "=", "8080")).splitlines()), 1)
        self.assertEqual(set(self.probe("open/one", targets).values()), {"ECONNREFUSED"})
        self.assertEqual(set(probe(self.lab.host, targets)), {"nothing"})
        self.assertNotIn("ok", " ".join(probe(self.lab.peer, targets)))

    def test_the_agent_reaches_an_instance_by_lo_although_it_has_a_default_route(self):
        url = self.agent.ctr("get", "open/lo")
        self.assertIn("default", run(*within(self.agent.netns("open/lo"), "ip", "route")))
        body = run(*within(self.lab.host, "curl", "-sS", "--max-time", "20", url))
        self.assertIn("lo", body)

    def test_without_internet_there_is_only_lo(self):
        self.agent.ctr("get", "closed/a")
        links = json.loads(run(*within(self.agent.netns("closed/a"), "ip", "-j", "link")))
        self.assertEqual([link["ifname"] for link in links if "UP" in link["flags"]], ["lo"])
        results = self.probe("closed/a", [[kind, address, PORT] for kind in ("tcp", "udp")
                                          for address in [*PUBLIC, *NOT_PUBLIC, HOST4, HOST6]])
        self.assertLessEqual(set(results.values()), {"ENETUNREACH", "EADDRNOTAVAIL", "EHOSTUNREACH", "EINVAL"})
        self.assertNotIn(self.agent.json("inspect", "closed/a")["container_id"], audit.interfaces(self.agent))

    def test_an_address_that_is_not_its_own_gets_nowhere(self):
        for name in ("open/liar", "open/victim"):
            self.agent.ctr("get", name)
        own4, own6 = self.agent.addresses("open/liar")
        other4, other6 = self.agent.addresses("open/victim")
        unused4 = own4.rsplit(".", 2)[0] + ".255.254"
        sources = {"own4": own4, "own6": own6, "other4": other4, "other6": other6, "unused4": unused4,
                   "public4": "198.51.100.99", "public6": "2001:db8:51::99", "host4": HOST4, "host6": HOST6,
                   "loopback4": "127.0.0.1", "agent4": "169.254.77.1", "zero4": "0.0.0.0", "steered4": "127.77.0.2"}
        send = """
import json, socket, struct, sys
for label, source in json.loads(sys.argv[1]).items():
    payload = b"spoof-" + label.encode()
    udp = struct.pack("!HHHH", 5555, 9000, 8 + len(payload), 0)
    if ":" in source:
        import ctypes
        packed, to = socket.inet_pton(socket.AF_INET6, source), sys.argv[3]
        destination = socket.inet_pton(socket.AF_INET6, to)
        total = packed + destination + struct.pack("!IHBB", len(udp) + len(payload), 0, 0, 17) + udp + payload
        words = struct.unpack(f"!{len(total) // 2}H", total[:len(total) // 2 * 2])
        value = sum(words) + (total[-1] << 8 if len(total) % 2 else 0)
        while value >> 16:
            value = (value & 0xffff) + (value >> 16)
        udp = udp[:6] + struct.pack("!H", ~value & 0xffff or 0xffff)
        packet = struct.pack("!IHBB", 6 << 28, len(udp) + len(payload), 17, 64) + packed + destination + udp + payload
        frame = b"\\x02ctr\\x00\\x01" * 2 + b"\\x86\\xdd" + packet
    else:
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 1, 0, 64, 17, 0, socket.inet_aton(source),
                             socket.inet_aton(sys.argv[2]))
        value = sum(struct.unpack("!10H", header))
        value = (value & 0xffff) + (value >> 16)
        header = header[:10] + struct.pack("!H", ~(value + (value >> 16)) & 0xffff) + header[12:]
        frame = b"\\x02ctr\\x00\\x01" * 2 + b"\\x08\\x00" + header + udp + payload
    # Past the sender's own stack, which would not send some of them.
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(("eth0", 0))
    s.send(frame)
    s.close()
"""
        run(*within(self.agent.netns("open/liar"), sys.executable, "-c", send, json.dumps(sources), PEER4, PEER6))
        wait_for(lambda: {"spoof-own4", "spoof-own6"} <= set(re.findall(r"spoof-\w+", self.lab.seen_by_peer())),
                 "the packets with its own address")
        time.sleep(0.3)
        self.assertEqual(set(re.findall(r"spoof-\w+", self.lab.seen_by_peer())), {"spoof-own4", "spoof-own6"})

    def test_what_it_says_of_neighbours_and_routers_is_not_listened_to(self):
        self.agent.ctr("get", "open/router")
        show = lambda *what: run(*within(self.lab.host, "ip", *what))
        routes, routes6 = show("route"), show("-6", "route")
        send = """
import socket, struct
mac, s = b"\\x02ctr\\x00\\x01", socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 2, b"\\x02evil!", socket.inet_aton("198.51.100.7"), mac,
                  socket.inet_aton("198.51.100.1"))
for to in (mac, b"\\xff" * 6):
    s.send(to + b"\\x02evil!" + b"\\x08\\x06" + arp)
source, all_nodes = socket.inet_pton(socket.AF_INET6, "fe80::66"), socket.inet_pton(socket.AF_INET6, "ff02::1")
advert = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
total = source + all_nodes + struct.pack("!II", len(advert), 58) + advert
value = sum(struct.unpack(f"!{len(total) // 2}H", total))
while value >> 16:
    value = (value & 0xffff) + (value >> 16)
advert = advert[:2] + struct.pack("!H", ~value & 0xffff) + advert[4:]
s.send(b"\\x33\\x33\\0\\0\\0\\1" + mac + b"\\x86\\xdd" + struct.pack("!IHBB", 6 << 28, len(advert), 58, 255) + source + all_nodes + advert)
"""
        run(*within(self.agent.netns("open/router"), sys.executable, "-c", send))
        time.sleep(0.3)
        self.assertEqual((show("route"), show("-6", "route")), (routes, routes6))
        self.assertNotIn("02:65:76:69:6c:21", show("neighbour"))

    def test_names_are_asked_at_the_hosts_nameservers_at_port_53_alone(self):
        self.agent.ctr("get", "open/names")
        text = self.agent.ctr("exec", "open/names", "--", "cat", "/etc/resolv.conf")
        servers = re.findall(r"^nameserver (\S+)$", text, re.MULTILINE)
        self.assertTrue(servers, text)
        self.assertNotIn("127.0.0.53", servers)
        refused = self.agent.ctr("exec", "open/names", "--", "sh", "-c", "echo x >> /etc/resolv.conf", check=False)
        self.assertNotEqual(refused.returncode, 0)
        server = next(s for s in servers if ":" not in s)
        run("ip", "-n", self.lab.names[1], "address", "replace", server, "dev", "lo")
        self.addCleanup(run, "ip", "-n", self.lab.names[1], "address", "delete", server, "dev", "lo", check=False)
        self.lab.serve(self.lab.peer, 53, server)
        results = self.probe("open/names", [["udp", server, 53], ["tcp", server, 53], ["tcp", server, PORT], ["udp", server, PORT]])
        self.assertTrue(results["udp", server, 53].startswith("ok"), results)
        self.assertTrue(results["tcp", server, 53].startswith("ok"), results)
        if server.startswith(("10.", "192.168.", "172.")):
            self.assertFalse(results["tcp", server, PORT].startswith("ok"), results)
            self.assertFalse(results["udp", server, PORT].startswith("ok"), results)

    def test_doctor_tells_what_the_agent_alone_knows_too(self):
        answer = self.agent.json("doctor")
        outcomes = {finding["check"]: finding["outcome"] for finding in answer["findings"]}
        self.assertTrue(answer["ok"])
        self.assertEqual([outcomes[check] for check in ("containerd", "runc", "cgroups", "packet filter", "interfaces", "internet")],
                         ["ok"] * 6)
        self.assertIn("runtime", outcomes)
        self.assertIn("neither from nor to an instance are dropped",
                      next(f["detail"] for f in answer["findings"] if f["check"] == "forwarding"))
        self.assertRegex(self.agent.ctr("doctor"), r"(?m)^ok +internet  ")

    def test_large_packets_get_through_whatever_the_uplink_takes(self):
        self.agent.ctr("get", "open/large")
        link = json.loads(run(*within(self.agent.netns("open/large"), "ip", "-j", "link", "show", "eth0")))[0]
        self.assertEqual(link["mtu"], 1400)

    def test_what_the_agent_is_told_to_allow_is_reached_and_nothing_beside_it(self):
        agent = self.start_agent('[network]\nsubnet = "172.29.0.0/24"\nallow = ["10.66.6.0/24", "fd66::/64"]\n')
        agent.apply(web("open"))
        agent.ctr("get", "open/a")
        self.assertTrue(agent.addresses("open/a")[0].startswith("172.29.0."))
        targets = [["tcp", address, PORT] for address in ("10.66.6.6", "fd66::9", "192.168.9.9", "fc00::9", HOST4, PEER4)]
        results = [result[:2] for result in probe(agent.netns("open/a"), targets)]
        self.assertEqual(results, ["ok", "ok", "EC", "EC", "EC", "ok"])
        # Two agents of one machine: neither's instances reach the other's, and each has an interface of its own.
        self.agent.ctr("get", "open/neighbour")
        across = [["tcp", address, 8080] for address in self.agent.addresses("open/neighbour")]
        self.assertNotIn("ok", " ".join(probe(agent.netns("open/a"), across)))
        agent.purge()
        self.assertTrue(self.probe("open/neighbour", [["tcp", PEER4, PORT]])["tcp", PEER4, PORT].startswith("ok"))

    def test_rules_that_somebody_removes_are_put_back(self):
        self.agent.ctr("get", "open/flushed")
        table = f"ctr-{self.agent.json('info')['agent_id']}"
        for change in (["flush", "ruleset"], ["delete", "table", "inet", table], ["flush", "chain", "inet", table, "input"]):
            run(*within(self.lab.host, "nft", *change))
            wait_for(lambda: probe(self.agent.netns("open/flushed"), [["tcp", HOST4, PORT]], 0.5) == ["ECONNREFUSED"],
                     "the rules to be put back", timeout=10)
        self.assertIn("put back", read(self.agent.root + "/agent.log"))
        self.assertTrue(self.probe("open/flushed", [["tcp", PEER4, PORT]])["tcp", PEER4, PORT].startswith("ok"))


    def test_one_that_opens_all_the_flows_it_can_leaves_room_for_others(self):
        for name in ("open/greedy", "open/modest"):
            self.agent.ctr("get", name)
        flood = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(10000, 19000):
    try:
        s.sendto(b"x", (sys.argv[1], port))
    except OSError:
        pass
"""
        tcp = lambda name: self.probe(name, [["tcp", PEER4, PORT]])["tcp", PEER4, PORT]

        def refused():
            run(*within(self.agent.netns("open/greedy"), sys.executable, "-c", flood, PEER4))
            return tcp("open/greedy") == "ECONNREFUSED"

        wait_for(refused, "its limit of flows")
        self.assertEqual(tcp("open/modest"), f"ok {HOST4}")
        # Whom the kernel counts is no change of the rules, when others' have the agent look at its own.
        before = read(self.agent.root + "/agent.log").count("put back")
        table = f"ctr-{self.agent.json('info')['agent_id']}"
        self.assertIn("elements", run(*within(self.lab.host, "nft", "list", "set", "inet", table, "flows4")))
        run(*within(self.lab.host, "nft", "add", "table", "inet", "others"))
        time.sleep(2.5)
        self.assertEqual(read(self.agent.root + "/agent.log").count("put back"), before)

    def test_forwarding_that_somebody_turns_off_is_turned_on_again(self):
        self.agent.ctr("get", "open/forwarded")
        for setting in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            self.lab.set(setting, 0)
            wait_for(lambda: self.lab.get(setting) == "1", setting)
        self.assertEqual(set(self.probe("open/forwarded", [["tcp", PEER4, PORT], ["tcp", PEER6, PORT]]).values()),
                         {f"ok {HOST4}", f"ok {HOST6}"})


class OwnLab(unittest.TestCase):
    """Each test has a host, and an agent, of its own."""

    def setUp(self):
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.agent = self.start_agent()

    def start_agent(self, config=""):
        agent = LabAgent(self.lab, config)
        self.addCleanup(agent.purge)
        agent.start()
        agent.import_demo()
        agent.apply(web("open"))
        return agent

    def restart(self, config=None):
        self.agent.kill()
        if config is not None:
            self.agent.configure(config)
        self.agent.start()

    def show(self, *command):
        return run(*within(self.lab.host, *command))

    def tcp(self, name, *addresses):
        return probe(self.agent.netns(name), [["tcp", address, PORT] for address in addresses])

    def event_types(self, name):
        return [json.loads(line)["type"] for line in self.agent.ctr("events", name, "-o", "jsonl").splitlines()]


class Changes(OwnLab):
    """The host's network, and the agent's configuration, become others while instances run."""

    def test_a_host_that_passed_nothing_on_does_so_for_instances_alone(self):
        behind = self.lab.add_behind()
        self.agent.ctr("get", "open/a")
        self.assertEqual(self.tcp("open/a", PEER4, PEER6), [f"ok {HOST4}", f"ok {HOST6}"])
        targets = [["tcp", address, PORT] for address in (PEER4, PEER6)]
        self.assertEqual(probe(behind, targets), ["nothing"] * 2)
        self.assertEqual(probe(behind, [["tcp", HOST4, PORT]]), [f"ok {BEHIND4}"])
        # Also after another agent has come, which found it so, and the first one's next start.
        self.start_agent()
        self.restart()
        wait_for(lambda: self.agent.opened() == 2, "the way out")
        self.assertEqual(probe(behind, targets), ["nothing"] * 2)
        self.assertEqual(self.tcp("open/a", PEER4), [f"ok {HOST4}"])

    def test_a_purge_gives_forwarding_back_as_it_was(self):
        self.agent.ctr("get", "open/a")
        settings = ("ipv4.ip_forward", "ipv6.conf.all.forwarding", "ipv6.conf.uplink.accept_ra")
        self.assertEqual([self.lab.get(setting) for setting in settings], ["1", "1", "2"])
        self.agent.purge()
        self.assertEqual([self.lab.get(setting) for setting in settings], ["0", "0", "1"])

    def test_a_router_stays_one(self):
        self.agent.purge()
        behind = self.lab.add_behind()
        self.lab.forward(1)
        agent = self.start_agent()
        agent.ctr("get", "open/a")
        self.assertEqual(probe(behind, [["tcp", address, PORT] for address in (PEER4, PEER6)]),
                         [f"ok {BEHIND4}", f"ok {BEHIND6}"])
        agent.purge()
        self.assertEqual((self.lab.get("ipv4.ip_forward"), self.lab.get("ipv6.conf.all.forwarding")), ("1", "1"))

    def test_routes_of_a_vpn_and_to_all_private_networks_are_not_in_the_way(self):
        for route in (["0.0.0.0/1", "via", PEER4], ["128.0.0.0/1", "via", PEER4], ["blackhole", "10.0.0.0/8"]):
            self.show("ip", "route", "add", *route)
        # One that has its network already, one that chooses, one that is told.
        self.restart()
        for agent in (self.agent, self.start_agent(), self.start_agent('[network]\nsubnet = "10.50.0.0/16"\n')):
            agent.ctr("get", "open/a")
            self.assertEqual(probe(agent.netns("open/a"), [["tcp", PEER4, PORT]]), [f"ok {HOST4}"])
        self.show("ip", "route", "add", "10.60.3.0/24", "via", PEER4)
        taken = self.start_agent('[network]\nsubnet = "10.60.0.0/16"\n').ctr("get", "open/a", check=False)
        self.assertIn("[network] subnet 10.60.0.0/16 overlaps 10.60.3.0/24", taken.stderr)

    def test_instances_that_run_keep_their_way_out_when_the_network_moves(self):
        self.agent.ctr("get", "open/old")
        before = self.agent.addresses("open/old")
        self.restart('[network]\nsubnet = "172.29.0.0/24"\n')
        self.agent.ctr("get", "open/new")
        self.assertEqual(self.agent.addresses("open/old"), before)
        self.assertTrue(self.agent.addresses("open/new")[0].startswith("172.29.0."))
        for name in ("open/old", "open/new"):
            self.assertEqual(self.tcp(name, PEER4, PEER6, HOST4), [f"ok {HOST4}", f"ok {HOST6}", "ECONNREFUSED"])
        audit.assert_clean(self.agent)

    def test_a_metadata_service_that_is_allowed_is_no_failed_trial(self):
        self.lab.serve(self.lab.peer, 80)
        self.restart('[network]\nallow = ["169.254.169.254"]\n')
        self.agent.ctr("get", "open/a")
        self.assertEqual(probe(self.agent.netns("open/a"), [["tcp", "169.254.169.254", 80]]), [f"ok {HOST4}"])
        self.restart("")
        self.assertEqual(self.tcp("open/a", "169.254.169.254", PEER4), ["ECONNREFUSED", f"ok {HOST4}"])

    def test_ipv6_and_mtu_follow_the_host(self):
        wait_for(lambda: self.agent.opened() == 1, "the way out")
        self.show("ip", "-6", "route", "delete", "default")
        wait_for(lambda: self.agent.opened() == 2, "the way out without IPv6")
        self.agent.ctr("get", "open/four")
        self.assertEqual(len(self.agent.addresses("open/four")), 1)
        self.show("ip", "-6", "route", "add", "default", "via", PEER6)
        wait_for(lambda: self.agent.opened() == 3, "the way out with IPv6")
        self.show("ip", "link", "set", "uplink", "mtu", "1300")
        wait_for(lambda: self.agent.opened() == 4, "the way out with another MTU")
        self.agent.ctr("get", "open/six")
        self.assertEqual(self.tcp("open/six", PEER4, PEER6), [f"ok {HOST4}", f"ok {HOST6}"])
        self.assertIn("mtu 1300", run(*within(self.agent.netns("open/six"), "ip", "link", "show", "eth0")))

    def test_instances_that_run_see_other_nameservers_and_never_none(self):
        conf, table = self.agent.root + "/resolv.conf", f"ctr-{self.agent.json('info')['agent_id']}"

        def put(text):
            with open(conf, "w") as file:
                file.write(text)

        put("nameserver 10.66.6.6\n")
        self.agent.kill()
        self.agent.before = self.agent.mounted([conf, "/etc/resolv.conf"])
        self.agent.start()
        self.agent.before = within(self.lab.host)
        self.agent.ctr("get", "open/a")
        seen = lambda: re.findall(r"nameserver (\S+)", self.agent.ctr("exec", "open/a", "--", "cat", "/etc/resolv.conf"))
        self.assertEqual(seen(), ["10.66.6.6"])
        put("nameserver 172.16.9.9\n")
        wait_for(lambda: seen() == ["172.16.9.9"], "the other nameserver")
        # A program that has read the file before goes on asking the former.
        self.lab.serve(self.lab.peer, 53)
        self.assertEqual(probe(self.agent.netns("open/a"), [["tcp", "10.66.6.6", 53], ["tcp", "172.16.9.9", 53],
                                                            ["tcp", "10.66.6.6", PORT]]),
                         [f"ok {HOST4}", f"ok {HOST4}", "ECONNREFUSED"])
        put("")
        self.show("nft", "delete", "table", "inet", table)
        wait_for(lambda: "put back" in read(self.agent.root + "/agent.log"), "a look at the host")
        self.assertEqual(seen(), ["172.16.9.9"])

    def test_a_nameserver_of_the_host_itself_is_given_to_nobody_not_even_on_its_lo(self):
        conf = self.agent.root + "/resolv.conf"
        with open(conf, "w") as file:
            file.write("nameserver 10.53.0.1\n")
        self.show("ip", "address", "add", "10.53.0.1/32", "dev", "lo")
        self.agent.kill()
        self.agent.before = self.agent.mounted([conf, "/etc/resolv.conf"])
        self.agent.start()
        self.agent.before = within(self.lab.host)
        self.agent.ctr("get", "open/a")
        text = self.agent.ctr("exec", "open/a", "--", "cat", "/etc/resolv.conf")
        self.assertEqual(re.findall(r"nameserver (\S+)", text)[:2], ["8.8.8.8", "8.8.4.4"])

    def test_a_hand_over_leaves_the_way_out_open(self):
        self.agent.ctr("get", "open/a")
        old, flags = self.agent.process, self.agent.flags
        self.agent.flags = [*flags, "--takeover"]
        self.agent.spawn()
        self.agent.flags = flags
        self.assertEqual(old.wait(60), 0)
        wait_for(lambda: self.agent.ctr("info", check=False).returncode == 0, "the other agent")
        wait_for(lambda: self.agent.opened() == 2, "the way out")
        self.agent.ctr("get", "open/b")
        for name in ("open/a", "open/b"):
            self.assertEqual(self.tcp(name, PEER4, HOST4), [f"ok {HOST4}", "ECONNREFUSED"])
        audit.assert_clean(self.agent)


class Failures(OwnLab):
    """What happens to instances that run when something of their way out can't be done."""

    def wrap_nft(self, script):
        """From the next start on a shell script is the agent's nft; $nft is the real one."""
        wrapper = self.agent.root + "/nft"
        shutil.copy("/usr/sbin/nft", self.agent.root + "/real-nft")
        with open(wrapper, "w") as file:
            file.write(f"#!/bin/sh\nnft={self.agent.root}/real-nft\n{script}\n")
        os.chmod(wrapper, 0o755)
        self.agent.kill()
        self.agent.before = self.agent.mounted([wrapper, "/usr/sbin/nft"])
        self.agent.start()
        self.agent.before = within(self.lab.host)

    def break_nft(self):
        """From the next start on nft takes no rules while the file is there that this names."""
        broken = self.agent.root + "/nft-is-broken"
        self.wrap_nft(f'if [ -e {broken} ] && [ "$1" = -f ]; then echo "Error: no room" >&2; exit 1; fi\nexec $nft "$@"')
        return broken

    def test_rules_that_are_changed_while_they_are_put_back_are_put_back(self):
        table, changing = f"ctr-{self.agent.json('info')['agent_id']}", self.agent.root + "/nft-is-followed"
        self.wrap_nft('$nft "$@"; status=$?\n'
                      f'[ "$1" = -f ] && rm {changing} 2>/dev/null && $nft flush chain inet {table} input\nexit $status')
        self.agent.ctr("get", "open/a")
        open(changing, "w").close()
        self.show("nft", "delete", "table", "inet", table)
        wait_for(lambda: not os.path.exists(changing), "the rules to be put back, and changed at once")
        wait_for(lambda: self.tcp("open/a", HOST4) == ["ECONNREFUSED"], "the rules to be put back again", timeout=20)

    def test_rules_that_are_gone_for_good_cut_off_and_the_way_out_comes_back_with_them(self):
        broken = self.break_nft()
        self.agent.apply(web("closed", CLOSED))
        for name in ("open/a", "open/b", "closed/c"):
            self.agent.ctr("get", name)
        open(broken, "w").close()
        self.show("nft", "delete", "table", "inet", f"ctr-{self.agent.json('info')['agent_id']}")
        wait_for(lambda: not interfaces(self.agent), "the interfaces to be gone")
        wait_for(lambda: "internet_lost" in self.event_types("open/b"), "the event")
        self.assertNotEqual(self.agent.ctr("get", "open/late", check=False).returncode, 0)
        self.assertNotIn("internet_lost", self.event_types("closed/c"))
        os.unlink(broken)
        for name in ("open/a", "open/b"):
            wait_for(lambda: "internet_back" in self.event_types(name), "the event")
            self.assertEqual(self.tcp(name, PEER4, HOST4), [f"ok {HOST4}", "ECONNREFUSED"])
            self.assertEqual(self.agent.json("inspect", name)["generation"], 1)
        audit.assert_clean(self.agent)

    def test_rules_that_cannot_be_changed_but_hold_cut_nobody_off(self):
        broken = self.break_nft()
        self.agent.ctr("get", "open/a")
        before = self.agent.addresses("open/a")
        open(broken, "w").close()
        # Another address of the host has the rules put there anew.
        self.show("ip", "address", "add", "198.51.100.55/24", "dev", "uplink")
        wait_for(lambda: "no room" in self.agent.ctr("doctor", check=False).stdout, "the failure")
        self.assertNotEqual(self.agent.ctr("get", "open/late", check=False).returncode, 0)
        self.assertEqual(self.tcp("open/a", PEER4, HOST4, "198.51.100.55"), [f"ok {HOST4}", "ECONNREFUSED", "ECONNREFUSED"])
        os.unlink(broken)
        wait_for(lambda: self.agent.ctr("get", "open/late", check=False).returncode == 0, "the way out")
        self.assertEqual(self.agent.addresses("open/a"), before)
        self.assertNotIn("internet_lost", self.event_types("open/a"))

    def test_an_agent_without_nft_refuses_internet_and_says_what_to_do_and_runs_the_rest(self):
        self.agent.ctr("get", "open/before")
        self.agent.kill()
        # A machine that has no nft: an empty file over it, in a mount namespace of the agent's own.
        self.agent.before = self.agent.mounted(["/dev/null", "/usr/sbin/nft"])
        self.agent.start()
        refused = self.agent.ctr("get", "open/after", check=False)
        self.assertNotEqual(refused.returncode, 0)
        for word in ("nft", "internet = false", "ctr doctor"):
            self.assertIn(word, refused.stderr)
        doctor = self.agent.ctr("doctor", "-o", "json", check=False)
        self.assertEqual(doctor.returncode, 1)
        told = {finding["check"]: finding for finding in json.loads(doctor.stdout)["findings"]}
        self.assertEqual((told["nft"]["outcome"], told["internet"]["outcome"]), ("warning", "missing"))
        self.assertIn("apt-get install nftables", told["nft"]["advice"])
        # What runs, with the rules of before, goes on.
        self.assertEqual(self.tcp("open/before", PEER4, HOST4), [f"ok {HOST4}", "ECONNREFUSED"])
        self.agent.apply(web("closed", CLOSED))
        self.assertTrue(self.agent.ctr("get", "closed/a").startswith("http://"))
        # Until the rules go, too, as a package that is removed flushes them.
        self.show("nft", "flush", "ruleset")
        wait_for(lambda: not interfaces(self.agent), "the interfaces to be gone")
        wait_for(lambda: "internet_lost" in self.event_types("open/before"), "the event")
        self.agent.kill()
        # Without an agent its program looks at the machine.
        alone = self.agent.ctr("doctor", "-o", "json", check=False)
        self.assertEqual(alone.returncode, 0, alone.stdout + alone.stderr)
        self.assertIn("runc", [finding["check"] for finding in json.loads(alone.stdout)["findings"]])
        self.agent.before = within(self.lab.host)
        self.agent.start()
        self.agent.ctr("get", "open/after")
        wait_for(lambda: "internet_back" in self.event_types("open/before"), "the event")
        self.assertEqual(self.tcp("open/before", PEER4, HOST4), [f"ok {HOST4}", "ECONNREFUSED"])

    def test_what_is_there_already_is_not_written_again(self):
        paths = [self.agent.data + "/network", self.agent.run + "/network/resolv.conf", self.agent.run + "/network/settings"]
        wait_for(lambda: self.agent.opened() == 1, "the way out")
        stat = lambda: [(os.stat(path).st_ino, os.stat(path).st_mtime_ns) for path in paths]
        before = stat()
        self.restart()
        wait_for(lambda: self.agent.opened() == 2, "the way out")
        self.assertEqual(stat(), before)

    def test_networks_that_an_agent_has_left_claimed_are_released(self):
        agent_id = self.agent.json("info")["agent_id"]
        leak = ["unreachable", "10.250.0.0/16", "proto", "119", "metric", str(route_owner(agent_id))]
        self.show("ip", "route", "add", *leak)
        self.restart()
        wait_for(lambda: self.agent.opened() == 2, "the way out")
        self.assertNotIn("10.250", self.show("ip", "route"))
        audit.assert_clean(self.agent)
        # And a purge needs no file to find all.
        self.show("ip", "route", "add", *leak)
        self.agent.ctr("get", "open/a")
        self.agent.kill()
        os.unlink(self.agent.data + "/network")
        self.agent.purge()
        self.assertEqual(network_remains(agent_id, within(self.lab.host)), [])


class Remains(OwnLab):
    """What is left of instances, and of an agent, is nothing."""

    def test_a_hundred_starts_and_stops_leave_no_interface(self):
        def turn(id):
            for _ in range(10):
                self.agent.ctr("get", f"open/i{id}")
                self.agent.ctr("stop", f"open/i{id}", "-t", "0")

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(turn, range(10)))
        self.assertEqual(100, sum(i["generation"] for i in self.agent.json("ls", "-a")))
        wait_for(lambda: not interfaces(self.agent), "the interfaces to be gone")
        audit.assert_clean(self.agent)
        routes = run(*within(self.lab.host, "ip", "route", "show", "table", "all"))
        self.assertEqual(len(re.findall(r"dev ctr", routes)), 0, routes)

    def test_an_agent_that_is_killed_in_the_middle_leaves_nothing_and_cuts_nobody_off(self):
        self.agent.ctr("get", "open/stays")
        address, netns = self.agent.addresses("open/stays"), self.agent.netns("open/stays")
        chance = random.Random(3)
        for n in range(6):
            for id in range(4):
                self.agent.ctr("start", f"open/k{id}", "--no-wait", check=False)
            time.sleep(chance.uniform(0, 0.25))
            self.agent.kill()
            self.assertEqual(probe(netns, [["tcp", PEER4, PORT], ["tcp", HOST4, PORT]]),
                             [f"ok {HOST4}", "ECONNREFUSED"])
            self.agent.start()
            for id in range(4):
                self.agent.ctr("stop", f"open/k{id}", "-t", "0", check=False)
        audit.assert_clean(self.agent)
        self.assertEqual(len(interfaces(self.agent)), 1)
        self.assertEqual(self.agent.addresses("open/stays"), address)

    def test_containerd_killed_and_a_shim_killed_leave_no_interface(self):
        self.agent.ctr("get", "open/a")
        pid = kills.containerd_pid(self.agent)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: kills.containerd_pid(self.agent) != pid, "another containerd")
        kept = self.agent.addresses("open/a")
        self.assertEqual(probe(self.agent.netns("open/a"), [["tcp", PEER4, PORT]]), [f"ok {HOST4}"])
        for shim in audit.shims(self.agent.json("info")["containerd_socket"])[self.agent.json("inspect", "open/a")["container_id"]]:
            os.kill(shim, signal.SIGKILL)
        wait_for(lambda: self.agent.json("inspect", "open/a")["generation"] == 2 and
                 self.agent.json("inspect", "open/a")["state"] == "healthy", "the restart")
        self.assertNotEqual(self.agent.addresses("open/a"), kept)
        audit.assert_clean(self.agent)
        self.assertEqual(len(interfaces(self.agent)), 1)

    def test_a_purge_leaves_nothing_of_the_network(self):
        self.agent.ctr("get", "open/a")
        agent_id = self.agent.json("info")["agent_id"]
        show = lambda *what: run(*within(self.lab.host, *what))
        self.assertIn(agent_id, show("nft", "list", "tables"))
        self.assertIn("unreachable", show("ip", "route"))
        self.agent.purge()
        self.assertNotIn(agent_id, show("nft", "list", "tables"))
        self.assertNotIn(f"ctr{agent_id[:7]}", show("ip", "link"))
        self.assertNotIn("unreachable", show("ip", "route") + show("ip", "-6", "route"))


if __name__ == "__main__":
    unittest.main()
