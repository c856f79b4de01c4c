#include "engine/ternary_decode.hpp"

#include "engine/dequantize.hpp"

#include <array>
#include <cstring>

namespace bitnet::engine {

namespace {

std::uint64_t load64(const std::byte* in) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, in, sizeof(value));
  return value;
}

/// Bit position of the field that holds weights 32*part to 32*part + 31.
constexpr unsigned field_shift(two_bit_order order, unsigned part) noexcept {
  return order == two_bit_order::high_first ? 6 - 2 * part : 2 * part;
}

/// Non-zero where one of the 32 codes of a word is 3.
constexpr std::uint64_t invalid_codes(std::uint64_t word) noexcept {
  return word & (word >> 1) & 0x5555555555555555U;
}

/// The five base-3 digits of every byte, most significant first: byte = ceil(value * 256 / 243).
using digit_table = std::array<std::array<std::int8_t, 5>, 256>;

constexpr digit_table make_digit_table() noexcept {
  digit_table table{};
  constexpr unsigned powers[5] = {1, 3, 9, 27, 81};
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (std::size_t k = 0; k < 5; ++k) {
      const unsigned code = ((byte * powers[k]) % 256 * 3) >> 8U;
      table[byte][k] = static_cast<std::int8_t>(static_cast<int>(code) - 1);
    }
  }
  return table;
}

constexpr digit_table digits = make_digit_table();

bool all_zero(const std::int8_t* weights, std::size_t count) noexcept {
  std::uint8_t seen = 0;
  for (std::size_t i = 0; i < count; ++i) seen |= static_cast<std::uint8_t>(weights[i]);
  return seen == 0;
}

float load_scale(const std::byte* in) noexcept {
  float scale = 0.0F;
  dequantize(tensor_type::f16, in, 1, &scale);
  return scale;
}

template <two_bit_order Order>
bool repack(const std::byte* const (&rows)[32], std::uint8_t* chunks) noexcept {
  std::uint64_t invalid = 0;
  // Byte j of a chunk belongs to rows j/4 and j/4 + 16, so rows go in such pairs. Eight columns of a row are
  // the same field of eight bytes: one word.
  for (std::size_t r = 0; r < 16; ++r) {
    for (std::size_t w = 0; w < 4; ++w) {
      const std::uint64_t a = load64(rows[r] + 8 * w);
      const std::uint64_t b = load64(rows[r + 16] + 8 * w);
      invalid |= invalid_codes(a) | invalid_codes(b);
      for (unsigned part = 0; part < 4; ++part) {
        constexpr std::uint64_t low_fields = 0x0303030303030303U;
        const unsigned shift = field_shift(Order, part);
        const std::uint64_t pair = ((a >> shift) & low_fields) | (((b >> shift) & low_fields) << 2);
        const auto bytes = static_cast<std::uint32_t>(pair | (pair >> 28));
        std::memcpy(chunks + (4 * part + w) * 64 + 4 * r, &bytes, sizeof(bytes));
      }
    }
  }
  return invalid == 0;
}

}  // namespace

const std::array<std::byte, two_bit_group_bytes> two_bit_zero_group = [] {
  std::array<std::byte, two_bit_group_bytes> group{};
  group.fill(std::byte{0x55});
  return group;
}();

bool decode_two_bit_group(two_bit_order order, const std::byte* in, std::int8_t* out) noexcept {
  for (unsigned part = 0; part < 4; ++part) {
    const unsigned shift = field_shift(order, part);
    for (std::size_t j = 0; j < two_bit_group_bytes; ++j)
      out[32 * part + j] =
          static_cast<std::int8_t>(static_cast<int>((static_cast<unsigned>(in[j]) >> shift) & 3U) - 1);
  }
  std::uint64_t invalid = 0;
  for (std::size_t w = 0; w < two_bit_group_bytes; w += 8) invalid |= invalid_codes(load64(in + w));
  return invalid == 0;
}

tq_group decode_tq2_0_group(const std::byte* in, std::int8_t* out) noexcept {
  tq_group group;
  group.scale = load_scale(in + 64);
  group.valid = decode_two_bit_group(two_bit_order::low_first, in, out);
  group.valid = decode_two_bit_group(two_bit_order::low_first, in + 32, out + 128) && group.valid;
  group.zero = all_zero(out, 256);
  return group;
}

tq_group decode_tq1_0_group(const std::byte* in, std::int8_t* out) noexcept {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(in);
  for (std::size_t m = 0; m < 32; ++m)
    for (std::size_t k = 0; k < 5; ++k) out[32 * k + m] = digits[bytes[m]][k];
  for (std::size_t m = 0; m < 16; ++m)
    for (std::size_t k = 0; k < 5; ++k) out[160 + 16 * k + m] = digits[bytes[32 + m]][k];
  for (std::size_t m = 0; m < 4; ++m)
    for (std::size_t k = 0; k < 4; ++k) out[240 + 4 * k + m] = digits[bytes[48 + m]][k];
  tq_group group;
  group.scale = load_scale(in + 52);
  group.zero = all_zero(out, 256);
  return group;
}

bool repack_two_bit_groups(two_bit_order order, const std::byte* const (&rows)[32],
                           std::uint8_t* chunks) noexcept {
  return order == two_bit_order::high_first ? repack<two_bit_order::high_first>(rows, chunks)
                                            : repack<two_bit_order::low_first>(rows, chunks);
}

}  // namespace bitnet::engine
