"""Images from registries: real ones on loopback, and such as break, lie or go away."""

import base64
import concurrent.futures
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
import unittest

from harness import BIN, DEADLINE, DEMO, Agent, SmallDiskAgent, free_port, read, wait_for
from registry import (CONFIG, GZIP, INDEX, MANIFEST, Image, Proxy, Registry, Server, TokenServer, digest_of,
                      make_certificates, run)

JOB = 'name = "{name}"\nimage = "{image}"\n'


class ImageCase(unittest.TestCase):
    """One agent for all tests of a class, without any image, and one registry that anybody may read."""

    settings = ""  # further lines of the agent's file

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="ctr-pull-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.docker_config = cls.folder + "/config.json"
        cls.prepare()
        cls.registry = Registry()
        cls.addClassCleanup(cls.registry.close)
        cls.image = Image(layers=3, size=2 << 20)
        cls.addClassCleanup(cls.image.close)
        cls.registry.push(cls.image.source, "demo:1")
        with open(cls.folder + "/agent.toml", "w") as file:
            file.write(cls.settings.format(folder=cls.folder) if cls.settings else "")
            if "[images]" not in cls.settings:
                file.write("[images]\n")
            file.write(f'docker_config = "{cls.docker_config}"\n' + cls.registries())
        cls.agent = Agent(["--config", cls.folder + "/agent.toml"]).start()
        cls.addClassCleanup(cls.agent.purge)
        cls.namespace = cls.agent.json("info")["containerd_namespace"]

    @classmethod
    def prepare(cls):
        """Before the agent starts."""

    @classmethod
    def registries(cls):
        return ""

    def setUp(self):
        self.addCleanup(self.forget)

    def forget(self):
        for name in [entry["name"] for entry in self.agent.json("class", "ls")]:
            self.agent.ctr("class", "rm", name, "--force")
        self.agent.ctr("image", "prune")

    def proxy(self, registry=None, spoil=None):
        proxy = Proxy((registry or self.registry).port, spoil)
        self.addCleanup(proxy.close)
        return proxy

    def server(self, answer):
        server = Server(answer)
        self.addCleanup(server.close)
        return server

    def log_in(self, host, login):
        with open(self.docker_config, "w") as file:
            json.dump({"auths": {host: {"auth": base64.b64encode(login.encode()).decode()}}}, file)
        self.addCleanup(self.log_out)

    def log_out(self):
        if os.path.exists(self.docker_config):
            os.remove(self.docker_config)

    def pull(self, reference, *flags, **options):
        return self.agent.ctr("image", "pull", reference, *flags, check=False, **options)

    def assertPulls(self, reference, *flags, **options):
        result = self.pull(reference, *flags, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def assertRefused(self, result, status, *words):
        self.assertEqual(result.returncode, status, result.stderr)
        line = result.stderr.strip().splitlines()[-1]
        for word in words:
            self.assertIn(word, line)
        self.assertNothingUnfinished()

    def containerd(self, *args):
        return run("/usr/bin/ctr", "-a", self.agent.run + "/containerd/containerd.sock", "-n", self.namespace,
                   *args).decode()

    def unfinished(self):
        leases = [line for line in self.containerd("leases", "ls", "-q").splitlines() if line]
        writes = self.containerd("content", "active").splitlines()[1:]
        return leases + writes

    def assertNothingUnfinished(self):
        wait_for(lambda: not self.unfinished(), "the end of leases and writes: " + str(self.unfinished()))

    def references(self):
        return {image["reference"] for image in self.agent.json("image", "ls")}

    def apply(self, name, image, more="", check=True):
        result = self.agent.ctr("class", "apply", "-f", "-", stdin=JOB.format(name=name, image=image) + more, check=False)
        if check:
            self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def assertWhole(self, name):
        """What the class's image has in it is what was pushed."""
        paths = sorted(self.image.files)
        output = self.agent.ctr("run", f"{name}/check", "--", "/bin/sha256sum", *paths)
        self.assertEqual(dict(reversed(line.split()) for line in output.splitlines()),
                         {path: self.image.files[path] for path in paths})


class Pull(ImageCase):
    def push_both(self, *tags):
        """An index of this host's image and of one for s390x, by several names."""
        other = Image(layers=1, size=1000, architecture="s390x")
        self.addCleanup(other.close)
        self.registry.push(other.source, "demo:s390x")
        entries = [{"mediaType": MANIFEST, "digest": digest_of(image.text), "size": len(image.text),
                    "platform": {"os": "linux", "architecture": image.config["architecture"]}}
                   for image in (other, self.image)]
        text = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        for tag in tags:
            self.registry.put_manifest("demo", tag, text, INDEX)

    def test_a_pull_for_another_platform_takes_nothing_from_this_hosts_image(self):
        self.push_both("here", "there")
        here, there = self.registry.host + "/demo:here", self.registry.host + "/demo:there"
        self.assertPulls(here)
        self.assertPulls(there, "--platform", "linux/s390x")
        self.assertNothingUnfinished()
        self.apply("job", here, 'pull_policy = "never"\n')
        self.assertWhole("job")
        self.agent.ctr("image", "rm", there)
        self.assertWhole("job")

    def test_an_image_for_another_platform_starts_nothing_and_takes_no_name_that_is_used(self):
        self.push_both("both-1")
        reference = self.registry.host + "/demo:both-1"
        self.assertPulls(reference, "--platform", "linux/s390x")
        self.assertRefused(self.apply("job", reference, check=False), 4, "is for linux/s390x, this host is linux/")
        self.assertPulls(reference)
        self.apply("job", reference)
        self.assertRefused(self.pull(reference, "--platform", "linux/s390x"), 4, "is used by class job", "linux/s390x")
        self.assertWhole("job")

    def test_a_pull_for_another_platform_takes_no_name_that_a_class_begins_to_use(self):
        self.push_both("both-2")
        asked, go = threading.Event(), threading.Event()
        go.set()
        self.addCleanup(go.set)
        proxy = self.proxy(spoil=lambda data, sent: (asked.set(), go.wait(DEADLINE), data)[2])
        reference = proxy.host + "/demo:both-2"
        self.assertPulls(reference)
        asked.clear()
        go.clear()
        results = []
        thread = threading.Thread(target=lambda: results.append(self.pull(reference, "--platform", "linux/s390x")))
        thread.start()
        self.addCleanup(thread.join)
        self.assertTrue(asked.wait(DEADLINE))
        self.apply("job", reference, 'pull_policy = "never"\n')
        go.set()
        thread.join()
        self.assertRefused(results[0], 4, "is used by class job", "linux/s390x")
        self.assertWhole("job")

    def test_a_registry_that_trickles_holds_up_no_other(self):
        slow = threading.Event()
        self.addCleanup(slow.set)
        large, quick = Image(layers=6), Image(layers=2)
        for image, name in ((large, "large:1"), (quick, "quick:1")):
            self.addCleanup(image.close)
            self.registry.push(image.source, name)
        self.assertPulls(self.registry.host + "/demo:1")  # what all of them have in common is here
        proxy = self.proxy(spoil=lambda data, sent: (slow.wait(DEADLINE) if sent > 300_000 else None, data)[1])
        results = []
        thread = threading.Thread(target=lambda: results.append(self.pull(proxy.host + "/large:1", timeout=2 * DEADLINE)))
        thread.start()
        self.addCleanup(thread.join)
        wait_for(lambda: len(proxy.blobs) >= 4, "the transfers")
        self.assertPulls(self.registry.host + "/quick:1", timeout=DEADLINE / 2)
        self.assertFalse(results)
        slow.set()
        thread.join()
        self.assertEqual(results[0].returncode, 0, results[0].stderr)

    def test_what_is_pulled_runs_and_has_the_registrys_digest(self):
        reference = self.registry.host + "/demo:1"
        result = self.assertPulls(reference)
        self.assertEqual(result.stdout, reference + "\n")
        self.assertIn("here", result.stderr)
        self.assertNotIn("\x1b", result.stderr)
        self.apply("job", reference)
        self.assertWhole("job")
        shown = self.agent.json("image", "ls")[0]
        self.assertEqual(shown["digest"], digest_of(self.registry.manifest("demo", "1")))
        self.assertEqual(shown["classes"], ["job"])
        self.assertIn(shown["digest"], self.agent.ctr("class", "show", "job"))
        self.assertGreater(shown["size_bytes"], 6 << 20)
        self.assertNothingUnfinished()
        self.assertRefused(self.agent.ctr("image", "rm", reference, check=False), 4, "job")
        self.agent.ctr("class", "rm", "job", "--force")
        self.assertEqual(self.agent.ctr("image", "prune"), reference)
        self.assertEqual(self.references(), set())

    def test_by_digest_and_as_json(self):
        digest = digest_of(self.registry.manifest("demo", "1"))
        pulled = self.agent.json("image", "pull", f"{self.registry.host}/demo@{digest}")
        self.assertEqual(pulled, {"reference": f"{self.registry.host}/demo@{digest}", "digest": digest})
        self.apply("job", pulled["reference"], 'pull_policy = "always"\n')
        self.assertEqual(self.agent.json("image", "ls")[0]["classes"], ["job"])

    def test_a_class_whose_image_is_missing_pulls_it_and_so_does_a_start(self):
        reference = self.registry.host + "/demo:1"
        self.apply("job", reference)
        self.assertWhole("job")
        self.containerd("images", "rm", "--sync", reference)
        self.assertEqual(self.references(), set())
        self.assertEqual(self.agent.ctr("run", "job/again", "--", "/bin/echo", "here"), "here")
        self.assertEqual(self.references(), {reference})

    def test_a_class_that_never_pulls_says_what_to_do(self):
        result = self.apply("job", self.registry.host + "/demo:1", 'pull_policy = "never"\n', check=False)
        self.assertRefused(result, 3, "ctr image pull", "ctr image import")

    def test_a_class_that_always_pulls_runs_one_digest_until_it_is_applied_again(self):
        image = Image(layers=1, size=1000)
        self.addCleanup(image.close)
        self.registry.push(self.image.source, "moving:1")
        reference = self.registry.host + "/moving:1"
        self.apply("job", reference, 'pull_policy = "always"\n')
        first = digest_of(self.registry.manifest("moving", "1"))
        self.assertIn(first, self.agent.ctr("class", "show", "job"))
        self.registry.push(image.source, "moving:1")
        self.assertPulls(reference)
        self.assertWhole("job")
        self.agent.ctr("autoscale", "off", "job", check=False)
        self.assertIn(first, self.agent.ctr("class", "show", "job"))
        self.agent.stop()
        self.agent.start()
        self.assertIn(first, self.agent.ctr("class", "show", "job"))
        result = self.apply("job", reference, 'pull_policy = "always"\n')
        self.assertIn("configured", result.stdout)
        self.assertIn(digest_of(self.registry.manifest("moving", "1")), self.agent.ctr("class", "show", "job"))
        result = self.apply("job", reference, 'pull_policy = "always"\n')
        self.assertIn("unchanged", result.stdout)

    def test_zstd_layers(self):
        image = Image(layers=2, size=100_000, zstd=True)
        self.addCleanup(image.close)
        self.registry.push(image.source, "zstd:1")
        self.assertIn("zstd", self.registry.manifest("zstd", "1").decode())
        self.apply("job", self.registry.host + "/zstd:1")
        output = self.agent.ctr("run", "job/check", "--", "/bin/sha256sum", "/data/0", "/data/1")
        self.assertEqual([line.split()[0] for line in output.splitlines()],
                         [image.files["/data/0"], image.files["/data/1"]])

    def test_an_index_gives_this_hosts_image_and_says_what_else_there_is(self):
        mine = {"mediaType": MANIFEST, "digest": digest_of(self.image.text), "size": len(self.image.text)}
        self.assertEqual(self.registry.manifest("demo", "1"), self.image.text)
        here, other = dict(mine), dict(mine)
        here["platform"] = {"os": "linux", "architecture": self.image.config["architecture"]}
        other["platform"] = {"os": "linux", "architecture": "mips64le"}
        both = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other, here]}).encode()
        self.registry.put_manifest("demo", "both", both, INDEX)
        self.apply("job", self.registry.host + "/demo:both")
        self.assertEqual(self.agent.json("image", "ls")[0]["digest"], digest_of(both))
        self.assertWhole("job")
        only = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other]}).encode()
        self.registry.put_manifest("demo", "other", only, INDEX)
        result = self.pull(self.registry.host + "/demo:other")
        self.assertRefused(result, 3, "linux/" + self.image.config["architecture"], "linux/mips64le")
        result = self.pull(self.registry.host + "/demo:1", "--platform", "linux/arm/v7")
        self.assertRefused(result, 3, "linux/arm/v7", "linux/" + self.image.config["architecture"])
        self.assertRefused(self.pull(self.registry.host + "/demo:1", "--platform", "dos"), 2, "dos")

    def test_what_is_not_there(self):
        self.assertRefused(self.pull(self.registry.host + "/demo:2"), 3, "does not have it")
        self.assertRefused(self.pull(self.registry.host + "/nothing"), 3, "does not have it")
        self.assertRefused(self.pull(self.registry.host + "/Demo"), 2, "lower case")
        self.assertRefused(self.apply("job", self.registry.host + "/nothing", check=False), 3, "ctr image import")

    def test_twenty_classes_that_pull_at_once_fetch_each_blob_once(self):
        proxy = self.proxy()
        threads, results = [], []
        for number in range(20):
            # Half of them by another name of the same image.
            name = "demo:1" if number % 2 else "demo@" + digest_of(self.image.text)
            work = lambda n=number, i=name: results.append(self.apply(f"job-{n}", f"{proxy.host}/{i}", check=False))
            threads.append(threading.Thread(target=work))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([result.returncode for result in results], [0] * 20, [r.stderr for r in results])
        self.assertEqual(sorted(proxy.blobs), sorted(self.image.digests))
        self.assertNothingUnfinished()

    def test_a_connection_that_is_cut_at_random(self):
        source = random.Random(7)

        def cut(data, sent):
            # After 64 KiB of it, for most attempts; on the average after a third of a megabyte.
            return None if sent > 65536 and source.random() < 0.2 else data

        proxy = self.proxy(spoil=cut)
        self.apply("job", proxy.host + "/demo:1")
        self.assertWhole("job")
        self.assertGreater(len(proxy.blobs), len(self.image.digests))
        self.assertNothingUnfinished()

    def test_a_connection_that_is_always_cut(self):
        proxy = self.proxy(spoil=lambda data, sent: None if sent >= 8000 else data[:8000])
        begun = time.monotonic()
        self.assertRefused(self.pull(proxy.host + "/demo:1"), 1, proxy.host)
        self.assertLess(time.monotonic() - begun, 45)

    def test_a_corrupt_blob_is_refused(self):
        def spoil(data, sent):
            return data[:-1] + bytes([data[-1] ^ 1]) if sent > 100_000 else data

        proxy = self.proxy(spoil=spoil)
        self.assertRefused(self.pull(proxy.host + "/demo:1"), 1, "corrupt", "digest")
        self.assertEqual(self.references(), set())

    def test_a_registry_that_is_gone(self):
        self.assertRefused(self.pull(f"127.0.0.1:{free_port()}/demo:1"), 1, "can't be reached")
        result = self.apply("job", f"127.0.0.1:{free_port()}/demo:1", check=False)
        self.assertRefused(result, 3, "can't be reached", "ctr image import")

    def test_ctrl_c_leaves_nothing_unless_somebody_else_waits(self):
        slow = threading.Event()
        self.addCleanup(slow.set)

        def hold(data, sent):
            if sent > 300_000:
                slow.wait(DEADLINE)
            return data

        proxy = self.proxy(spoil=hold)
        command = [BIN + "/ctr", "--host", self.agent.socket, "image", "pull", proxy.host + "/demo:1"]

        def start():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(process.communicate)
            self.addCleanup(process.kill)
            return process

        first = start()
        wait_for(lambda: len(proxy.blobs) >= 4, "the transfers")
        self.assertNotEqual(self.unfinished(), [])
        first.send_signal(signal.SIGINT)
        first.wait(DEADLINE)
        self.assertNothingUnfinished()
        self.assertEqual(self.references(), set())

        first, second = start(), start()
        time.sleep(0.5)
        first.send_signal(signal.SIGINT)
        first.wait(DEADLINE)
        time.sleep(0.5)
        slow.set()
        output, errors = second.communicate(timeout=DEADLINE)
        self.assertEqual((second.returncode, output), (0, proxy.host + "/demo:1\n"), errors)

    def test_an_agent_that_is_killed_while_it_pulls_leaves_nothing_to_the_next(self):
        slow = threading.Event()
        self.addCleanup(slow.set)
        proxy = self.proxy(spoil=lambda data, sent: (slow.wait(DEADLINE) if sent > 300_000 else None, data)[1])
        thread = threading.Thread(target=self.pull, args=(proxy.host + "/demo:1",))
        thread.start()
        wait_for(lambda: len(proxy.blobs) >= 4, "the transfers")
        self.agent.kill()
        thread.join()
        slow.set()
        self.agent.start()
        self.assertNothingUnfinished()

    def test_archives_with_several_platforms_from_standard_input(self):
        other = Image(layers=1, size=1000)
        self.addCleanup(other.close)
        archive = self.folder + "/multi.tar"
        index = json.loads(other.read("index.json"))
        here = index["manifests"][0]
        here["platform"] = {"os": "linux", "architecture": other.config["architecture"]}
        here.pop("annotations")
        foreign = {**here, "platform": {"os": "linux", "architecture": "mips64le"}}
        inner = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [foreign, here]}).encode()
        index["manifests"] = [{"mediaType": INDEX, **other.add(inner),
                               "annotations": {"io.containerd.image.name": "docker.io/library/multi:1"}}]
        with open(other.folder + "/index.json", "w") as file:
            json.dump(index, file)
        run("tar", "-C", other.folder, "-cf", archive, ".")
        with open(archive, "rb") as file:
            output = run(BIN + "/ctr", "--host", self.agent.socket, "image", "import", "-", stdin=file)
        self.assertEqual(output, b"docker.io/library/multi:1\n")
        self.apply("job", "multi:1", 'pull_policy = "never"\n')
        self.assertEqual(self.agent.ctr("run", "job/a", "--", "/bin/echo", "runs"), "runs")

    def test_a_layout_of_bare_tags_is_told_of_what_they_are(self):
        layout = self.folder + "/tags"
        for tag in ("v1", "v2"):
            image = Image(layers=1, size=1000)
            self.addCleanup(image.close)
            run("skopeo", "copy", "--quiet", image.source, f"oci:{layout}:{tag}")
        archive = self.folder + "/tags.tar"
        run("tar", "-C", layout, "-cf", archive, ".")
        self.assertRefused(self.agent.ctr("image", "import", archive, check=False), 2, "(v1, v2)", "--name demo")
        self.assertRefused(self.agent.ctr("image", "import", archive, "--name", "u:1", check=False), 2, "(v1, v2)",
                           "without a tag")
        imported = self.agent.ctr("image", "import", archive, "--name", "u")
        self.assertEqual(set(imported.split()), {"docker.io/library/u:v1", "docker.io/library/u:v2"})


