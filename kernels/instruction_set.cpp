#include "kernels/instruction_set.hpp"

#include <array>

#if BITNET_X86_KERNELS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bitnet::kernels {

namespace {

constexpr std::array all_instruction_sets{instruction_set::scalar, instruction_set::avx2,
                                          instruction_set::avx_vnni, instruction_set::avx512_vnni,
                                          instruction_set::amx_int8};

struct features {
  bool avx2 = false;
  bool avx_vnni = false;
  bool avx512_vnni = false;
  bool amx_int8 = false;
  bool avx512_vbmi = false;
};

#if BITNET_X86_KERNELS
struct registers {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
};

registers cpuid(unsigned leaf, unsigned subleaf) noexcept {
  registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

constexpr bool has(unsigned word, unsigned bit) noexcept {
  return ((word >> bit) & 1U) != 0;
}

/// The register state that the operating system saves. Only valid where CPUID reports OSXSAVE.
unsigned enabled_state() noexcept {
  unsigned low = 0;
  unsigned high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

/// Linux hands out the 8 KB of tile registers only to processes that ask, and refuses where a signal stack is
/// too small for them (Documentation/arch/x86/xstate.rst).
bool request_tile_data() noexcept {
#ifdef SYS_arch_prctl
  constexpr long arch_req_xcomp_perm = 0x1023;
  constexpr long xfeature_xtiledata = 18;
  return syscall(SYS_arch_prctl, arch_req_xcomp_perm, xfeature_xtiledata) == 0;
#else
  return false;
#endif
}

features detect() noexcept {
  // Bit numbers: Intel SDM volume 2A, CPUID.
  features f;
  const registers one = cpuid(1, 0);
  if (!has(one.ecx, 27)) return f;  // OSXSAVE
  const unsigned state = enabled_state();
  constexpr unsigned avx_state = 0x6;
  constexpr unsigned avx512_state = 0xE6;
  constexpr unsigned tile_state = 0x60000;
  const registers seven = cpuid(7, 0);
  const registers seven_one = cpuid(7, 1);
  const bool avx_fma_f16c = has(one.ecx, 28) && has(one.ecx, 12) && has(one.ecx, 29);
  f.avx2 = (state & avx_state) == avx_state && avx_fma_f16c && has(seven.ebx, 5);
  f.avx_vnni = f.avx2 && has(seven_one.eax, 4);
  const bool avx512_f_dq_bw_vl =
      has(seven.ebx, 16) && has(seven.ebx, 17) && has(seven.ebx, 30) && has(seven.ebx, 31);
  f.avx512_vnni = f.avx2 && (state & avx512_state) == avx512_state && avx512_f_dq_bw_vl && has(seven.ecx, 11);
  f.avx512_vbmi = f.avx512_vnni && has(seven.ecx, 1);
  // Tiles, of int8 and of bfloat16, and vectors of bfloat16: so far every CPU that has one has the others.
  const bool amx_tile_int8_bf16 = has(seven.edx, 24) && has(seven.edx, 25) && has(seven.edx, 22);
  f.amx_int8 = f.avx512_vnni && has(seven_one.eax, 5) && (state & tile_state) == tile_state &&
               amx_tile_int8_bf16 && request_tile_data();
  return f;
}
#else
features detect() noexcept {
  return {};
}
#endif

const features& available() noexcept {
  static const features detected = detect();
  return detected;
}

}  // namespace

std::string_view to_string(instruction_set isa) noexcept {
  switch (isa) {
    case instruction_set::scalar:
      return "scalar";
    case instruction_set::avx2:
      return "avx2";
    case instruction_set::avx_vnni:
      return "avx_vnni";
    case instruction_set::avx512_vnni:
      return "avx512_vnni";
    case instruction_set::amx_int8:
      return "amx_int8";
  }
  return "unknown";
}

std::optional<instruction_set> parse_instruction_set(std::string_view name) noexcept {
  for (const instruction_set isa : all_instruction_sets) {
    if (to_string(isa) == name) return isa;
  }
  return std::nullopt;
}

bool is_supported(instruction_set isa) noexcept {
  switch (isa) {
    case instruction_set::scalar:
      return true;
    case instruction_set::avx2:
      return available().avx2;
    case instruction_set::avx_vnni:
      return available().avx_vnni;
    case instruction_set::avx512_vnni:
      return available().avx512_vnni;
    case instruction_set::amx_int8:
      return available().amx_int8;
  }
  return false;
}

bool has_avx512_vbmi() noexcept {
  return available().avx512_vbmi;
}

std::vector<instruction_set> supported_instruction_sets() {
  std::vector<instruction_set> result;
  for (const instruction_set isa : all_instruction_sets) {
    if (is_supported(isa)) result.push_back(isa);
  }
  return result;
}

instruction_set best_instruction_set() noexcept {
  instruction_set best = instruction_set::scalar;
  for (const instruction_set isa : all_instruction_sets) {
    if (is_supported(isa)) best = isa;
  }
  return best;
}

}  // namespace bitnet::kernels
