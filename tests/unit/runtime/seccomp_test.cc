#include "agent/runtime/seccomp.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>

#include <doctest/doctest.h>

#include "agent/runtime/oci_spec.h"

using nlohmann::json;

namespace ctr::seccomp_test {
namespace {

const Platform kAmd64{"amd64", "", "SCMP_ARCH_X86_64"};
const KernelVersion kLinux6{6, 1};

json Translate(const std::vector<std::string>& capabilities = DefaultCapabilities(),
               const Platform& platform = kAmd64, KernelVersion kernel = kLinux6) {
  return TranslateSeccomp(DefaultSeccompProfile(), capabilities, platform, kernel);
}

std::vector<json> RulesOf(const json& seccomp, const std::string& syscall) {
  std::vector<json> rules;
  for (const json& rule : seccomp["syscalls"]) {
    const json& names = rule["names"];
    if (std::find(names.begin(), names.end(), syscall) != names.end()) rules.push_back(rule);
  }
  return rules;
}

bool AllowedOutright(const json& seccomp, const std::string& syscall) {
  for (const json& rule : RulesOf(seccomp, syscall)) {
    if (rule["action"] == "SCMP_ACT_ALLOW" && !rule.contains("args")) return true;
  }
  return false;
}

// What the filter decides for a call whose argument `index` is `value`, and the others 0, as
// libseccomp compares: on 64 bits.
bool Allows(const json& seccomp, const std::string& syscall, uint64_t value, int index = 0) {
  for (const json& rule : RulesOf(seccomp, syscall)) {
    if (rule["action"] != "SCMP_ACT_ALLOW") continue;
    if (!rule.contains("args")) return true;
    const json& argument = rule["args"][0];
    REQUIRE(argument["index"] == index);
    uint64_t wanted = argument["value"];
    std::string op = argument["op"];
    bool holds =
        (op == "SCMP_CMP_EQ" && value == wanted) || (op == "SCMP_CMP_LT" && value < wanted) ||
        (op == "SCMP_CMP_MASKED_EQ" && (value & wanted) == argument.value("valueTwo", uint64_t{0}));
    if (holds) return true;
  }
  return false;
}

std::vector<uint32_t> BitsOf(uint32_t mask) {
  std::vector<uint32_t> bits;
  for (uint32_t bit = 1; bit != 0; bit <<= 1) {
    if ((mask & bit) != 0) bits.push_back(bit);
  }
  return bits;
}

}  // namespace

TEST_CASE("a default container may do what programs do, and may not touch the host") {
  json seccomp = Translate();
  CHECK(seccomp["defaultAction"] == "SCMP_ACT_ERRNO");
  CHECK(seccomp["defaultErrnoRet"] == 1);
  for (const char* name : {"read", "execve", "epoll_wait", "futex", "chroot", "ptrace", "statx"}) {
    CAPTURE(name);
    CHECK(AllowedOutright(seccomp, name));
  }
  for (const char* name : {"mount", "umount2", "unshare", "setns", "bpf", "kexec_load", "reboot",
                           "init_module", "open_by_handle_at", "keyctl", "add_key", "clone3",
                           "perf_event_open", "io_uring_setup", "userfaultfd", "pivot_root"}) {
    CAPTURE(name);
    CHECK(!AllowedOutright(seccomp, name));
  }
}

TEST_CASE("new namespaces are refused, threads and forks are not; clone3 is said not to exist") {
  json seccomp = Translate();
  CHECK(Allows(seccomp, "clone", 0x01200011));   // fork
  CHECK(Allows(seccomp, "clone", 0x003d0f00));   // pthread_create
  CHECK(!Allows(seccomp, "clone", 0x10000011));  // CLONE_NEWUSER
  CHECK(!Allows(seccomp, "clone", 0x00020011));  // CLONE_NEWNS
  auto rules = RulesOf(seccomp, "clone3");
  REQUIRE(rules.size() == 1);
  CHECK(rules[0]["errnoRet"] == 38);
}

TEST_CASE("sockets are of Docker's families, whatever stands in the upper 32 bits") {
  // moby/profiles 02e898b137ae, seccomp/default_linux.go, allowedSocketDomains.
  const std::set<uint64_t> dockers = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 13,
                                      14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29,
                                      30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45};
  json seccomp = Translate();
  for (uint64_t family = 1; family < 100; ++family) {
    CAPTURE(family);
    CHECK(Allows(seccomp, "socket", family) == dockers.contains(family));
    CHECK(!Allows(seccomp, "socket", family | uint64_t{1} << 32));
  }
  for (uint64_t alg_or_vsock : {38, 40}) CHECK(!Allows(seccomp, "socket", alg_or_vsock));
}