class Login(ImageCase):
    """Registries that want to know who asks."""

    @classmethod
    def prepare(cls):
        tokens = tempfile.mkdtemp(dir=cls.folder)
        cls.tokens = TokenServer(tokens)
        cls.addClassCleanup(cls.tokens.close)
        cls.by_token = Registry(auth=cls.tokens.auth)
        cls.addClassCleanup(cls.by_token.close)
        passwords = cls.folder + "/htpasswd"
        run("htpasswd", "-Bbc", passwords, "alice", "secret")
        cls.by_password = Registry(auth={"htpasswd": {"realm": "test", "path": passwords}})
        cls.addClassCleanup(cls.by_password.close)
        make_certificates(cls.folder)
        cls.by_tls = Registry(tls={"certificate": cls.folder + "/cert.pem", "key": cls.folder + "/key.pem"})
        cls.addClassCleanup(cls.by_tls.close)
        # The agent finds credential helpers in its PATH.
        helper = cls.folder + "/docker-credential-ctr-test"
        with open(helper, "w") as file:
            file.write('#!/bin/sh\nread url\necho "asked for $url" >> ' + cls.folder + '/helper.log\n'
                       '[ -e ' + cls.folder + '/helper.empty ] && { echo "credentials not found in native keychain"; exit 1; }\n'
                       'echo noise >&2\n'
                       'printf \'{"ServerURL":"%s","Username":"alice","Secret":"secret"}\' "$url"\n')
        os.chmod(helper, 0o755)
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{cls.folder}:{path}"
        cls.addClassCleanup(os.environ.__setitem__, "PATH", path)

    @classmethod
    def registries(cls):
        return f'[[registry]]\nhost = "localhost:{cls.by_tls.port}"\nca = "{cls.folder}/ca.pem"\n'

    def setUp(self):
        super().setUp()
        self.log_out()

    def check(self, registry):
        registry.push(self.image.source, "team/demo:1", "alice:secret")
        reference = registry.host + "/team/demo:1"
        self.assertRefused(self.pull(reference), 1, "docker login " + registry.host, self.docker_config)
        self.log_in(registry.host, "alice:wrong")
        self.assertRefused(self.pull(reference), 1, "docker login", "the login in")
        self.log_in(registry.host, "alice:secret")
        self.apply("job", reference)
        self.assertWhole("job")

    def test_a_password(self):
        self.check(self.by_password)

    def test_a_token(self):
        self.check(self.by_token)

    def test_a_credential_helper(self):
        self.by_password.push(self.image.source, "helped:1", "alice:secret")
        with open(self.docker_config, "w") as file:
            json.dump({"credHelpers": {self.by_password.host: "ctr-test"}}, file)
        self.assertPulls(self.by_password.host + "/helped:1")
        self.assertIn("asked for " + self.by_password.host, read(self.folder + "/helper.log"))
        self.forget()
        with open(self.folder + "/helper.empty", "w"):
            pass
        self.addCleanup(os.remove, self.folder + "/helper.empty")
        self.assertRefused(self.pull(self.by_password.host + "/helped:1"), 1, "docker login")
        with open(self.docker_config, "w") as file:
            json.dump({"credsStore": "there-is-none"}, file)
        self.assertRefused(self.pull(self.by_password.host + "/helped:1"), 1, "docker-credential-there-is-none")

    def test_tls_with_a_ca_of_its_own(self):
        self.by_tls.push(self.image.source, "demo:1")
        self.apply("job", f"localhost:{self.by_tls.port}/demo:1")
        self.assertWhole("job")
        # Under this name, nobody said whom to trust.
        self.assertRefused(self.pull(f"127.0.0.1:{self.by_tls.port}/demo:1"), 1, "not trusted", "[[registry]]")

    def test_a_token_goes_to_nobody_but_the_registry(self):
        text = self.image.text
        elsewhere = self.server(lambda h: h.give(200, self.image.blob(h.path.rsplit("/", 1)[1])))

        def answer(handler):
            if handler.path.startswith("/token"):
                handler.give(200, b'{"token":"for-you-alone"}')
            elif handler.headers["Authorization"] != "Bearer for-you-alone":
                handler.give(401, WWW_Authenticate=f'Bearer realm="http://{server.host}/token",service="s"')
            elif "/blobs/" in handler.path:
                handler.give(307, Location=f"http://{elsewhere.host}/blob/" + handler.path.rsplit("/", 1)[1])
            else:
                handler.give(200, text, Content_Type=MANIFEST)

        server = self.server(answer)
        self.assertPulls(server.host + "/demo:1")
        self.assertEqual({path.rsplit("/", 1)[1] for path, _ in elsewhere.seen}, self.image.digests)
        self.assertTrue(all("Authorization" not in headers for _, headers in elsewhere.seen))

    def test_an_identity_token_is_exchanged(self):
        def answer(handler):
            if handler.path.startswith("/token"):
                right = "grant_type=refresh_token" in handler.form and "refresh_token=mine%21" in handler.form
                handler.give(200 if right else 401, b'{"access_token":"given"}')
            elif handler.headers["Authorization"] != "Bearer given":
                handler.give(401, WWW_Authenticate=f'Bearer realm="http://{server.host}/token",service="s"')
            elif "/blobs/" in handler.path:
                handler.give(200, self.image.blob(handler.path.rsplit("/", 1)[1]))
            else:
                handler.give(200, self.image.text, Content_Type=MANIFEST)

        server = self.server(answer)
        with open(self.docker_config, "w") as file:
            json.dump({"auths": {server.host: {"identitytoken": "mine!"}}}, file)
        self.assertPulls(server.host + "/demo:1")


