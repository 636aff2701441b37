"""Files into instances and out of them, from outside."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import unittest

from harness import BIN, DEADLINE, Case, is_pipe_full, read, wait_for

WEB = """
name = "web"
image = "demo:latest"
default_port = 8080
sleep_after = "%s"
"""


def write(path, content, mode=0o644):
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    os.chmod(path, mode)


def listing(folder):
    """Everything below: (type and mode, size or link, mtime in ns), by path."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(where, name)
            status = os.lstat(path)
            kind = os.readlink(path) if os.path.islink(path) else 0 if os.path.isdir(path) else status.st_size
            found[os.path.relpath(path, folder)] = (status.st_mode, kind, status.st_mtime_ns)
    return found


def archive(*members):
    """A tar archive of (name, content or None for a directory, or {attribute: value} of the entry)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, what in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, dict):
                for key, value in what.items():
                    setattr(info, key, value)
            else:
                info.size = len(what)
            tar.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return out.getvalue()


class Copy(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply(WEB % "never")
        cls.agent.environment["CTR_CLASS"] = "web"
        cls.agent.ctr("get", "alice")

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ctr-cp-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.inside("rm -rf /w && mkdir /w")

    def run_ctr(self, *args, stdin=b"", **kwargs):
        return subprocess.run([BIN + "/ctr", "--host", self.agent.socket, *args], input=stdin, capture_output=True,
                              timeout=DEADLINE, env={**os.environ, **self.agent.environment}, **kwargs)

    def inside(self, script, instance="alice"):
        return self.agent.ctr("exec", instance, "--", "sh", "-c", script)

    def cp(self, *args, stdin=b""):
        result = self.run_ctr("cp", *args, stdin=stdin, cwd=self.folder)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        return result.stdout

    def fails(self, status, words, *args, stdin=b""):
        result = self.run_ctr("cp", *args, stdin=stdin, cwd=self.folder)
        result.stderr = result.stderr.decode()
        self.assertExit(result, status, *words)

    def local(self, name):
        return os.path.join(self.folder, name)

    def test_a_file_goes_in_and_out(self):
        write(self.local("f"), "hello", 0o750)
        os.utime(self.local("f"), ns=(1, 1234567890_123456789))
        self.assertEqual(self.cp("f", "alice:/w/g"), b"")
        self.assertEqual(self.inside("cat /w/g; stat -c ' %a %u %g %Y' /w/g"), "hello 750 0 0 1234567890")
        self.cp("web/alice:w/g", "h")  # relative to the root
        self.assertEqual(read(self.local("h")), "hello")
        self.assertEqual(os.stat(self.local("h")).st_mode & 0o7777, 0o750)
        self.assertEqual(os.stat(self.local("h")).st_mtime_ns, 1234567890_123456789)

    def test_ten_megabytes_pass_exactly(self):
        data = os.urandom(10 << 20)
        write(self.local("big"), data)
        self.cp("big", "alice:/w/")
        digest = hashlib.sha256(data).hexdigest()
        self.assertEqual(self.inside("sha256sum /w/big").split()[0], digest)
        self.cp("alice:/w/big", "back")
        with open(self.local("back"), "rb") as file:
            self.assertEqual(hashlib.sha256(file.read()).hexdigest(), digest)

    def make_tree(self):
        tree = self.local("tree")
        os.makedirs(tree + "/a/b/empty")
        os.mkdir(tree + "/" + "n" * 200)
        write(tree + "/" + "n" * 200 + "/f", "long")
        write(tree + "/a/run.sh", "#!/bin/sh\n", 0o755)
        write(tree + "/a/b/secret", "s", 0o600)
        write(tree + "/na\u00efve \n", "odd name")
        write(tree + "/zero", "")
        os.symlink("a/run.sh", tree + "/relative")
        os.symlink("/etc/passwd", tree + "/absolute")
        os.symlink("nowhere", tree + "/dangling")
        os.link(tree + "/a/b/secret", tree + "/hard")
        os.chmod(tree + "/a/b", 0o500)
        os.utime(tree + "/a", ns=(1, 1_500_000_000_000_000_007))
        return tree

    def test_a_tree_comes_back_as_it_went(self):
        tree = self.make_tree()
        self.cp("tree", "alice:/w")
        self.cp("alice:/w/tree", "back")
        self.assertEqual(listing(self.local("back")), listing(tree))
        back = self.local("back")
        self.assertEqual(os.stat(back + "/hard").st_ino, os.stat(back + "/a/b/secret").st_ino)
        self.assertEqual(self.inside("readlink /w/tree/absolute; cat /w/tree/hard"), "/etc/passwd\ns")

    def test_where_it_goes_is_docker_cps_rule(self):
        os.makedirs(self.local("d/sub"))
        write(self.local("d/sub/f"), "1")
        write(self.local("f"), "2")
        self.inside("mkdir /w/dir; echo old > /w/old; ln -s dir /w/link; ln -s old /w/filelink")
        self.cp("f", "alice:/w/dir")
        self.cp("f", "alice:/w/link/")
        self.cp("f", "alice:/w/filelink")  # follows it
        self.cp("d", "alice:/w/dir")
        self.cp("d/.", "alice:/w/contents")
        self.cp("d/", "alice:/w/new/")
        self.cp(".", "alice:/w/dot")
        self.assertEqual(self.inside("cd /w; cat dir/f old dir/d/sub/f contents/sub/f new/sub/f dot/d/sub/f; readlink filelink"),
                         "221111old")
        self.fails(3, ["no directory", "/w/none/"], "f", "alice:/w/none/")
        self.fails(3, ["/w/none"], "f", "alice:/w/none/f")
        self.fails(4, ["directory", "/w/old"], "d", "alice:/w/old")
        self.fails(4, ["directory"], "f/", "alice:/w/x")
        os.mkdir(self.local("here"))
        self.cp("alice:/w/dir", "here")
        self.cp("alice:/w/dir/.", "bare")
        self.cp("alice:/w/old", "here/")
        self.assertEqual(sorted(os.listdir(self.local("here"))), ["dir", "old"])
        self.assertEqual(sorted(os.listdir(self.local("bare"))), ["d", "f"])
        self.fails(3, ["no directory"], "alice:/w/old", "none/")

    def test_a_link_is_copied_as_one_or_followed(self):
        self.inside("echo x > /w/f; ln -s f /w/l")
        self.cp("alice:/w/l", "l")
        self.assertEqual(os.readlink(self.local("l")), "f")
        self.cp("-L", "alice:/w/l", "followed")
        self.assertEqual(read(self.local("followed")), "x\n")

    def test_owners_and_setuid_are_kept_only_if_asked_for(self):
        write(self.local("f"), "x")
        os.chown(self.local("f"), 1234, 2345)
        os.chmod(self.local("f"), 0o4755)
        self.cp("f", "alice:/w/plain")
        self.cp("-a", "f", "alice:/w/kept")
        self.assertEqual(self.inside("stat -c '%u %g %a' /w/plain /w/kept"), "0 0 755\n1234 2345 4755")
        self.cp("alice:/w/kept", "plain")
        self.cp("-a", "alice:/w/kept", "kept")
        plain, kept = os.stat(self.local("plain")), os.stat(self.local("kept"))
        self.assertEqual((plain.st_uid, plain.st_gid, plain.st_mode & 0o7777), (0, 0, 0o755))
        self.assertEqual((kept.st_uid, kept.st_gid, kept.st_mode & 0o7777), (1234, 2345, 0o4755))

    def test_archives_pass_as_streams_both_ways(self):
        self.cp("-", "alice:/w", stdin=archive(("x/y/z", b"deep"), ("e", None), ("l", {"type": tarfile.SYMTYPE, "linkname": "x"})))
        self.assertEqual(self.inside("cat /w/x/y/z /w/l/y/z; ls -d /w/e"), "deepdeep/w/e")
        with tarfile.open(fileobj=io.BytesIO(self.cp("alice:/w", "-"))) as tar:
            self.assertEqual(sorted(tar.getnames()), ["w", "w/e", "w/l", "w/x", "w/x/y", "w/x/y/z"])
            self.assertEqual(tar.extractfile("w/x/y/z").read(), b"deep")
        # GNU tar's own, long names and all, and one of another instance.
        tree = self.make_tree()
        packed = subprocess.run(["tar", "-C", self.folder, "--format=gnu", "-c", "tree"], capture_output=True, check=True).stdout
        self.cp("-", "alice:/w/", stdin=packed)
        self.cp("-", "alice:/w/x", stdin=self.cp("alice:/w/tree", "-"))
        self.cp("alice:/w/x/tree", "back")
        self.assertEqual({name: what[:2] for name, what in listing(self.local("back")).items()},
                         {name: what[:2] for name, what in listing(tree).items()})
        self.fails(3, ["/w/none"], "-", "alice:/w/none", stdin=packed)
        self.fails(2, ["not a tar archive"], "-", "alice:/w", stdin=b"no archive" * 1000)
        self.fails(2, ["ends before its end mark"], "-", "alice:/w", stdin=packed[:2000])
        self.fails(2, ["ends before its end mark"], "-", "alice:/w")

    def test_json_says_how_much(self):
        write(self.local("f"), "12345")
        self.assertEqual(json.loads(self.cp("-o", "json", "f", "alice:/w")), {"entries": 1, "bytes": 5, "left_out": 0})
        self.assertEqual(json.loads(self.cp("-o", "json", "alice:/w/f", "g")), {"entries": 1, "bytes": 5, "left_out": 0})

    def test_errors_say_what_failed(self):
        write(self.local("f"), "x")
        self.fails(3, ["/w/none", "No such file"], "alice:/w/none", "x")
        self.fails(3, ["none", "No such file"], "none", "alice:/w")
        self.fails(3, ["nobody", "ctr get"], "f", "nobody:/w")
        self.fails(3, ["nobody"], "nobody:/w", "x")
        self.fails(2, ["one side"], "f", "g")
        self.fails(2, ["instance to instance"], "alice:/w", "bob:/w")
        self.fails(4, ["/dev/null", "device"], "alice:/dev/null", "x")
        self.fails(4, ["device"], "f", "alice:/dev/null")
        self.assertFalse(os.path.exists(self.local("x")))
        self.assertEqual(self.inside("test -c /dev/null && ls -a /w"), ".\n..")
        self.inside("mkfifo /w/fifo; echo y > /w/file")
        result = self.run_ctr("cp", "alice:/w", self.local("w"))
        self.assertEqual(result.returncode, 0)
        self.assertIn(b"left out 1 ", result.stderr)
        self.assertIn(b"w/fifo", result.stderr)
        self.assertEqual(os.listdir(self.local("w")), ["file"])

    def test_links_in_the_instance_lead_nowhere_else(self):
        """/data -> /etc and the like are the instance's own /etc, also while files are written."""
        marker = os.urandom(8).hex()
        write(self.local("f"), marker)
        self.inside("mkdir -p /etc/own; ln -s /etc/own /w/data; ln -s ../../../../../../etc/own /w/up; ln -s / /w/root")
        for link in ("data", "up", "root/etc/own", "root/../../../etc/own"):
            self.cp("f", f"alice:/w/{link}/{link.replace('/', '_')}")
        self.assertEqual(self.inside("cat /etc/own/* | tr -d '\\n' | wc -c"), str(4 * len(marker)))
        self.assertFalse(os.path.exists("/etc/own"))
        self.cp("alice:/w/root/etc/passwd", "passwd")
        self.assertEqual(read(self.local("passwd")), self.inside("cat /etc/passwd") + "\n")
        # Magic links lead out of any root: none is followed.
        self.inside("ln -s /proc/1/root/w /w/magic; ln -s /proc/1/exe /w/exe")
        for path in ("/w/magic", "/proc/1/root/etc", "/proc/self/root"):
            self.assertNotEqual(self.run_ctr("cp", self.local("f"), f"alice:{path}/x").returncode, 0)
        self.assertNotEqual(self.run_ctr("cp", "-L", "alice:/w/exe", self.local("exe")).returncode, 0)
        # A link in the way of a directory is not followed.
        self.inside("rm -rf /w/* && mkdir -p /w/t && ln -s /etc /w/t/sub")
        os.makedirs(self.local("t/sub"))
        write(self.local("t/sub/passwd"), "evil")
        self.fails(4, ["t/sub", "link"], "t", "alice:/w")
        self.assertIn("root:x:0:0", self.inside("cat /etc/passwd"))
        for evil in (archive(("../../etc/evil", b"x")), archive(("/etc/evil", b"x")),
                     archive(("l", {"type": tarfile.SYMTYPE, "linkname": "/etc"}), ("l/evil", b"x")),
                     archive(("h", {"type": tarfile.LNKTYPE, "linkname": "../etc/passwd"}))):
            result = self.run_ctr("cp", "-", "alice:/w", stdin=evil)
            self.assertNotEqual(result.returncode, 0)
            self.assertEqual(len(result.stderr.splitlines()), 1)
        self.assertEqual(self.inside("ls /etc/evil 2>&1 || true"), "ls: /etc/evil: No such file or directory")

    def test_a_tree_from_the_instance_does_not_write_outside(self):
        os.mkdir(self.local("victim"))
        write(self.local("victim/secret"), "good")
        self.inside(f"mkdir -p /w/t/a; ln -s {self.local('victim')} /w/t/v; echo evil > /w/t/a/f")
        self.cp("alice:/w/t", "t")
        self.assertEqual(os.readlink(self.local("t/v")), self.local("victim"))
        # The same again, with a directory in the link's place: what is here is not followed.
        self.inside("rm /w/t/v && mkdir /w/t/v && echo evil > /w/t/v/secret && echo evil > /w/t/v/more")
        self.fails(4, ["t/v", "link"], "alice:/w/t", ".")
        self.assertEqual(os.listdir(self.local("victim")), ["secret"])
        self.assertEqual(read(self.local("victim/secret")), "good")

    def test_links_that_change_meanwhile_lead_nowhere_else(self):
        """A process inside swaps a directory for a link to /etc all the while."""
        write(self.local("f"), "mine")
        os.makedirs(self.local("t/swap"))
        write(self.local("t/swap/raced"), "mine")
        script = "mkdir -p /w/t/swap; ln -s /etc /w/t/other; while :; do mv -T /w/t/swap /w/t/x; mv -T /w/t/other /w/t/swap; " \
                 "mv -T /w/t/swap /w/t/other; mv -T /w/t/x /w/t/swap; done"
        with subprocess.Popen([BIN + "/ctr", "--host", self.agent.socket, "exec", "alice", "--", "sh", "-c", script],
                              env={**os.environ, **self.agent.environment}, stderr=subprocess.DEVNULL) as process:
            wait_for(lambda: self.inside("ls /w") == "t", "the swapping")
            for _ in range(30):
                self.run_ctr("cp", self.local("t"), "alice:/w")  # fails or not
            process.terminate()
        self.assertEqual(self.inside("ls /etc/raced 2>&1 || true"), "ls: /etc/raced: No such file or directory")

    def test_the_process_inside_can_do_nothing_but_files(self):
        """It holds still on a stream that does not go on; its capabilities are looked at."""
        with subprocess.Popen([BIN + "/ctr", "--host", self.agent.socket, "cp", "-", "alice:/w"], stdin=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, env={**os.environ, **self.agent.environment}) as process:
            process.stdin.write(archive(("a", b"x" * 5000))[:2000])
            process.stdin.flush()
            pid = wait_for(self.helper, "the process inside")

            def entered():
                status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
                return status if status["NoNewPrivs"] == "1" else None

            status = wait_for(entered, "the process to have entered")
            self.assertEqual({status[key] for key in ("CapEff", "CapPrm", "CapBnd")}, {"000000000000001f"})
            self.assertEqual(status["CapInh"], "0000000000000000")
            self.assertEqual(set(os.listdir(f"/proc/{pid}/fd")) & {"0", "1", "2"}, {"0", "1", "2"})
            wait_for(lambda: ".ctr-cp-" in self.inside("ls -a /w"), "the half file")
            process.kill()
        wait_for(lambda: self.inside("ls /w; ls -a /w | grep ctr-cp || true") == "", "the half file to go")
        wait_for(lambda: not self.helper(), "the process inside to end")

    def helper(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if "--copy-inside" in read(f"/proc/{pid}/cmdline") and read(f"/proc/{pid}/stat").split()[3] == str(self.agent.process.pid):
                    return pid
            except (FileNotFoundError, ProcessLookupError):
                pass
        return None

    def test_a_signal_leaves_no_half_file_here(self):
        self.inside("dd if=/dev/zero of=/w/big bs=1M count=300 2> /dev/null")
        for number in (signal.SIGINT, signal.SIGHUP):
            with self.subTest(number), subprocess.Popen(
                    [BIN + "/ctr", "--host", self.agent.socket, "cp", "alice:/w/big", self.local("big")],
                    env={**os.environ, **self.agent.environment}) as process:
                wait_for(lambda: os.listdir(self.folder) or process.poll() is not None, "the copy")
                process.send_signal(number)
                self.assertIn(process.wait(DEADLINE), (128 + number, 0))
                if process.returncode != 0:
                    self.assertEqual(os.listdir(self.folder), [])
            wait_for(lambda: not self.helper(), "the process inside to end")

    def test_a_signal_ends_a_copy_whose_archive_nobody_reads(self):
        self.inside("dd if=/dev/zero of=/w/big bs=1M count=20 2> /dev/null")
        with subprocess.Popen([BIN + "/ctr", "--host", self.agent.socket, "cp", "alice:/w/big", "-"],
                              stdout=subprocess.PIPE, env={**os.environ, **self.agent.environment}) as process:
            try:
                self.assertTrue(process.stdout.read(512))
                wait_for(lambda: is_pipe_full(process.pid), "the pipe to be full")
                process.send_signal(signal.SIGINT)
                self.assertEqual(process.wait(DEADLINE), -signal.SIGINT)
            finally:
                process.kill()
        wait_for(lambda: not self.helper(), "the process inside to end")

    def test_it_wakes_a_sleeping_instance_and_keeps_it_awake(self):
        self.agent.apply(WEB.replace('"web"', '"brief"') % "1s")
        self.agent.ctr("get", "brief/sleepy")
        self.agent.ctr("wait", "brief/sleepy", "--for", "stopped")
        write(self.local("f"), "x")
        self.cp("f", "brief/sleepy:/f")
        self.assertEqual(self.agent.json("inspect", "brief/sleepy")["generation"], 2)
        self.agent.ctr("wait", "brief/sleepy", "--for", "stopped")
        with subprocess.Popen([BIN + "/ctr", "--host", self.agent.socket, "cp", "-", "brief/sleepy:/tmp"], stdin=subprocess.PIPE,
                              env={**os.environ, **self.agent.environment}) as process:
            whole = archive(("slow", b"slow"))
            process.stdin.write(whole[:600])
            process.stdin.flush()
            wait_for(lambda: self.agent.json("inspect", "brief/sleepy")["state"] == "healthy", "the wake")
            time.sleep(3)
            self.assertEqual(self.agent.json("inspect", "brief/sleepy")["state"], "healthy")
            process.stdin.write(whole[600:])
            process.stdin.close()
            self.assertEqual(process.wait(DEADLINE), 0)
        events = [event for event in map(json.loads, self.agent.ctr("events", "brief/sleepy", "--type", "copy", "-o", "jsonl").splitlines())]
        self.assertIn("into /f: 1 files, 1 bytes", [event["message"] for event in events])
        self.assertTrue(all("ctr cp by root" in event["cause"] for event in events), events)
        self.agent.ctr("wait", "brief/sleepy", "--for", "stopped")

    def test_it_ends_with_its_instance(self):
        self.agent.ctr("get", "stopping")
        with subprocess.Popen([BIN + "/ctr", "--host", self.agent.socket, "cp", "-", "stopping:/tmp"], stdin=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={**os.environ, **self.agent.environment}) as process:
            process.stdin.write(archive(("a", b"x" * 5000))[:2000])
            process.stdin.flush()
            wait_for(self.helper, "the process inside")
            self.agent.ctr("stop", "stopping", "-t", "0")
            wait_for(lambda: not self.helper(), "the process inside to end")
            process.stdin.close()
            self.assertIn(b"the instance stopped", process.stderr.read())
            self.assertEqual(process.wait(DEADLINE), 1)

    def test_a_read_only_root_and_a_full_disk_are_said(self):
        self.agent.apply(WEB.replace('"web"', '"ro"') % "never" + "read_only = true\n")
        self.agent.ctr("get", "ro/one")
        write(self.local("f"), "x")
        result = self.run_ctr("cp", self.local("f"), "ro/one:/x")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(b"Read-only file system", result.stderr)
        # /dev is a tmpfs of 64 MiB.
        write(self.local("big"), b"x" * (70 << 20))
        self.fails(4, ["big", "No space left"], "big", "alice:/dev/big")
        self.assertEqual(self.inside("ls -a /dev | grep -c -e big -e ctr-cp || true"), "0")

    def test_z_an_agent_killed_meanwhile_leaves_nothing(self):
        with subprocess.Popen([BIN + "/ctr", "--host", self.agent.socket, "cp", "-", "alice:/w"], stdin=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={**os.environ, **self.agent.environment}) as process:
            process.stdin.write(archive(("a", b"x" * 5000))[:2000])
            process.stdin.flush()
            pid = wait_for(self.helper, "the process inside")
            self.agent.kill()
            wait_for(lambda: not os.path.exists(f"/proc/{pid}") or read(f"/proc/{pid}/stat").split()[2] == "Z", "its end")
            process.stdin.close()
            self.assertEqual(process.wait(DEADLINE), 5)
        self.agent.start()
        self.assertEqual(self.inside("ls -a /w"), ".\n..")


if __name__ == "__main__":
    unittest.main()