TEST_CASE("without AUDIT_WRITE the kernel seems to have no audit, so that logins go on") {
  const auto refusals = [](const json& seccomp) {
    std::vector<json> found;
    for (const json& rule : RulesOf(seccomp, "socket")) {
      if (rule["action"] == "SCMP_ACT_ERRNO") found.push_back(rule);
    }
    return found;
  };
  const std::vector<json> refused = refusals(Translate());
  REQUIRE(refused.size() == 1);
  CHECK(refused[0]["errnoRet"] == 93);  // EPROTONOSUPPORT
  CHECK(refused[0]["args"] == json::parse(R"([{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
                        {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}])"));
  CHECK(refusals(Translate({"CAP_AUDIT_WRITE"})).empty());
  CHECK(Allows(Translate({"CAP_AUDIT_WRITE"}), "socket", 16));
}

TEST_CASE("32-bit programs have no way round the families by socketcall") {
  auto rules = RulesOf(Translate(), "socketcall");
  REQUIRE(rules.size() == 1);
  CHECK(rules[0]["action"] == "SCMP_ACT_ERRNO");
  // Another errno than the default: runc leaves out rules that say the same as that.
  CHECK(rules[0]["errnoRet"] == 38);
}

TEST_CASE("no ioctl takes a file out of its project, whatever stands in the upper 32 bits") {
  const json seccomp = Translate();
  const std::vector<uint32_t> refused = {FS_IOC_FSSETXATTR, FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS};
  for (const uint64_t upper : {uint64_t{0}, uint64_t{1} << 32, ~uint64_t{0} << 32}) {
    CAPTURE(upper);
    for (const uint32_t command : refused) {
      CAPTURE(command);
      CHECK(!Allows(seccomp, "ioctl", upper | command, 1));
      for (const uint32_t bit : BitsOf(0xc000ffff)) {
        CAPTURE(bit);
        CHECK(Allows(seccomp, "ioctl", upper | (command ^ bit), 1));
      }
    }
    for (const uint32_t command : {uint32_t{0}, UINT32_MAX, uint32_t{TIOCGWINSZ},
                                   uint32_t{FS_IOC_GETFLAGS}, uint32_t{FS_IOC_FSGETXATTR}}) {
      CAPTURE(command);
      CHECK(Allows(seccomp, "ioctl", upper | command, 1));
    }
  }
}

TEST_CASE("what holds for all but some values takes one condition for each bit that matters") {
  CHECK(ArgumentIsNone(1, UINT32_MAX, {}).size() == 1);
  CHECK(ArgumentIsNone(1, UINT32_MAX, {7}).size() == 32);
  CHECK(ArgumentIsNone(1, 0xff00, {0x700}).size() == 8);
  CHECK(ArgumentIsNone(1, UINT32_MAX, {0, UINT32_MAX}).size() == 62);
}

TEST_CASE("a capability brings its system calls") {
  json admin = Translate({"CAP_SYS_ADMIN"});
  CHECK(AllowedOutright(admin, "mount"));
  CHECK(AllowedOutright(admin, "clone"));
  CHECK(AllowedOutright(admin, "clone3"));
  CHECK(!AllowedOutright(admin, "chroot"));
  CHECK(AllowedOutright(Translate({"CAP_BPF"}), "bpf"));
  CHECK(AllowedOutright(Translate({"CAP_PERFMON"}), "perf_event_open"));
}

TEST_CASE("rules for other architectures and newer kernels are left out") {
  CHECK(Translate()["architectures"] == json({"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"}));
  CHECK(AllowedOutright(Translate(), "arch_prctl"));
  json arm = Translate(DefaultCapabilities(), {"arm64", "", "SCMP_ARCH_AARCH64"});
  CHECK(arm["architectures"] == json({"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}));
  CHECK(!AllowedOutright(arm, "arch_prctl"));
  CHECK(AllowedOutright(arm, "cacheflush"));
  json riscv = Translate(DefaultCapabilities(), {"riscv64", "", "SCMP_ARCH_RISCV64"});
  CHECK(riscv["architectures"] == json::array({"SCMP_ARCH_RISCV64"}));
  json old = Translate(DefaultCapabilities(), kAmd64, {4, 4});
  CHECK(!AllowedOutright(old, "ptrace"));
}

TEST_CASE("kernel releases are compared by number") {
  CHECK(ParseKernelVersion("6.1.0-13-amd64") == KernelVersion{6, 1});
  CHECK(ParseKernelVersion("4.10.0") > ParseKernelVersion("4.8"));
  CHECK(ParseKernelVersion("nonsense") == KernelVersion{});
}

}  // namespace ctr::seccomp_test