class Hostile(ImageCase):
    """Registries that lie: refused with a line that says so, soon, and with nothing left."""

    def check(self, answer, status, *words, most_seconds=20):
        server = self.server(answer)
        before = self.memory()
        begun = time.monotonic()
        self.assertRefused(self.pull(server.host + "/x:1"), status, *words)
        self.assertLess(time.monotonic() - begun, most_seconds)
        self.assertLess(self.memory() - before, 64 << 20)
        self.assertEqual(self.references(), set())
        return server

    def memory(self):
        with open(f"/proc/{self.agent.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def image_with(self, change=None, blob=None):
        """The true image but for its manifest, or its blobs' answers."""
        manifest = json.loads(self.image.text)
        if change:
            change(manifest)
        text = json.dumps(manifest).encode()

        def answer(handler):
            if "/manifests/" in handler.path:
                return handler.give(200, text, Content_Type=MANIFEST)
            digest = handler.path.rsplit("/", 1)[1]
            data = self.image.blob(digest)
            if blob and digest != manifest["config"]["digest"]:
                return blob(handler, data)
            handler.give(200, data)

        return answer

    def test_a_manifest_without_end(self):
        def answer(handler):
            handler.give(200, Content_Type=MANIFEST, Content_Length=None)
            while True:
                handler.wfile.write(b" " * 65536)

        self.check(answer, 1, "larger than")

    def test_headers_without_end(self):
        def answer(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                handler.wfile.write(b"X-More: " + b"x" * 8000 + b"\r\n")

        self.check(answer, 1, "header")

    def test_indexes_without_end(self):
        made = {}

        def index(depth):
            inner = json.dumps({"depth": depth}).encode() if depth > 40 else index(depth + 1)
            made[digest_of(inner)] = inner
            entry = {"mediaType": INDEX, "digest": digest_of(inner), "size": len(inner)}
            return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()

        top = index(0)
        server = self.check(lambda h: h.give(200, made.get(h.path.rsplit("/", 1)[1], top), Content_Type=INDEX), 1, "nested")
        self.assertLess(len(server.seen), 20)

    def test_an_index_that_names_itself(self):
        entry = {"mediaType": INDEX, "digest": "sha256:" + "a" * 64, "size": 10}
        text = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
        self.check(lambda h: h.give(200, text, Content_Type=INDEX), 1, "corrupt")

    def test_a_blob_without_end(self):
        def blob(handler, data):
            handler.give(200, Content_Length=None)
            while True:
                handler.wfile.write(data)

        self.check(self.image_with(blob=blob), 1, "more of")

    def test_a_length_that_is_a_lie(self):
        self.check(self.image_with(blob=lambda h, data: h.give(200, data, Content_Length=str(len(data) + 1000))), 1,
                   "bytes, and its manifest")
        self.check(self.image_with(blob=lambda h, data: h.give(200, data[:-5])), 1, "bytes, and its manifest")

    def test_another_blob_than_was_asked_for(self):
        self.check(self.image_with(blob=lambda h, data: h.give(200, bytes(len(data)))), 1, "digest")

    def test_a_part_that_was_not_asked_for(self):
        def blob(handler, data):
            if "Range" in handler.headers:
                handler.give(206, data[10:], Content_Range=f"bytes 10-{len(data) - 1}/{len(data)}")
            else:
                handler.give(200, data[:100_000], Content_Length=str(len(data)))

        self.check(self.image_with(blob=blob), 1, "another part")

    def test_a_foreign_layer(self):
        def change(manifest):
            manifest["layers"][0]["urls"] = ["http://192.0.2.1/layer"]

        self.check(self.image_with(change), 1, "foreign layer")

    def test_redirects_without_end(self):
        self.check(lambda h: h.give(302, Location="/again"), 1, "redirects")

    def test_layers_that_are_no_archives(self):
        junk = os.urandom(1000)
        config = json.dumps({**self.image.config, "rootfs": {"type": "layers", "diff_ids": [digest_of(junk)]}}).encode()
        text = json.dumps({"schemaVersion": 2, "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
                           "layers": [{"mediaType": GZIP, "digest": digest_of(junk), "size": len(junk)}]}).encode()
        blobs = {digest_of(config): config, digest_of(junk): junk}

        def answer(handler):
            name = handler.path.rsplit("/", 1)[1]
            handler.give(200, blobs.get(name, text), Content_Type=MANIFEST)

        self.check(answer, 1, "can't be unpacked")

    def test_a_manifest_of_millions_of_values(self):
        text = b'{"manifests":[' + b"0," * 2_000_000 + b"0]}"
        self.check(lambda h: h.give(200, text, Content_Type=INDEX), 1, "values")

    def test_words_that_are_meant_for_a_terminal(self):
        config = json.dumps({**self.image.config, "os": "\x1b[31mred\nforged"}).encode()

        def change(manifest):
            manifest["config"].update(digest=digest_of(config), size=len(config))

        true = self.image_with(change)

        def answer(handler):
            if handler.path.endswith(digest_of(config)):
                return handler.give(200, config)
            true(handler)

        self.check(answer, 3, "only for ?[31mred?forged")
        self.assertNotIn("\x1b[31mred", read(self.agent.root + "/agent.log"))

    def test_a_connection_that_breaks_after_the_last_byte(self):
        def blob(handler, data):
            if "Range" in handler.headers:
                return handler.give(416)
            handler.give(200, Content_Length=None, Transfer_Encoding="chunked")
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))  # and no last chunk

        self.assertPulls(self.server(self.image_with(blob=blob)).host + "/x:1")

    def test_a_registry_that_fails_now_and_then(self):
        true = self.image_with()

        def answer(handler):
            if len(server.seen) % 2:
                return handler.give(503, b"busy")
            true(handler)

        server = self.server(answer)
        self.assertPulls(server.host + "/x:1")

    def test_a_registry_that_always_fails(self):
        self.check(lambda h: h.give(500, b"no"), 1, "500")
        self.check(lambda h: h.give(418, b"no"), 1, "418")


