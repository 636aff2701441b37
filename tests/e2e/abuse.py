"""What one instance may do to its host: each makes the instance `abuse/a` of an agent do it, by exec, in the background."""

import subprocess

from harness import BIN

CLASS = 'name = "abuse"\nimage = "demo:latest"\ndefault_port = 8080\nsleep_after = "never"\n'
LIMITS = '[resources]\nmemory = "64MiB"\npids = 128\n'
# What the kernel keeps of a file until it is on the disk counts as memory of who wrote it.
LIMITS_FOR_FILES = LIMITS.replace("64MiB", "512MiB")

# By busybox's shell, inside; each goes on until it is ended, or has done what it can.
FORK_BOMB = "bomb() { while :; do bomb & done; }; bomb; while :; do bomb; done"
MEMORY_HOG = "while :; do head -c 256m /dev/zero | tail; done"
MANY_FILES = ('mkdir /many; cd /many; i=0; while [ $i -lt 1000 ]; do mkdir $i; '
              '(cd $i; seq 100 | xargs touch); i=$((i+1)); done')
PROC = "while :; do find /proc /sys -type f -exec head -c 4096 {} + > /dev/null 2>&1; done"
CGROUPS = ("while :; do for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x; echo 1 > $d/cgroup.procs; "
           "echo max > $d/pids.max; done 2> /dev/null; done")
FILL = "cat /dev/zero > /big"
FILL_UNSEEN = "exec 3> /big; rm /big; cat /dev/zero >&3; sleep 1000"  # the shell holds it
FILL_BY_FILES = "mkdir /many; cd /many; seq 1000000 | xargs touch"
FILL_BY_FILES_SLOWLY = ("mkdir /many; cd /many; seq 19000 | xargs touch; "
                        "for i in $(seq 20000 99999); do touch $i; sleep 0.001; done")


def begin(agent, script, instance="abuse/a"):
    """Gives the exec's process; whoever calls ends it."""
    return subprocess.Popen([BIN + "/ctr", "--host", agent.socket, "exec", instance, "--", "/bin/sh", "-c", script],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end(process):
    process.kill()
    process.wait()
