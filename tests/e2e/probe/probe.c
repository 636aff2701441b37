// What a process in an instance can do, told case by case: a static program for isolation.py's image. Each subcommand prints
// lines "CASE RESULT".
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAGIC 0x63747221  // the sixth argument of a call that is only to be judged

static const char *error_name(int error) {
  static char number[32];
  const char *name = strerrorname_np(error);
  if (name) return name;
  snprintf(number, sizeof number, "errno %d", error);
  return number;
}

// Lets every call pass but those with MAGIC: of these the kernel does what the stricter of the two filters says, the profile's
// or this one, and a trace without a tracer is the mildest there is: ENOSYS, and the call is not made. So the profile's answer
// is seen, whatever the kernel, capabilities and arguments would have come to, and nothing happens.
static void judge_only(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MAGIC, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
    perror("seccomp");
    exit(1);
  }
}

#ifdef __x86_64__
// A call by the 32-bit gate; the result is negative errno or the value.
static int call32(int number, long a, long b, long c, long d, long e, long f) {
  int result;
  __asm__ volatile("mov %%rbp, %%r12\n\tmov %[f], %%ebp\n\tint $0x80\n\tmov %%r12, %%rbp"
                   : "=a"(result)
                   : "a"(number), "b"((int)a), "c"((int)b), "d"((int)c), "S"((int)d), "D"((int)e), [f] "r"((int)f)
                   : "memory", "r8", "r9", "r10", "r11", "r12");
  return result;
}
#else
static int call32(int number, long a, long b, long c, long d, long e, long f) {
  (void)number, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  return -ENOSYS;
}
#endif

// Whether the kernel takes 32-bit calls at all, or ends whoever tries.
static const char *gate32(void) {
  int status = 0;
  const pid_t pid = fork();
  if (pid == 0) {
    call32(20, 0, 0, 0, 0, 0, 0);  // getpid
    _exit(0);
  }
  if (pid < 0 || waitpid(pid, &status, 0) != pid) exit(1);
  if (!WIFSIGNALED(status)) return "open";
  return WTERMSIG(status) == SIGSEGV ? "SIGSEGV" : "killed";
}

struct call {
  int number, is32;
  long argument[2];
};

// "NUMBER[:ARGUMENT[:ARGUMENT]]", or the same after "i386:".
static struct call parse(const char *text) {
  struct call call = {0, 0, {0, 0}};
  if (!strncmp(text, "i386:", 5)) call.is32 = 1, text += 5;
  char *end;
  call.number = (int)strtol(text, &end, 0);
  for (int i = 0; i < 2 && *end == ':'; ++i) call.argument[i] = (long)strtoul(end + 1, &end, 0);
  return call;
}

static const char *result_of(long result, int error) {
  static char text[64];
  if (result >= 0) {
    snprintf(text, sizeof text, "done");
    return text;
  }
  return error_name(error);
}

static void decide(char **calls) {
  judge_only();
  for (; *calls; ++calls) {
    struct call call = parse(*calls);
    long result;
    if (call.is32) {
      result = call32(call.number, call.argument[0], call.argument[1], 0, 0, 0, MAGIC);
      errno = (int)-result;
    } else {
      result = syscall(call.number, call.argument[0], call.argument[1], 0, 0, 0, MAGIC);
    }
    int error = errno;
    syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);  // MAGIC would stay in its register, for who comes next
    printf("%s %s\n", *calls, result_of(result, error));
  }
}

// Makes the calls, each in a process of its own, with arguments that are good for nothing.
static void make(char **calls) {
  for (; *calls; ++calls) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
      struct call call = parse(*calls);
      alarm(5);
      long result;
      if (call.is32) {
        result = call32(call.number, call.argument[0], call.argument[1], -1, -1, -1, -1);
        errno = (int)-result;
      } else if (call.argument[0] || call.argument[1]) {
        result = syscall(call.number, call.argument[0], call.argument[1], 0, 0, 0, 0);
      } else {
        result = syscall(call.number, -1L, -1L, -1L, -1L, -1L, -1L);
      }
      printf("%s %s\n", *calls, result_of(result, errno));
      fflush(stdout);
      _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) printf("%s %s\n", *calls, strsignal(WTERMSIG(status)));
  }
}

