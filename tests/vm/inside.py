"""Runs in the machine that scripts/vm-test boots: its own tests, and those of tests/e2e that show something there and can bear a
machine that is ten to thirty times slower. A line for each, "PASS name (seconds)" or "FAIL name: …"; the last line counts them."""

import os
import signal
import sys
import termios
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [ROOT + "/tests/vm", ROOT + "/tests/e2e"]
from harness import read  # noqa: E402

SUITES = ["cgroup_test", "apparmor_test", "systemd_test", "quota_test",
          "isolation_test", "lifecycle_test", "network_test.Network", "exec_test", "cp_test"]
LEFT_OUT = {
    "test_an_instance_that_computes_does_not_sleep": "computes for minutes",
    "test_a_start_that_containerd_does_not_answer_ends_at_start_timeout_and_leaves_nothing": "starts in a second",
    "test_output_that_is_read_late_does_not_wait_for_what_was_left_behind": "counts to 200,000 in 15 s",
    "test_it_wakes_a_sleeping_instance_and_keeps_it_awake": "sleeps after a second or two",
    "test_a_signal_leaves_no_half_file_here": "copies 300 MiB",
    "test_links_that_change_meanwhile_lead_nowhere_else": "a race",
}


class Lines(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.passed = self.failed = 0
        self.begun = time.monotonic()

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def seconds(self):
        return f"({time.monotonic() - self.begun:.1f} s)"

    def addSuccess(self, test):
        self.passed += 1
        print(f"PASS {test.id()} {self.seconds()}", flush=True)

    def fail(self, test, error):
        self.failed += 1
        print(f"FAIL {test.id()} {self.seconds()}: {error[1]}", flush=True)
        self.quote(self._exc_info_to_string(error, test).splitlines())
        log = getattr(getattr(test, "agent", None), "root", "") + "/agent.log"
        if os.path.exists(log):
            self.quote(read(log).splitlines()[-20:])

    @staticmethod
    def quote(lines):
        print("".join(f"     {line}\n" for line in lines), end="", flush=True)

    def addFailure(self, test, error):
        self.fail(test, error)

    def addError(self, test, error):
        self.fail(test, error)

    def addSubTest(self, test, subtest, error):
        if error:
            self.fail(subtest, error)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"SKIP {test.id()}: {reason}", flush=True)


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main():
    chosen = os.environ.get("CTR_VM_TESTS", "").split()
    result = Lines()

    def end(*_):
        result.stop()
        raise TimeoutError("there is no time left")

    signal.signal(signal.SIGALRM, end)
    signal.alarm(int(os.environ["CTR_VM_SECONDS"]))
    tests = [test for test in tests_of(unittest.defaultTestLoader.loadTestsFromNames(SUITES))
             if test.id().split(".")[-1] not in LEFT_OUT and (not chosen or any(word in test.id() for word in chosen))]
    unittest.TestSuite(tests).run(result)
    missing = len(tests) - result.testsRun - len(result.skipped)
    print(f"{result.passed} passed, {result.failed + max(missing, 0)} failed, {len(result.skipped)} skipped", flush=True)
    if sys.stdout.isatty():
        termios.tcdrain(sys.stdout)
    return 1 if result.failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
