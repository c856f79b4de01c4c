#pragma once

#include "kernels/instruction_set.hpp"

#include <algorithm>
#include <vector>

namespace bitnet::kernels::test {

/// What the tests compare with the scalar reference: all that this CPU runs and, where its vector kernels are
/// emulated (tests/unit/kernels/CMakeLists.txt), AVX-512 and AMX.
inline std::vector<instruction_set> accelerated_instruction_sets() {
#if defined(BITNET_EMULATED_AVX512)
  if (is_supported(instruction_set::avx2)) return {instruction_set::avx512_vnni, instruction_set::amx_int8};
  return {};
#else
  std::vector<instruction_set> sets = supported_instruction_sets();
  std::erase(sets, instruction_set::scalar);
  return sets;
#endif
}

inline std::vector<instruction_set> tested_instruction_sets() {
  std::vector<instruction_set> sets = accelerated_instruction_sets();
  sets.insert(sets.begin(), instruction_set::scalar);
  return sets;
}

/// The one for tests that need only one, quickly.
inline instruction_set fastest_tested_instruction_set() {
  return tested_instruction_sets().back();
}

}  // namespace bitnet::kernels::test
