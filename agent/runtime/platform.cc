#include "agent/runtime/platform.h"

namespace ctr {

const Platform& HostPlatform() {
#if defined(__x86_64__)
  static const Platform platform{"amd64", "", "SCMP_ARCH_X86_64"};
#elif defined(__aarch64__)
  static const Platform platform{"arm64", "", "SCMP_ARCH_AARCH64"};
#elif defined(__arm__)
  static const Platform platform{"arm", "v7", "SCMP_ARCH_ARM"};
#elif defined(__powerpc64__)
  static const Platform platform{"ppc64le", "", "SCMP_ARCH_PPC64LE"};
#elif defined(__s390x__)
  static const Platform platform{"s390x", "", "SCMP_ARCH_S390X"};
#elif defined(__riscv)
  static const Platform platform{"riscv64", "", "SCMP_ARCH_RISCV64"};
#else
#error "name this architecture here"
#endif
  return platform;
}

}  // namespace ctr
