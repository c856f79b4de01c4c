#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace bitnet::engine {

/// Both two-bit types keep 128 weights in 32 bytes: byte j holds the codes (weight + 1) of weights j, j+32,
/// j+64 and j+96. They differ in which end of the byte comes first.
enum class two_bit_order : std::uint8_t {
  high_first,  ///< I2_S
  low_first,   ///< TQ2_0
};

inline constexpr std::size_t two_bit_group_weights = 128;
inline constexpr std::size_t two_bit_group_bytes = 32;

/// Decodes one group to 128 weights of -1, 0, +1. False where a code is 3, which is no weight.
bool decode_two_bit_group(two_bit_order order, const std::byte* in, std::int8_t* out) noexcept;

/// Weights decoded from one TQ group of 256, and their scale.
struct tq_group {
  float scale = 0.0F;  ///< as stored
  bool zero = true;    ///< every decoded weight is 0
  bool valid = true;   ///< false where a code is 3 (TQ2_0)
};

/// Decode one group (66 or 54 bytes) to 256 weights of -1, 0, +1.
tq_group decode_tq2_0_group(const std::byte* in, std::int8_t* out) noexcept;
tq_group decode_tq1_0_group(const std::byte* in, std::int8_t* out) noexcept;

/// A 32-byte group with every weight zero: code 1 four times a byte.
extern const std::array<std::byte, two_bit_group_bytes> two_bit_zero_group;

/// Re-packs 128 columns of 32 rows into 16 chunks (1024 bytes) of kernels::ternary_matrix without decoding.
/// rows[r] is row r's group. False where a code is 3.
bool repack_two_bit_groups(two_bit_order order, const std::byte* const (&rows)[32],
                           std::uint8_t* chunks) noexcept;

}  // namespace bitnet::engine
