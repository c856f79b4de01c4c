#pragma once

#include "kernels/matmul.hpp"

namespace bitnet::kernels {

/// The weights of a ternary_matrix once more, five a byte: a fifth less to read where few tokens share the
/// weights and memory is what limits.
///
/// Blocks of 80 output rows; in a block, 64-byte chunks of 80 rows x 4 columns, columns in order. Byte j
/// holds the codes (weight + 1) t0..t4 of rows j/4 + 16 g, g = 0..4, all of column j%4. With h = t0 + 3 t1 +
/// 9 t2 and l = t3 + 3 t4 the byte is 8 h + l for l < 8, else 216 + h: both parts are found by a table of
/// bytes. Padding as in ternary_matrix: rows to 80, columns to 64, weight 0.
class base3_matrix {
 public:
  static constexpr std::size_t block_rows = 80;
  static constexpr std::size_t row_groups = 5;

  base3_matrix() = default;
  /// Takes shape and scale of `w` and memory of `arena`; undefined until each block was packed. Throws
  /// std::bad_alloc.
  base3_matrix(const ternary_matrix& w, weight_arena& arena);

  static std::size_t packed_bytes(std::size_t rows, std::size_t cols) noexcept;

  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  std::size_t padded_cols() const noexcept { return padded_cols_; }
  std::size_t block_count() const noexcept { return (rows_ + block_rows - 1) / block_rows; }
  float scale() const noexcept { return scale_; }

  /// Packs one block of the same matrix. Blocks may be packed from different threads at once.
  void pack_block(std::size_t block, const ternary_matrix& w) noexcept;

  /// Packed bytes of one block: padded_cols() / 4 chunks of 64 bytes.
  const std::uint8_t* block(std::size_t index) const noexcept {
    return reinterpret_cast<const std::uint8_t*>(storage_.data()) + index * padded_cols_ * 16;
  }
  std::span<const std::byte> bytes() const noexcept { return {storage_.data(), storage_.size()}; }

 private:
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t padded_cols_ = 0;
  float scale_ = 1.0F;
  weight_buffer storage_;
};

/// As matmul_kernels::ternary_matmul, with the same bits in y; `blocks` counts blocks of 80 rows.
using base3_matmul = void (*)(const base3_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                              work_range blocks);

/// Tokens from which on the two-bit layout is at least as fast: then the multiplier limits.
inline constexpr std::size_t base3_max_tokens = 4;

/// The product of an instruction set, or null where it (or this CPU's version of it) has no way to unpack as
/// fast as memory is read. The scalar one is the reference. Precondition: is_supported(isa).
base3_matmul base3_matmul_for(instruction_set isa) noexcept;

}  // namespace bitnet::kernels