static void status(void) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  while (file && fgets(line, sizeof line, file)) {
    if (strncmp(line, "Cap", 3) && strncmp(line, "NoNewPrivs", 10) && strncmp(line, "Seccomp:", 8)) continue;
    char *value = strchr(line, ':');
    *value++ = 0;
    printf("%s %s", line, value + strspn(value, "\t "));
  }
  printf("uid %d\neuid %d\n", getuid(), geteuid());
}

// What of a path can be read: "missing", an errno, "empty", "bytes", "entries".
static const char *readable(const char *path) {
  struct stat info;
  if (stat(path, &info)) return error_name(errno);
  if (S_ISDIR(info.st_mode)) {
    DIR *folder = opendir(path);
    if (!folder) return error_name(errno);
    int entries = 0;
    for (struct dirent *entry; (entry = readdir(folder));) entries += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    closedir(folder);
    return entries ? "entries" : "empty";
  }
  int fd = open(path, O_RDONLY | O_NONBLOCK);
  if (fd < 0) return error_name(errno);
  char byte;
  ssize_t size = read(fd, &byte, 1);
  const char *result = size < 0 ? error_name(errno) : size ? "bytes" : "empty";
  close(fd);
  return result;
}

static const char *writable(const char *path) {
  struct stat info;
  if (stat(path, &info)) return error_name(errno);
  if (S_ISDIR(info.st_mode)) {
    char inside[4200];
    snprintf(inside, sizeof inside, "%s/ctr-probe", path);
    if (mkdir(inside, 0700)) return error_name(errno);
    rmdir(inside);
    return "writable";
  }
  if (S_ISCHR(info.st_mode) && info.st_rdev == makedev(1, 3)) return "null";
  int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return error_name(errno);
  // Root may open for writing what can't be written. A byte from nowhere reaches who would take one, and does nothing.
  ssize_t size = write(fd, NULL, 1);
  const char *result = size >= 0 || (errno != EIO && errno != EINVAL) ? "writable" : error_name(errno);
  close(fd);
  return result;
}

static void paths(char **names) {
  for (; *names; ++names) {
    printf("%s %s", *names, readable(*names));
    printf(" %s\n", writable(*names));
  }
}

// Everything below some folders that can be written, but processes.
static int tell_writable(const char *path, const struct stat *info, int type, struct FTW *place) {
  (void)place;
  if (type == FTW_SL || type == FTW_SLN || type == FTW_NS) return FTW_CONTINUE;
  const char *name = strncmp(path, "/proc/", 6) ? "" : path + 6;
  if ((*name >= '0' && *name <= '9') || !strncmp(name, "self", 4) || !strncmp(name, "thread-self", 11)) {
    return FTW_SKIP_SUBTREE;
  }
  if ((S_ISDIR(info->st_mode) || S_ISREG(info->st_mode)) && !strcmp(writable(path), "writable")) printf("%s writable\n", path);
  return FTW_CONTINUE;
}

static int tell_device(const char *path, const struct stat *info, int type, struct FTW *place) {
  (void)type, (void)place;
  if (!strcmp(path, "/proc") || !strcmp(path, "/sys")) return FTW_SKIP_SUBTREE;
  if (!S_ISCHR(info->st_mode) && !S_ISBLK(info->st_mode)) return FTW_CONTINUE;
  int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY);
  printf("%s %s\n", path, fd < 0 ? error_name(errno) : "opens");
  if (fd >= 0) close(fd);
  return FTW_CONTINUE;
}

