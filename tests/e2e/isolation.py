"""What a default instance can and can't do, case by case: each row is what the profile's text (or Docker's list) says, what a
probe inside found, and what the same probe finds where only the thing in question is loosened. Where both find the same, the
case proves nothing by itself, and the row says so. scripts/isolation-table prints it, isolation_test.py holds it."""

import collections
import json
import os
import re
import shutil
import subprocess

from harness import DEADLINE, read
from images import pack

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PROFILE = ROOT + "/agent/runtime/seccomp/default.json"
PREBUILT = os.environ.get("CTR_PREBUILT")  # a folder that prebuild() has filled, for a machine without a compiler

DOCKER_CAPABILITIES = """CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE
    SYS_CHROOT KILL AUDIT_WRITE""".split()
CAPABILITIES = [name for name in DOCKER_CAPABILITIES if name not in ("NET_RAW", "MKNOD", "AUDIT_WRITE")]
# What Docker's newest profile allows on x86-64 to such an instance, with whatever arguments (moby/profiles
# cd3bed8061c7, seccomp/default.json); ours is without socketcall.
DOCKER_CALLS = """
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown
    chown32 chroot clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 clone close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat
    exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
    fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
    futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
    getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
    io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create
    memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl
    msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause
    personality pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
    pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64
    sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid
    setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget
    shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socket socketcall socketpair splice stat stat64 statfs
    statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat
    uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
    """.split()
# Docker 29's, moby/daemon/pkg/oci/defaults.go, and ours beside them.
MASKED = """/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi
    /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware
    /proc/fs /proc/kpagecgroup /proc/kpagecount /proc/kpageflags /proc/pagetypeinfo /proc/slabinfo /proc/vmallocinfo
    /sys/class/zram-control /sys/kernel/slab""".split()
READ_ONLY = "/proc/bus /proc/irq /proc/sys /proc/sys/kernel/hostname /proc/sysrq-trigger".split()
READ_ONLY_SYS = "/sys /sys/kernel /sys/fs/cgroup".split()
DEVICES = {f"/dev/{name}" for name in "null zero full random urandom tty console ptmx pts/ptmx".split()}
# Triggers of pressure stall information, which the kernel bounds, in Docker, too.
WRITABLE = {f"/proc/pressure/{name}" for name in ("cpu", "io", "memory", "irq")}
NODES = {"c:1:1": "mem", "c:1:4": "port", "c:1:11": "kmsg", "c:10:200": "net/tun", "c:10:229": "fuse", "c:10:232": "kvm",
         "c:10:237": "loop-control", "b:7:0": "loop0", "b:8:0": "sda", "b:254:0": "vda", "b:259:0": "nvme0n1"}