class Store(ImageCase):
    """The image store's limit, and mirrors."""

    settings = '[images]\nmax_size = "40MiB"\n'

    @classmethod
    def prepare(cls):
        cls.mirrored = Registry()
        cls.addClassCleanup(cls.mirrored.close)
        cls.mirror = Proxy(cls.mirrored.port)
        cls.addClassCleanup(cls.mirror.close)
        cls.corrupt = Proxy(cls.mirrored.port, spoil=lambda data, sent:
                            data[:-1] + bytes([data[-1] ^ 1]) if sent > 100_000 else data)
        cls.addClassCleanup(cls.corrupt.close)
        cls.stranger = Server(lambda handler: handler.give(200, b"<html>Sign in</html>", Content_Type="text/html"))
        cls.addClassCleanup(cls.stranger.close)

    @classmethod
    def registries(cls):
        gone = f"http://127.0.0.1:{free_port()}"
        return (f'[[registry]]\nhost = "registry.invalid"\nmirrors = ["{gone}", "http://{cls.mirror.host}"]\n'
                f'[[registry]]\nhost = "corrupt.invalid"\n'
                f'mirrors = ["http://{cls.corrupt.host}", "http://{cls.mirror.host}"]\n'
                f'[[registry]]\nhost = "stranger.invalid"\n'
                f'mirrors = ["http://{cls.stranger.host}", "http://{cls.mirror.host}"]\n'
                f'[[registry]]\nhost = "{cls.registry.host}"\nmirrors = ["http://{cls.mirror.host}"]\nplain_http = true\n')

    def test_a_mirror_is_asked_first_and_the_registry_for_what_it_lacks(self):
        self.mirrored.push(self.image.source, "team/demo:1")
        before = len(self.mirror.blobs)
        self.apply("job", "registry.invalid/team/demo:1")
        self.assertWhole("job")
        self.assertEqual(len(self.mirror.blobs) - before, len(self.image.digests))
        self.forget()
        self.assertPulls(self.registry.host + "/demo:1")

    def test_what_mirrors_said_is_told_when_the_registry_has_nothing_either(self):
        refused = self.pull("registry.invalid/team/nothing:1")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("no mirror has it (", refused.stderr)
        self.assertIn(f"{self.mirror.host}: ", refused.stderr)

    def test_a_name_with_a_digest_is_only_for_what_has_it(self):
        image = Image(layers=1, size=1000)
        self.addCleanup(image.close)
        image.archive(self.folder + "/pinned.tar", "docker.io/library/app:1")
        before = self.agent.json("image", "ls")
        refused = self.agent.ctr("image", "import", self.folder + "/pinned.tar", "--name", "app@sha256:" + "0" * 64, check=False)
        self.assertRefused(refused, 2, "names another digest than the image's, which is sha256:")
        self.assertEqual(self.agent.json("image", "ls"), before)
        digest = refused.stderr.partition("which is ")[2].partition(";")[0]
        self.agent.ctr("image", "import", self.folder + "/pinned.tar", "--name", "app@" + digest)
        self.assertIn("docker.io/library/app@" + digest, self.references())

    def test_a_mirror_whose_blobs_are_corrupt_is_not_the_last_to_be_asked(self):
        self.mirrored.push(self.image.source, "team/demo:2")
        self.apply("job", "corrupt.invalid/team/demo:2")
        self.assertWhole("job")
        self.assertGreater(len(self.corrupt.blobs), 0)
        self.assertNothingUnfinished()

    def test_a_mirror_that_answers_with_something_else_is_passed_over(self):
        self.mirrored.push(self.image.source, "team/demo:3")
        self.apply("job", "stranger.invalid/team/demo:3")
        self.assertWhole("job")
        self.assertGreater(len(self.stranger.seen), 0)

    def test_what_would_not_fit_anyway_costs_no_other_image(self):
        small, large = Image(layers=1, size=1000), Image(layers=1, size=30 << 20)
        for image, name in ((small, "small:1"), (large, "large:1")):
            self.addCleanup(image.close)
            self.registry.push(image.source, name)
        used, unused = self.registry.host + "/demo:1", self.registry.host + "/small:1"
        self.apply("job", used)
        self.assertPulls(unused)
        self.assertRefused(self.pull(self.registry.host + "/large:1"), 4, "max_size", "40MiB")
        self.assertEqual(self.references(), {used, unused})
        large.archive(self.folder + "/large.tar", "docker.io/library/large:1")
        self.assertRefused(self.agent.ctr("image", "import", self.folder + "/large.tar", check=False), 4, "max_size", "40MiB")
        self.assertEqual(self.references(), {used, unused})
        small.archive(self.folder + "/small.tar", "docker.io/library/small:1")
        self.agent.ctr("image", "import", self.folder + "/small.tar")
        self.assertIn("docker.io/library/small:1", self.references())

    def test_what_fits_packed_and_not_unpacked_is_refused_and_costs_no_other_image(self):
        small, large = Image(layers=1, size=1000), Image(layers=1, size=30 << 20)
        for image, name in ((small, "small:1"), (large, "large:1")):
            self.addCleanup(image.close)
            self.registry.push(image.source, name)
        self.assertPulls(self.registry.host + "/small:1")
        self.assertRefused(self.pull(self.registry.host + "/large:1"), 4, "max_size", "40MiB")
        self.assertEqual(self.references(), {self.registry.host + "/small:1"})

    def test_what_would_not_fit_anyway_costs_no_image_that_shares_layers_with_it(self):
        less, more = Image(layers=1, size=14 << 20, seed=1), Image(layers=3, size=14 << 20, seed=1)
        self.assertLess(less.digests & more.digests, less.digests)
        for image, name in ((less, "less:1"), (more, "more:1")):
            self.addCleanup(image.close)
            self.registry.push(image.source, name)
        self.assertPulls(self.registry.host + "/less:1")
        self.assertRefused(self.pull(self.registry.host + "/more:1"), 4, "max_size", "40MiB")
        self.assertEqual(self.references(), {self.registry.host + "/less:1"})

    def test_an_import_that_does_not_fit_takes_no_name(self):
        small, large = Image(layers=1, size=1000), Image(layers=1, size=30 << 20)
        for image, name in ((small, "small"), (large, "large")):
            self.addCleanup(image.close)
            image.archive(f"{self.folder}/{name}.tar", "docker.io/library/app:1")
        self.agent.ctr("image", "import", self.folder + "/small.tar")
        before = self.agent.json("image", "ls")
        self.assertRefused(self.agent.ctr("image", "import", self.folder + "/large.tar", check=False), 4, "max_size", "40MiB")
        self.assertEqual(self.agent.json("image", "ls"), before)
        self.apply("job", "app:1", 'pull_policy = "never"\n')
        before = self.agent.json("image", "ls")
        self.assertRefused(self.agent.ctr("image", "import", self.folder + "/large.tar", check=False), 4, "max_size", "40MiB")
        self.assertEqual(self.agent.json("image", "ls"), before)
        self.assertEqual(self.agent.ctr("run", "job/a", "--", "/bin/echo", "runs"), "runs")

    def test_the_oldest_unused_images_make_room(self):
        pulled = []
        for number in range(4):
            image = Image(layers=2, size=4 << 20)
            self.addCleanup(image.close)
            self.registry.push(image.source, f"big:{number}")
            pulled.append(f"{self.registry.host}/big:{number}")
        self.apply("job", pulled[0])
        self.assertPulls(pulled[1])
        self.assertPulls(pulled[2])
        self.assertEqual(self.references(), {pulled[0], pulled[2]})
        self.apply("job-2", pulled[2])
        self.assertRefused(self.pull(pulled[3]), 4, "max_size", "40MiB")
        self.assertEqual(self.references(), {pulled[0], pulled[2]})
        # What is here needs no room.
        self.assertPulls(pulled[2])

    def test_pulls_at_once_of_which_some_fit_are_not_all_refused(self):
        self.forget()
        references = []
        for number in range(4):
            image = Image(layers=2, size=4 << 20)
            self.addCleanup(image.close)
            self.registry.push(image.source, f"crowd:{number}")
            references.append(f"{self.registry.host}/crowd:{number}")
        with concurrent.futures.ThreadPoolExecutor(len(references)) as pool:
            pulled = list(pool.map(self.pull, references))
        for result in pulled:
            if result.returncode != 0:
                self.assertRefused(result, 4, "max_size", "40MiB")
        self.assertGreaterEqual(sum(result.returncode == 0 for result in pulled), 2)
        self.assertNothingUnfinished()


