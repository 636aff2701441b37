"""The agent's AppArmor profile: it is loaded, instances run under it, and it refuses what nothing else does."""

import unittest

from harness import Case, read

PROFILE = "ctr-default (enforce)"
# Everything else that would be in the way is loosened.
CLASS = """
name = "{name}"
image = "demo:latest"
default_port = 8080
sleep_after = "never"
[security]
seccomp = "unconfined"
systempaths = "unconfined"
cap_add = ["SYS_ADMIN"]
apparmor = "{profile}"
"""


class AppArmor(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent.apply('name = "web"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\n')
        cls.agent.apply(CLASS.format(name="held", profile="default"))
        cls.agent.apply(CLASS.format(name="free", profile="unconfined"))
        for name in ("web/a", "held/a", "free/a"):
            cls.agent.ctr("get", name)

    def inside(self, name, script):
        return self.agent.ctr("exec", name, "--", "sh", "-c", script, check=False)

    def test_the_profile_is_loaded(self):
        self.assertIn(PROFILE, read("/sys/kernel/security/apparmor/profiles").splitlines())
        # This machine's / has no project quotas; quota_test has file systems with them.
        warnings = self.agent.json("info")["warnings"]
        self.assertEqual([it for it in warnings if not it.startswith("resources.disk")], [])

    def test_instances_and_commands_in_them_run_under_it(self):
        for name, wanted in (("web/a", PROFILE), ("held/a", PROFILE), ("free/a", "unconfined")):
            pid = self.agent.json("inspect", name)["pid"]
            self.assertEqual(read(f"/proc/{pid}/attr/current").strip(), wanted, name)
            self.assertEqual(self.inside(name, "cat /proc/self/attr/current").stdout.strip(), wanted, name)

    def test_it_alone_refuses_to_mount_to_write_sysctls_and_to_read_firmware(self):
        for script in ("mkdir -p /mnt && mount -t tmpfs none /mnt", "echo 1 > /proc/sys/vm/drop_caches", "ls /sys/firmware/acpi"):
            with self.subTest(script):
                free, held = self.inside("free/a", script), self.inside("held/a", script)
                self.assertEqual((free.returncode, free.stderr), (0, ""))
                self.assertIn("Permission denied", held.stderr)

    def test_an_instance_under_it_is_reached_and_signalled_and_its_files_copied(self):
        self.assertEqual(self.agent.get(host="a.web.localhost")[0], 200)
        self.assertIn("root:x:0", self.agent.ctr("cp", "web/a:/etc/passwd", "-"))
        self.agent.ctr("stop", "web/a")
        self.assertEqual(self.agent.json("inspect", "web/a")["exit_code"], 0)
        self.agent.ctr("get", "web/a")

    def test_a_profile_that_is_not_loaded_is_an_error(self):
        self.agent.apply(CLASS.format(name="other", profile="no-such-profile"))
        refused = self.agent.ctr("get", "other/a", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("AppArmor profile", refused.stderr)
        self.assertIn("not loaded", refused.stderr)


if __name__ == "__main__":
    unittest.main()