// "c:1:11" or "b:8:0": whether such a node can be made, and opened.
static void make_nodes(char **nodes) {
  for (; *nodes; ++nodes) {
    char kind;
    unsigned int major_number, minor_number;
    if (sscanf(*nodes, "%c:%u:%u", &kind, &major_number, &minor_number) != 3) exit(2);
    const char *path = "/ctr-probe-node";
    int made = mknod(path, 0600 | (kind == 'c' ? S_IFCHR : S_IFBLK), makedev(major_number, minor_number));
    printf("%s %s", *nodes, made ? error_name(errno) : "made");
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    printf(" %s\n", fd < 0 ? error_name(errno) : "opens");
    if (fd >= 0) close(fd);
    unlink(path);
  }
}

static void try_socket(const char *name, int family, int type, int protocol) {
  int fd = socket(family, type, protocol);
  printf("%s %s\n", name, fd < 0 ? error_name(errno) : "made");
  if (fd >= 0) close(fd);
}

// AF_ALG and AF_VSOCK also by the 32-bit multiplexer, whose arguments a filter can't see.
static void sockets(void) {
  try_socket("inet", AF_INET, SOCK_STREAM, 0);
  try_socket("ping", AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  try_socket("raw", AF_INET, SOCK_RAW, IPPROTO_ICMP);
  try_socket("packet", AF_PACKET, SOCK_RAW, 0);
  try_socket("alg", AF_ALG, SOCK_SEQPACKET, 0);
  try_socket("vsock", AF_VSOCK, SOCK_STREAM, 0);
  try_socket("audit", AF_NETLINK, SOCK_RAW, NETLINK_AUDIT);
  int families[] = {AF_INET, AF_ALG, AF_VSOCK};
  const char *names[] = {"socketcall-inet", "socketcall-alg", "socketcall-vsock"};
  int *low = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  const int is_open = !strcmp(gate32(), "open");
  for (int i = 0; i < 3 && low != MAP_FAILED && is_open; ++i) {
    low[0] = families[i], low[1] = SOCK_STREAM, low[2] = 0;
    int result = call32(102, 1, (long)low, 0, 0, 0, 0);
    printf("%s %s\n", names[i], result < 0 ? error_name(-result) : "made");
  }
}

// Takes folders out of their quota's project.
static void leave(char **folders) {
  for (; *folders; ++folders) {
    struct fsxattr attributes;
    int fd = open(*folders, O_RDONLY);
    int failed = ioctl(fd, FS_IOC_FSGETXATTR, &attributes);
    attributes.fsx_projid = 0;
    attributes.fsx_xflags &= ~(unsigned)FS_XFLAG_PROJINHERIT;
    failed = failed || ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
    printf("%s %s\n", *folders, failed ? error_name(errno) : "done");
    close(fd);
  }
}

static void *answer_all(void *number) {
  int fd = *(int *)number, client;
  while ((client = accept(fd, NULL, NULL)) >= 0) {
    char head[4096];
    const char answer[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    if (read(client, head, sizeof head) > 0 && write(client, answer, sizeof answer - 1) < 0) perror("write");
    close(client);
  }
  return NULL;
}

// Serves HTTP at port 8080 by a second thread; the first one ends.
static void serve_headless(void) {
  static int fd;
  fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
  if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 64)) exit(1);
  pthread_t thread;
  if (pthread_create(&thread, NULL, answer_all, &fd)) exit(1);
  pthread_exit(NULL);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  if (!strcmp(what, "decide")) decide(argv + 2);
  else if (!strcmp(what, "make")) make(argv + 2);
  else if (!strcmp(what, "gate32")) printf("gate32 %s\n", gate32());
  else if (!strcmp(what, "status")) status();
  else if (!strcmp(what, "paths")) paths(argv + 2);
  else if (!strcmp(what, "writable")) for (char **root = argv + 2; *root; ++root) nftw(*root, tell_writable, 32, FTW_PHYS | FTW_ACTIONRETVAL);
  else if (!strcmp(what, "devices")) nftw("/", tell_device, 32, FTW_PHYS | FTW_ACTIONRETVAL);
  else if (!strcmp(what, "nodes")) make_nodes(argv + 2);
  else if (!strcmp(what, "sockets")) sockets();
  else if (!strcmp(what, "leave")) leave(argv + 2);
  else if (!strcmp(what, "headless")) serve_headless();
  else return 2;
  return 0;
}
