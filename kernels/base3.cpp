#include "kernels/base3.hpp"

#include "kernels/base3_variants.hpp"

namespace bitnet::kernels {

namespace {

constexpr std::size_t chunk_bytes = 64;
constexpr std::size_t group_rows = 16;

/// 64 zero weights as ternary_matrix has them, for rows past its end.
constexpr std::uint8_t zero_codes = 0x55;

/// out[j] = the codes at bit shift[g] of from[g][j], g = 0..4, as one number. Branch-free, so that compilers
/// turn the loop into vector code.
void encode_chunk(const std::uint8_t* const (&from)[base3_matrix::row_groups],
                  const unsigned (&shift)[base3_matrix::row_groups], std::uint8_t* out) noexcept {
  for (std::size_t j = 0; j < chunk_bytes; ++j) {
    const auto code = [&](std::size_t g) { return static_cast<unsigned>(from[g][j]) >> shift[g] & 3U; };
    const unsigned high = code(0) + 3 * code(1) + 9 * code(2);
    const unsigned low = code(3) + 3 * code(4);
    out[j] = static_cast<std::uint8_t>(low < 8 ? 8 * high + low : 216 + high);
  }
}

}  // namespace

std::size_t base3_matrix::packed_bytes(std::size_t rows, std::size_t cols) noexcept {
  constexpr std::size_t padding = ternary_matrix::column_padding;
  return (rows + block_rows - 1) / block_rows * ((cols + padding - 1) / padding * padding) * 16;
}

base3_matrix::base3_matrix(const ternary_matrix& w, weight_arena& arena)
    : rows_(w.rows()),
      cols_(w.cols()),
      padded_cols_(w.padded_cols()),
      scale_(w.scale()),
      storage_(arena.take(packed_bytes(w.rows(), w.cols()))) {}

void base3_matrix::pack_block(std::size_t block, const ternary_matrix& w) noexcept {
  auto* out = reinterpret_cast<std::uint8_t*>(storage_.data()) + block * padded_cols_ * 16;
  // 16 rows of ours are half a block of the other layout, in the same order of bytes.
  std::uint8_t padding[chunk_bytes];
  for (std::uint8_t& byte : padding) byte = zero_codes;
  for (std::size_t col = 0; col < padded_cols_; col += 4, out += chunk_bytes) {
    const std::uint8_t* from[row_groups];
    unsigned shift[row_groups];
    for (std::size_t g = 0; g < row_groups; ++g) {
      const std::size_t row = block * block_rows + g * group_rows;
      const std::size_t source = row / ternary_matrix::block_rows;
      const std::size_t field = row / group_rows % 2 + 2 * (col / 4 % 2);
      from[g] = source < w.block_count() ? w.block(source) + col / 8 * chunk_bytes : padding;
      shift[g] = static_cast<unsigned>(2 * field);
    }
    encode_chunk(from, shift, out);
  }
}

base3_matmul base3_matmul_for(instruction_set isa) noexcept {
  switch (isa) {
    case instruction_set::scalar:
      return base3_matmul_scalar;
    case instruction_set::avx512_vnni:
    case instruction_set::amx_int8:
#if BITNET_X86_KERNELS
      return has_avx512_vbmi() ? base3_matmul_avx512 : nullptr;
#endif
    case instruction_set::avx2:
    case instruction_set::avx_vnni:
      break;
  }
  return nullptr;
}

}  // namespace bitnet::kernels