class Bomb(unittest.TestCase):
    """What would fill a small disk is given up while there is room."""

    def start(self, **options):
        self.agent = SmallDiskAgent(**options)
        self.addCleanup(self.agent.purge)
        self.agent.start()

    def serve(self, layer, diff_id, size=None, blob=None):
        """A registry with an image of one layer, which is `layer`, or whatever `blob` gives."""
        config = json.dumps({"os": "linux", "architecture": "", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).encode()
        text = json.dumps({"schemaVersion": 2, "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
                           "layers": [{"mediaType": GZIP, "digest": digest_of(layer), "size": size or len(layer)}]}).encode()

        def answer(handler):
            name = handler.path.rsplit("/", 1)[1]
            if blob and name == digest_of(layer):
                return blob(handler)
            handler.give(200, {digest_of(config): config, digest_of(layer): layer}.get(name, text), Content_Type=MANIFEST)

        server = Server(answer)
        self.addCleanup(server.close)
        return server.host + "/bomb:1"

    def assertGivenUp(self, *command):
        def free():
            disk = os.statvfs(self.agent.root)
            return min(disk.f_bavail / disk.f_blocks, disk.f_favail / disk.f_files)

        before = free()
        least = [before]
        over = threading.Event()

        def watch():
            while not over.wait(0.02):
                least.append(free())

        watcher = threading.Thread(target=watch)
        watcher.start()
        result = self.agent.ctr("image", *command, check=False)
        over.set()
        watcher.join()
        self.assertEqual(result.returncode, 4, result.stderr)
        self.assertIn("fill the disk", result.stderr)
        self.assertGreater(min(least), 0)
        self.assertLess(min(least), 0.9 * before)
        wait_for(lambda: free() > 0.9 * before, "the room to come back")
        self.assertEqual(self.agent.json("image", "ls"), [])

    def test_a_layer_that_is_unpacked(self):
        self.start()
        packed, plain, size = io.BytesIO(), hashlib.sha256(), 400 << 20
        head = tarfile.TarInfo("zeros")
        head.size = size
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
            for piece in [head.tobuf(), *[bytes(1 << 20)] * (size >> 20), bytes(1024)]:
                file.write(piece)
                plain.update(piece)
        layer = packed.getvalue()
        self.assertLess(len(layer), 4 << 20)
        self.assertGivenUp("pull", self.serve(layer, "sha256:" + plain.hexdigest()))

    def test_a_layer_of_many_small_files(self):
        self.start(options="size=160m,nr_inodes=60000")
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for number in range(100_000):
                tar.addfile(tarfile.TarInfo(f"d{number}"))
        layer = gzip.compress(plain.getvalue(), 1)
        self.assertGivenUp("pull", self.serve(layer, digest_of(plain.getvalue())))

    def test_a_layer_that_is_transferred(self):
        self.start()

        def blob(handler):
            handler.give(200, Content_Length=str(400 << 20))
            for _ in range(400):
                handler.wfile.write(bytes(1 << 20))

        self.assertGivenUp("pull", self.serve(b"another", digest_of(b"x"), 400 << 20, blob))

    def test_an_archive(self):
        self.start()
        with tempfile.NamedTemporaryFile() as file:
            file.truncate(400 << 20)
            self.assertGivenUp("import", file.name)


if __name__ == "__main__":
    unittest.main()
