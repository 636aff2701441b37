"""Hosts that differ: a kernel that refuses sk_lookup, a containerd that is shared, several agents on one machine."""

import socket
import subprocess
import unittest

from harness import BIN, Agent

WEB = 'name = "web"\nimage = "demo:latest"\ndefault_port = {port}\nenv = {{ PORT = "{port}" }}\n'


class Hosts(unittest.TestCase):
    def agent(self, *extra):
        agent = Agent(extra)
        self.addCleanup(agent.purge)
        return agent

    def test_without_sk_lookup_each_address_has_a_listener_and_a_conflict_is_named(self):
        agent = self.agent()
        with open(agent.root + "/agent.toml", "w") as file:
            file.write('steering = "bind"\n')
        agent.flags += ["--config", agent.root + "/agent.toml"]
        agent.start()
        self.assertIn("bind", agent.json("info")["steering"])
        agent.import_demo()
        agent.apply(WEB.format(port=8080))
        address = agent.ctr("get", "alice", "--address")
        self.assertEqual(agent.get(address=address, port=8080)[0], 200)
        agent.kill()
        agent.start()
        self.assertEqual(agent.get(address=address, port=8080)[0], 200)
        with socket.socket() as host_server:
            host_server.bind(("0.0.0.0", 0))
            host_server.listen()
            port = host_server.getsockname()[1]
            refused = agent.ctr("class", "apply", "-f", "-", stdin=WEB.format(port=port).replace('"web"', '"other"'),
                                check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn(str(port), refused.stderr)

    def test_with_sk_lookup_a_host_server_on_every_address_is_not_in_the_way(self):
        agent = self.agent().start()
        self.assertEqual(agent.json("info")["steering"], "sk_lookup")
        agent.import_demo()
        with socket.socket() as host_server:
            host_server.bind(("0.0.0.0", 0))
            host_server.listen()
            port = host_server.getsockname()[1]
            agent.apply(WEB.format(port=port))
            address = agent.ctr("get", "alice", "--address")
            status, headers, _ = agent.get(address=address, port=port)
            self.assertEqual((status, headers["Ctr-Instance"]), (200, "web/alice"))

    def test_an_agent_that_was_started_with_a_strict_umask_gives_every_user_its_files(self):
        agent = self.agent()
        agent.before = ["sh", "-c", 'umask 077; exec "$@"', "sh"]
        agent.start()
        agent.import_demo()
        agent.apply(WEB.format(port=8080) + 'user = "1000:1000"\n')
        agent.ctr("get", "alice")
        for name in ("hosts", "hostname", "resolv.conf"):
            self.assertTrue(agent.ctr("exec", "alice", "--", "cat", "/etc/" + name))

    def test_two_agents_share_a_machine_and_one_containerd(self):
        owner = self.agent().start()
        owner.import_demo()
        guest = self.agent("--containerd", owner.json("info")["containerd_socket"]).start()
        guest.import_demo()
        for agent in (owner, guest):
            agent.apply(WEB.format(port=8080))
            url = agent.ctr("get", "alice")
            body = subprocess.run(["curl", "-sS", "--max-time", "30", url], capture_output=True, check=True).stdout
            self.assertIn(b"alice", body)
        guest.purge()
        self.assertEqual(owner.json("inspect", "alice")["generation"], 1)
        self.assertEqual(owner.get(host="alice.web.localhost")[0], 200)

    def test_another_containerd_than_the_first_start_decided_is_refused(self):
        agent = self.agent().start()
        agent.stop()
        agent.flags += ["--containerd", "/run/other.sock"]
        refused = subprocess.run([BIN + "/ctr-agent", *agent.flags], capture_output=True, text=True, timeout=60)
        agent.flags = agent.flags[:-2]
        self.assertEqual(refused.returncode, 1)
        self.assertIn("private containerd", refused.stderr)


if __name__ == "__main__":
    unittest.main()