# FS_IOC_FSSETXATTR, FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS: out of a project, and so of a quota. Beside them what programs ask.
PROJECT_IOCTLS = (0x401c5820, 0x40086602, 0x40046602)
OTHER_IOCTLS = (0x801c581f, 0x80086601, 0x80046601, 0x5413, 0xFFFFFFFF)
NEW_NAMESPACES = {"NEWTIME": 0x80, "NEWNS": 0x20000, "NEWCGROUP": 0x02000000, "NEWUTS": 0x04000000, "NEWIPC": 0x08000000,
                  "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000}
SOCKETS = {"inet": "made", "ping": "made", "raw": "EPERM", "packet": "EPERM", "alg": "EPERM", "vsock": "EPERM",
           "audit": "EPROTONOSUPPORT",
           "socketcall-inet": "ENOSYS", "socketcall-alg": "ENOSYS", "socketcall-vsock": "ENOSYS"}

CLASSES = {
    "probe": "",
    "probe-user": 'user = "1000:1000"\n',
    "no-seccomp": '[security]\nseccomp = "unconfined"\n',
    "no-masks": '[security]\nsystempaths = "unconfined"\n',
    "mknod": '[security]\ncap_add = ["MKNOD"]\n',
    "privileges": 'user = "1000:1000"\n[security]\nno_new_privileges = false\n',
}

# `loosened`: what was found where it does not hold, or None. `good`: what was found is what is wanted.
Row = collections.namedtuple("Row", "section case wanted found loosened good note")


class Profile:
    """The text of the seccomp profile, and what it says to a call, for a set of capabilities."""

    def __init__(self, capabilities, architecture="amd64"):
        with open(PROFILE) as file:
            self.text = json.load(file)
        self.capabilities = {"CAP_" + name for name in capabilities}
        self.architecture = architecture

    def applies(self, rule):
        includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
        return (self.capabilities.issuperset(includes.get("caps", ()))
                and self.architecture in includes.get("arches", [self.architecture])
                and not self.capabilities.intersection(excludes.get("caps", ()))
                and self.architecture not in excludes.get("arches", ()))

    def decide(self, name, arguments=(0, 0, 0)):
        """ "allowed", or the errno's name. The kernel's filter compares 64 bits, but for `argsExcept`, which is ours."""
        holds = {"SCMP_CMP_EQ": lambda value, rule: value == rule["value"],
                 "SCMP_CMP_NE": lambda value, rule: value != rule["value"],
                 "SCMP_CMP_LT": lambda value, rule: value < rule["value"],
                 "SCMP_CMP_MASKED_EQ": lambda value, rule: value & rule["value"] == rule.get("valueTwo", 0)}
        errno = "EPERM"
        for rule in self.text["syscalls"]:
            if name not in rule["names"] or not self.applies(rule):
                continue
            if not all(holds[condition["op"]](arguments[condition["index"]], condition) for condition in rule.get("args", ())):
                continue
            but = rule.get("argsExcept")
            if but and arguments[but["index"]] & but["mask"] in but["values"]:
                continue
            if rule["action"] == "SCMP_ACT_ALLOW":
                return "allowed"
            errno = {1: "EPERM", 38: "ENOSYS", 93: "EPROTONOSUPPORT"}[rule["errnoRet"]]
        return errno


def compile_probe(program):
    source = os.path.dirname(os.path.realpath(__file__)) + "/probe/probe.c"
    subprocess.run(["clang-19", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o", program, source], check=True)


def macros_of_system_calls():
    return subprocess.run(["clang-19", "-E", "-dM", "-x", "c", "-"], input="#include <asm/unistd.h>\n", check=True,
                          capture_output=True, text=True).stdout


def prebuild(folder):
    compile_probe(folder + "/probe")
    with open(folder + "/system_calls.h", "w") as file:
        file.write(macros_of_system_calls())


def build_image(folder):
    """An image probe:latest of the static probe, and of it as a setuid program; gives its file."""
    root = folder + "/root"
    os.makedirs(root + "/etc")
    if PREBUILT:
        shutil.copy(PREBUILT + "/probe", root + "/probe")
    else:
        compile_probe(root + "/probe")
    shutil.copy(root + "/probe", root + "/suid")
    os.chmod(root + "/suid", 0o4755)
    with open(root + "/etc/passwd", "w") as file:
        file.write("root:x:0:0::/:/probe\n")
    return pack(root, folder + "/probe.tar", "probe:latest")


def system_calls():
    """{name: number} of this architecture, as its headers have them."""
    text = read(PREBUILT + "/system_calls.h") if PREBUILT else macros_of_system_calls()
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)\n", text)}


class Inside:
    """Runs the probe as a job of a class."""

    def __init__(self, agent):
        self.agent = agent
        self.runs = 0
        for name, settings in CLASSES.items():
            agent.apply(f'name = "{name}"\nimage = "probe:latest"\n'
                        + ('entrypoint = ["/suid"]\n' if "user" in settings else 'entrypoint = ["/probe"]\n') + settings)

    def lines(self, class_name, *arguments):
        self.runs += 1
        # The class's entrypoint replaces the image's command: what follows is the program's arguments.
        text = self.agent.ctr("run", f"{class_name}/run-{self.runs}", "--", *arguments, timeout=2 * DEADLINE)
        return text.splitlines()

    def ask(self, class_name, *arguments):
        """{case: result}"""
        return dict(line.split(" ", 1) for line in self.lines(class_name, *arguments))


def note_of(found, loosened):
    if loosened is None:
        return ""
    if loosened == "ENOSYS" != found:
        return "the kernel lacks it; the errno is the filter's own"
    return "the same without: by itself it proves nothing" if found == loosened else ""


def call_rows(inside):
    """The filter's decision on every call that the kernel's headers know, and on arguments that matter."""
    profile = Profile(CAPABILITIES)
    numbers = system_calls()
    cases = {name: (name, (0, 0)) for name in numbers}
    for family in (*range(1, 46), 38 | 1 << 32, 40 | 1 << 32):
        cases[f"socket({family})"] = ("socket", (family, 0, 0))
    for name, flag in NEW_NAMESPACES.items():
        cases[f"clone({name})"] = ("clone", (flag, 0))
    cases["clone(thread)"] = ("clone", (0x3D0F00, 0))
    for value in (8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF):
        cases[f"personality({value:#x})"] = ("personality", (value, 0))
    neighbours = {command ^ 1 << bit for command in PROJECT_IOCTLS for bit in (*range(16), *range(30, 34))}  # the last ones the kernel cuts off
    for command in {*PROJECT_IOCTLS, *OTHER_IOCTLS, *neighbours}:
        cases[f"ioctl({command:#x})"] = ("ioctl", (1, command))
    words = {case: ":".join(map(str, (numbers[name], *(value for value in arguments if value))))
             for case, (name, arguments) in cases.items()}
    wanted = {case: profile.decide(*cases[case]) for case in cases}
    denied = [case for case in cases if wanted[case] != "allowed"]
    decided = inside.ask("probe", "decide", *words.values())
    made = inside.ask("probe", "make", *(words[case] for case in denied))
    loosened = inside.ask("no-seccomp", "make", *(words[case] for case in denied))
    rows = []
    for case in sorted(cases):
        decision = decided[words[case]]  # ENOSYS: let through, or the filter's own
        if wanted[case] == "allowed":
            rows.append(Row("system call", case, "allowed", "allowed" if decision == "ENOSYS" else decision, None,
                            decision == "ENOSYS", ""))
            continue
        found, without = made[words[case]], loosened[words[case]]
        note = note_of(found, without)
        if wanted[case] != "ENOSYS" and decision == wanted[case] and found == without:
            note = "refused without the filter, too; the filter's decision was asked for alone"
        rows.append(Row("system call", case, wanted[case], found, without,
                        found == decision == wanted[case] and (wanted[case] != "ENOSYS" or without != "ENOSYS"), note))
    return rows


def other_call_rows(inside):
    """By the 32-bit gate, which the filter sees as another architecture."""
    cases = {"socket(inet)": ("i386:359:2", "allowed"), "socket(AF_ALG)": ("i386:359:38", "EPERM"),
             "socket(AF_VSOCK)": ("i386:359:40", "EPERM"), "io_uring_setup": ("i386:425", "EPERM"),
             "mount": ("i386:21", "EPERM"), "unshare": ("i386:310", "EPERM"), "keyctl": ("i386:288", "EPERM"),
             **{f"ioctl({command:#x})": (f"i386:54:1:{command}", "EPERM") for command in PROJECT_IOCTLS},
             **{f"ioctl({command:#x})": (f"i386:54:1:{command}", "allowed") for command in OTHER_IOCTLS}}
    # Some kernels have no such gate, and end who tries it: then there is nothing that a filter could let through.
    gate, without = inside.ask("probe", "gate32")["gate32"], inside.ask("no-seccomp", "gate32")["gate32"]
    rows = [Row("32-bit call", "the gate", without, gate, without, gate == without in ("open", "SIGSEGV"),
                "the kernel has none" if without != "open" else "")]
    if without != "open":
        return rows
    found = inside.ask("probe", "decide", *(word for word, _ in cases.values()))
    for case, (word, wanted) in cases.items():
        decision = "allowed" if found[word] == "ENOSYS" else found[word]
        rows.append(Row("32-bit call", case, wanted, decision, None, decision == wanted, ""))
    return rows


def socket_rows(inside):
    found, loosened = inside.ask("probe", "sockets"), inside.ask("no-seccomp", "sockets")
    # Socketcall is of the 32-bit gate, where there is one.
    cases = {case: wanted for case, wanted in SOCKETS.items() if case in loosened or not case.startswith("socketcall")}
    return [Row("socket", case, wanted, found[case], loosened[case], found[case] == wanted,
                "" if wanted == "made" else note_of(found[case], loosened[case])) for case, wanted in cases.items()]


def number_of(capability):
    with open("/usr/include/linux/capability.h") as file:
        return int(re.search(rf"#define CAP_{capability}\s+(\d+)", file.read()).group(1))


def capability_rows(inside):
    full = f"{sum(1 << number_of(name) for name in CAPABILITIES):016x}"
    none = "0" * 16
    rows = []
    for class_name, who, mask in (("probe", "root", full), ("probe-user", "uid 1000", none)):
        status = inside.ask(class_name, "status")
        for key, wanted in (("CapBnd", full), ("CapPrm", mask), ("CapEff", mask), ("CapInh", none), ("CapAmb", none),
                            ("NoNewPrivs", "1"), ("Seccomp", "2")):
            rows.append(Row("capabilities", f"{who} {key}", wanted, status[key], None, status[key] == wanted, ""))
    euid, loosened = inside.ask("probe-user", "status")["euid"], inside.ask("privileges", "status")["euid"]
    rows.append(Row("capabilities", "uid 1000 runs a setuid program: euid", "1000", euid, loosened, euid == "1000",
                    note_of(euid, loosened)))
    return rows


def path_rows(inside):
    throttle = [f"/sys/devices/system/cpu/{name}/thermal_throttle" for name in sorted(os.listdir("/sys/devices/system/cpu"))
                if re.fullmatch(r"cpu\d+", name)]
    names = [*MASKED, *throttle, *READ_ONLY, *READ_ONLY_SYS]
    found, loosened = inside.ask("probe", "paths", *names), inside.ask("no-masks", "paths", *names)
    rows = []
    for name in names:
        read, write = found[name].split()  # EACCES, for root: AppArmor, beside the mask
        masked = name in MASKED or name in throttle
        good = (not masked or read in ("empty", "ENOENT", "EACCES")) and write != "writable"
        note = "this kernel has none: proves nothing" if read == "ENOENT" else note_of(found[name], loosened[name])
        rows.append(Row("path", name, "nothing to read, not writable" if masked else "not writable",
                        f"{read}, {write}", loosened[name].replace(" ", ", "), good, note))
    writable = {line.split()[0] for line in inside.lines("probe", "writable", "/proc", "/sys")} - WRITABLE
    rows.append(Row("path", "all else of /proc and /sys", "nothing writable", " ".join(sorted(writable)) or "nothing writable", None,
                    not writable, ""))
    return rows


def device_rows(inside):
    rows = [Row("device", name, "only Docker's", result, None, name in DEVICES, "")
            for name, result in sorted(inside.ask("probe", "devices").items()) if result == "opens"]
    found, loosened = inside.ask("probe", "nodes", *NODES), inside.ask("mknod", "nodes", *NODES)
    for node, name in NODES.items():
        rows.append(Row("device", f"making {name}", "EPERM", found[node].split()[0], loosened[node].split()[0],
                        found[node] == "EPERM ENOENT", note_of(found[node], loosened[node])))
        made, opened = loosened[node].split()
        runc = name == "net/tun" and opened == "opens"  # runc before 1.2 lets everybody; of no use without NET_ADMIN
        rows.append(Row("device", f"opening {name} made with cap_add = MKNOD", "EPERM", opened, None,
                        made == "made" and (opened == "EPERM" or runc), "by runc itself, for Docker, too" if runc else ""))
    return rows


def table(agent):
    """Every row; the agent has the image."""
    inside = Inside(agent)
    rows = []
    for make in (capability_rows, call_rows, other_call_rows, socket_rows, path_rows, device_rows):
        rows += make(inside)
    return rows


def render(rows):
    heads = Row("WHAT", "CASE", "WANTED", "FOUND", "LOOSENED", None, "NOTE")
    lines = []
    for row in (heads, *rows):
        good = "" if row.good is None else "ok" if row.good else "DIFFERS"
        lines.append((row.section, row.case, row.wanted, row.found, row.loosened or "", good, row.note))
    widths = [min(max(len(line[i]) for line in lines), 44) for i in range(6)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[6]]).rstrip() for line in lines)
