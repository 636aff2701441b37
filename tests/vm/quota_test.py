"""Disks with project quotas, ext4 and XFS: what the kernel does, and what the agent makes of it."""

import contextlib
import glob
import json
import os
import subprocess
import tempfile
import unittest

import isolation
from harness import BIN, Agent

# Empty disks of this machine, and how they come to have quotas of projects.
DISKS = {"ext4": ("/dev/vdc", ["mkfs.ext4", "-q", "-F", "-O", "project,quota"]), "xfs": ("/dev/vdd", ["mkfs.xfs", "-q", "-f"])}
FULL = ("No space left on device", "Disk quota exceeded")
MIB = 1 << 20


def run(*command, check=True):
    result = subprocess.run(command, capture_output=True, text=True)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {result.stdout}{result.stderr}")
    return result


@contextlib.contextmanager
def mounted(kind):
    """A new file system with quotas of projects in force; gives its folder."""
    device, make = DISKS[kind]
    run(*make, device)
    folder = tempfile.mkdtemp(prefix="ctr-quota-")
    run("mount", "-t", kind, "-o", "prjquota", device, folder)
    try:
        yield folder
    finally:
        run("umount", folder)
        os.rmdir(folder)


def room(folder):
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


class Kernel(unittest.TestCase):
    """Without the agent: what this kernel has."""

    def write(self, file, mebibytes):
        # ext4 limits nobody who has CAP_SYS_RESOURCE; instances do not.
        return run("setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "dd", "if=/dev/zero", f"of={file}",
                   "bs=1M", f"count={mebibytes}", "conv=fsync", check=False)

    def test_a_project_is_held_to_its_limit_and_the_others_are_not(self):
        for kind in DISKS:
            with self.subTest(kind), mounted(kind) as folder:
                for project, name in ((42, "small"), (43, "other")):
                    os.mkdir(f"{folder}/{name}")
                    run("chattr", "+P", "-p", str(project), f"{folder}/{name}")
                run("setquota", "-P", "42", "0", str(8 * 1024), "0", "0", folder)
                refused = self.write(f"{folder}/small/file", 16)
                self.assertNotEqual(refused.returncode, 0)
                self.assertTrue(any(words in refused.stderr for words in FULL), refused.stderr)
                self.assertLessEqual(os.stat(f"{folder}/small/file").st_blocks * 512, 8 * MIB)
                self.assertGreater(room(folder), 64 * MIB)
                self.assertEqual(self.write(f"{folder}/other/file", 16).returncode, 0)


class Quota(unittest.TestCase):
    """A class with [resources] disk, the agent's data on a disk with quotas."""

    @contextlib.contextmanager
    def agent_on(self, kind):
        with mounted(kind) as folder:
            tempfile.tempdir = folder  # where the agent makes its folders
            try:
                agent = Agent()
            finally:
                tempfile.tempdir = None
            try:
                agent.start()
                agent.import_demo()
                agent.apply('name = "small"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\n'
                            '[resources]\ndisk = "64MiB"\n')
                yield agent
            finally:
                agent.purge()

    def write(self, agent, name, file, mebibytes):
        return agent.ctr("exec", name, "--", "dd", "if=/dev/zero", f"of={file}", "bs=1M", f"count={mebibytes}", check=False)

    def test_quota_holds_an_instance_to_its_disk_and_no_other(self):
        for kind in DISKS:
            with self.subTest(kind), self.agent_on(kind) as agent:
                agent.ctr("get", "small/a")
                agent.ctr("get", "small/b")
                refused = self.write(agent, "small/a", "/big", 100)
                self.assertNotEqual(refused.returncode, 0)
                self.assertTrue(any(words in refused.stderr for words in FULL), refused.stderr)
                size = int(agent.ctr("exec", "small/a", "--", "du", "-k", "/big").split()[0]) * 1024
                self.assertTrue(48 * MIB < size <= 64 * MIB, size)
                self.assertGreater(room(agent.root), 200 * MIB)
                self.assertEqual(self.write(agent, "small/b", "/big", 32).returncode, 0)
                agent.ctr("exec", "small/a", "--", "rm", "/big")
                self.assertEqual(self.write(agent, "small/a", "/again", 32).returncode, 0)

    def test_an_instance_can_not_leave_its_project(self):
        for kind in DISKS:
            with self.subTest(kind), self.agent_on(kind) as agent:
                agent.ctr("get", "small/a")
                agent.ctr("cp", isolation.PREBUILT + "/probe", "small/a:/probe")
                agent.ctr("exec", "small/a", "--", "mkdir", "/x")
                self.assertEqual(agent.ctr("exec", "small/a", "--", "/probe", "leave", "/x"), "/x EPERM")
                self.assertNotEqual(self.write(agent, "small/a", "/x/big", 100).returncode, 0)
                self.assertGreater(room(agent.root), 200 * MIB)

    def test_a_kept_disk_is_held_to_its_project_whatever_its_files_say(self):
        for kind in DISKS:
            with self.subTest(kind), self.agent_on(kind) as agent:
                agent.apply('name = "kept"\nimage = "demo:latest"\ndefault_port = 8080\ndisk = "keep"\n'
                            '[resources]\ndisk = "64MiB"\n')
                agent.ctr("get", "kept/a")
                agent.ctr("exec", "kept/a", "--", "touch", "/mark")
                files = os.path.dirname(glob.glob(agent.data + "/containerd/**/fs/mark", recursive=True)[0])
                project = lambda: run("lsattr", "-pd", files).stdout.split()[0]
                own = project()
                agent.ctr("stop", "kept/a")
                run("chattr", "-p", "4242", files)  # as an instance could whose system calls nobody filters
                agent.ctr("start", "kept/a")
                self.assertEqual(project(), own)
                self.assertNotEqual(self.write(agent, "kept/a", "/big", 100).returncode, 0)

    def test_the_doctor_finds_quotas_behind_a_link(self):
        with mounted("ext4") as folder, tempfile.TemporaryDirectory() as elsewhere:
            os.symlink(folder, elsewhere + "/data")
            findings = json.loads(run(BIN + "/ctr-agent", "--doctor", "--data-dir", elsewhere + "/data").stdout)["findings"]
            (disk,) = [it for it in findings if it["check"] == "disk limits"]
            self.assertEqual(disk["outcome"], "ok", disk)


if __name__ == "__main__":
    unittest.main()
