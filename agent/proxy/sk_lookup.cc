#include "agent/proxy/sk_lookup.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

constexpr uint32_t kMaxPairs = 262'144;

struct PairKey {
  uint32_t address;  // network byte order, as the program sees it
  uint32_t port;     // host byte order, likewise
};

int Bpf(int command, bpf_attr& attributes) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

template <typename T>
uint64_t Pointer(const T* object) {
  return reinterpret_cast<uint64_t>(object);
}

StatusOr<UniqueFd> MakeMap(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t entries,
                           uint32_t flags) {
  bpf_attr attributes = {};
  attributes.map_type = type;
  attributes.key_size = key_size;
  attributes.value_size = value_size;
  attributes.max_entries = entries;
  attributes.map_flags = flags;
  UniqueFd fd(Bpf(BPF_MAP_CREATE, attributes));
  if (!fd.valid()) return ErrnoError(errno, "BPF_MAP_CREATE");
  return fd;
}

Status PutInMap(int map, const void* key, const void* value) {
  bpf_attr attributes = {};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = reinterpret_cast<uint64_t>(key);
  attributes.value = reinterpret_cast<uint64_t>(value);
  if (Bpf(BPF_MAP_UPDATE_ELEM, attributes) != 0) return ErrnoError(errno, "BPF_MAP_UPDATE_ELEM");
  return absl::OkStatus();
}

// Puts a program together; jumps go to labels, which Finish turns into distances.
class Assembler {
 public:
  enum Label { kInRange, kPass, kDrop };

  void Emit(uint8_t code, uint8_t dst, uint8_t src, int16_t offset, int32_t immediate) {
    instructions_.push_back({code, dst, src, offset, immediate});
  }
  void Load(uint8_t dst, uint8_t src, size_t offset) {
    Emit(BPF_LDX | BPF_MEM | BPF_W, dst, src, static_cast<int16_t>(offset), 0);
  }
  void Store(int16_t stack_offset, uint8_t src) {
    Emit(BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, src, stack_offset, 0);
  }
  void Move(uint8_t dst, uint8_t src) { Emit(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0); }
  void Set(uint8_t dst, int32_t value) { Emit(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value); }
  void StackAddress(uint8_t dst, int32_t stack_offset) {
    Move(dst, BPF_REG_10);
    Emit(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, stack_offset);
  }
  void LoadMap(uint8_t dst, int map) {
    Emit(BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_FD, 0, map);
    Emit(0, 0, 0, 0, 0);
  }
  void Call(int32_t function) { Emit(BPF_JMP | BPF_CALL, 0, 0, 0, function); }
  // On the low 32 bits.
  void And(uint8_t dst, uint32_t mask) {
    Emit(BPF_ALU | BPF_AND | BPF_K, dst, 0, 0, static_cast<int32_t>(mask));
  }
  void JumpIf(uint8_t comparison, uint8_t dst, uint32_t value, Label target) {
    jumps_.emplace_back(instructions_.size(), target);
    Emit(BPF_JMP32 | comparison | BPF_K, dst, 0, 0, static_cast<int32_t>(value));
  }
  void JumpIfNull(uint8_t dst, Label target) {
    jumps_.emplace_back(instructions_.size(), target);
    Emit(BPF_JMP | BPF_JEQ | BPF_K, dst, 0, 0, 0);
  }
  void Place(Label label) { labels_[label] = instructions_.size(); }
  void Return(int32_t value) {
    Set(BPF_REG_0, value);
    Emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
  }

  std::vector<bpf_insn> Finish() {
    for (const auto& [at, label] : jumps_) {
      instructions_[at].off = static_cast<int16_t>(labels_.at(label) - at - 1);
    }
    return instructions_;
  }

 private:
  std::vector<bpf_insn> instructions_;
  std::vector<std::pair<size_t, Label>> jumps_;
  std::map<Label, size_t> labels_;
};

