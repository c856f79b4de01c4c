#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace bitnet::kernels {

/// The kernel variants, slowest first. All give the same bits (docs/kernels.md, determinism).
enum class instruction_set : std::uint8_t { scalar, avx2, avx_vnni, avx512_vnni, amx_int8 };

std::string_view to_string(instruction_set isa) noexcept;

/// Accepts the names that `to_string` gives.
std::optional<instruction_set> parse_instruction_set(std::string_view name) noexcept;

/// True where this build contains the variant and this CPU (and its kernel, for AMX) can run it.
bool is_supported(instruction_set isa) noexcept;

/// True where `avx512_vnni` is supported and the CPU permutes bytes across a register as well (VBMI).
bool has_avx512_vbmi() noexcept;

/// All that `is_supported`, slowest first; never empty, `scalar` runs everywhere.
std::vector<instruction_set> supported_instruction_sets();

instruction_set best_instruction_set() noexcept;

}  // namespace bitnet::kernels