std::vector<bpf_insn> SteeringProgram(std::span<const Ipv4Range> ranges, int pairs, int sockets) {
  constexpr uint8_t kContext = BPF_REG_6;
  constexpr uint8_t kAddress = BPF_REG_7;
  constexpr uint8_t kSocket = BPF_REG_8;
  constexpr uint8_t kScratch = BPF_REG_2;
  // On the stack: a PairKey, and the sockmap's key.
  constexpr int16_t kKeyAddress = -8;
  constexpr int16_t kKeyPort = -4;
  constexpr int16_t kSocketKey = -12;
  Assembler a;
  a.Move(kContext, BPF_REG_1);
  a.Load(kScratch, kContext, offsetof(bpf_sk_lookup, family));
  a.JumpIf(BPF_JNE, kScratch, AF_INET, Assembler::kPass);
  a.Load(kScratch, kContext, offsetof(bpf_sk_lookup, protocol));
  a.JumpIf(BPF_JNE, kScratch, IPPROTO_TCP, Assembler::kPass);
  a.Load(kAddress, kContext, offsetof(bpf_sk_lookup, local_ip4));
  for (const Ipv4Range& range : ranges) {
    a.Move(kScratch, kAddress);
    a.And(kScratch, htonl(range.mask()));
    a.JumpIf(BPF_JEQ, kScratch, htonl(range.base), Assembler::kInRange);
  }
  a.Place(Assembler::kPass);
  a.Return(SK_PASS);

  a.Place(Assembler::kInRange);
  a.Store(kKeyAddress, kAddress);
  a.Load(kScratch, kContext, offsetof(bpf_sk_lookup, local_port));
  a.Store(kKeyPort, kScratch);
  a.LoadMap(BPF_REG_1, pairs);
  a.StackAddress(BPF_REG_2, kKeyAddress);
  a.Call(BPF_FUNC_map_lookup_elem);
  a.JumpIfNull(BPF_REG_0, Assembler::kDrop);
  a.Set(kScratch, 0);
  a.Store(kSocketKey, kScratch);
  a.LoadMap(BPF_REG_1, sockets);
  a.StackAddress(BPF_REG_2, kSocketKey);
  a.Call(BPF_FUNC_map_lookup_elem);
  a.JumpIfNull(BPF_REG_0, Assembler::kDrop);
  a.Move(kSocket, BPF_REG_0);
  a.Move(BPF_REG_1, kContext);
  a.Move(BPF_REG_2, kSocket);
  a.Set(BPF_REG_3, 0);
  a.Call(BPF_FUNC_sk_assign);
  a.Move(BPF_REG_1, kSocket);
  a.Call(BPF_FUNC_sk_release);
  a.Return(SK_PASS);

  a.Place(Assembler::kDrop);
  a.Return(SK_DROP);
  return a.Finish();
}

StatusOr<UniqueFd> LoadProgram(const std::vector<bpf_insn>& instructions) {
  std::string log(16 * 1024, '\0');
  bpf_attr attributes = {};
  attributes.prog_type = BPF_PROG_TYPE_SK_LOOKUP;
  attributes.expected_attach_type = BPF_SK_LOOKUP;
  attributes.insns = Pointer(instructions.data());
  attributes.insn_cnt = static_cast<uint32_t>(instructions.size());
  attributes.license = Pointer("GPL");
  attributes.log_buf = Pointer(log.data());
  attributes.log_size = static_cast<uint32_t>(log.size());
  attributes.log_level = 1;
  UniqueFd fd(Bpf(BPF_PROG_LOAD, attributes));
  if (fd.valid()) return fd;
  Status failed = ErrnoError(errno, "BPF_PROG_LOAD");
  log.resize(log.find('\0'));
  return log.empty() ? failed : Annotate(failed, log.substr(0, log.find('\n')));
}

// What the kernel says about a BPF descriptor; `Info` is bpf_map_info or bpf_link_info.
template <typename Info>
Status GetInfo(int fd, Info& info) {
  bpf_attr attributes = {};
  attributes.info.bpf_fd = static_cast<uint32_t>(fd);
  attributes.info.info_len = sizeof info;
  attributes.info.info = Pointer(&info);
  if (Bpf(BPF_OBJ_GET_INFO_BY_FD, attributes) != 0) return ErrnoError(errno, "BPF_OBJ_GET_INFO");
  return absl::OkStatus();
}

Status CheckMap(int fd, uint32_t type, uint32_t key_size, uint32_t value_size) {
  bpf_map_info info = {};
  CTR_RETURN_IF_ERROR(GetInfo(fd, info));
  if (info.type != type || info.key_size != key_size || info.value_size != value_size) {
    return absl::InvalidArgumentError("it is another kind of map");
  }
  return absl::OkStatus();
}

// A link of an sk_lookup program to this network namespace.
Status CheckLink(int fd) {
  bpf_link_info info = {};
  CTR_RETURN_IF_ERROR(GetInfo(fd, info));
  struct stat here = {};
  if (::stat("/proc/thread-self/ns/net", &here) != 0) return ErrnoError(errno, "/proc");
  if (info.type != BPF_LINK_TYPE_NETNS || info.netns.attach_type != BPF_SK_LOOKUP ||
      info.netns.netns_ino != here.st_ino) {
    return absl::InvalidArgumentError("it is no link of steering to this network namespace");
  }
  return absl::OkStatus();
}

StatusOr<UniqueFd> AttachHere(int program) {
  UniqueFd netns(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!netns.valid()) return ErrnoError(errno, "/proc/thread-self/ns/net");
  bpf_attr attributes = {};
  attributes.link_create.prog_fd = static_cast<uint32_t>(program);
  attributes.link_create.target_fd = static_cast<uint32_t>(netns.get());
  attributes.link_create.attach_type = BPF_SK_LOOKUP;
  UniqueFd fd(Bpf(BPF_LINK_CREATE, attributes));
  if (!fd.valid()) return ErrnoError(errno, "BPF_LINK_CREATE");
  return fd;
}

}  // namespace

StatusOr<SkLookup> SkLookup::Attach(std::span<const Ipv4Range> ranges, int listener) {
  CTR_ASSIGN_OR_RETURN(
      UniqueFd pairs, MakeMap(BPF_MAP_TYPE_HASH, sizeof(PairKey), 1, kMaxPairs, BPF_F_NO_PREALLOC));
  CTR_ASSIGN_OR_RETURN(UniqueFd sockets,
                       MakeMap(BPF_MAP_TYPE_SOCKMAP, sizeof(uint32_t), sizeof(uint64_t), 1, 0));
  const uint32_t index = 0;
  const auto socket = static_cast<uint64_t>(listener);
  CTR_RETURN_IF_ERROR(PutInMap(sockets.get(), &index, &socket));
  CTR_ASSIGN_OR_RETURN(UniqueFd program,
                       LoadProgram(SteeringProgram(ranges, pairs.get(), sockets.get())));
  CTR_ASSIGN_OR_RETURN(UniqueFd link, AttachHere(program.get()));
  return SkLookup(std::move(pairs), std::move(sockets), std::move(program), std::move(link));
}

StatusOr<SkLookup> SkLookup::Resume(Kept kept, std::span<const Ipv4Range> ranges, int listener) {
  CTR_RETURN_IF_ERROR(CheckMap(kept.pairs.get(), BPF_MAP_TYPE_HASH, sizeof(PairKey), 1));
  CTR_RETURN_IF_ERROR(
      CheckMap(kept.sockets.get(), BPF_MAP_TYPE_SOCKMAP, sizeof(uint32_t), sizeof(uint64_t)));
  CTR_RETURN_IF_ERROR(CheckLink(kept.link.get()));
  const uint32_t index = 0;
  const auto socket = static_cast<uint64_t>(listener);
  CTR_RETURN_IF_ERROR(PutInMap(kept.sockets.get(), &index, &socket));
  CTR_ASSIGN_OR_RETURN(UniqueFd program,
                       LoadProgram(SteeringProgram(ranges, kept.pairs.get(), kept.sockets.get())));
  SkLookup resumed(std::move(kept.pairs), std::move(kept.sockets), std::move(program),
                   std::move(kept.link));
  CTR_RETURN_IF_ERROR(resumed.Reattach());
  return resumed;
}

Status SkLookup::Reattach() const {
  bpf_attr attributes = {};
  attributes.link_update.link_fd = static_cast<uint32_t>(link_.get());
  attributes.link_update.new_prog_fd = static_cast<uint32_t>(program_.get());
  if (Bpf(BPF_LINK_UPDATE, attributes) != 0) return ErrnoError(errno, "BPF_LINK_UPDATE");
  return absl::OkStatus();
}

std::vector<std::pair<uint32_t, uint16_t>> SkLookup::List() const {
  std::vector<std::pair<uint32_t, uint16_t>> found;
  PairKey key = {};
  bpf_attr attributes = {};
  attributes.map_fd = static_cast<uint32_t>(pairs_.get());
  attributes.next_key = Pointer(&key);
  while (Bpf(BPF_MAP_GET_NEXT_KEY, attributes) == 0) {
    found.emplace_back(ntohl(key.address), static_cast<uint16_t>(key.port));
    attributes.key = Pointer(&key);
  }
  return found;
}

Status SkLookup::Add(uint32_t address, uint16_t port) {
  const PairKey key{htonl(address), port};
  const uint8_t present = 1;
  return Annotate(PutInMap(pairs_.get(), &key, &present),
                  absl::StrCat("cannot steer ", FormatIpv4(address), ":", port));
}

void SkLookup::Remove(uint32_t address, uint16_t port) {
  const PairKey key{htonl(address), port};
  bpf_attr attributes = {};
  attributes.map_fd = static_cast<uint32_t>(pairs_.get());
  attributes.key = Pointer(&key);
  Bpf(BPF_MAP_DELETE_ELEM, attributes);  // fails only if it is not there
}

}  // namespace ctr
