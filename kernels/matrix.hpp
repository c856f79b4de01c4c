#pragma once

#include "kernels/weight_buffer.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace bitnet::kernels {

/// Columns a matrix may have: dot products of int8 and the kernels' scaled partial sums stay within int32,
/// and dot products with ternary weights are exact in a float.
inline constexpr std::size_t max_matrix_cols = 65536;

/// W[rows, cols] with entries in {-1, 0, +1} times one scale, packed two bits a weight.
///
/// Layout "B32": blocks of 32 output rows; in a block, 64-byte chunks of 32 rows x 8 columns, columns in
/// order. Byte j, field f (bits 2f and 2f+1) of a chunk holds row j/4 + 16*(f&1), column j%4 + 4*(f>>1) as
/// weight + 1. Rows and columns are padded (rows to 32, columns to 64) with weight 0. One layout serves GEMV
/// and GEMM.
class ternary_matrix {
 public:
  static constexpr std::size_t block_rows = 32;
  static constexpr std::size_t column_padding = 64;

  ternary_matrix() = default;
  /// All weights zero. Throws std::length_error where cols > max_matrix_cols, std::bad_alloc without memory.
  ternary_matrix(std::size_t rows, std::size_t cols, float scale);
  /// The same in memory of an arena that has packed_bytes(rows, cols) left.
  ternary_matrix(std::size_t rows, std::size_t cols, float scale, weight_arena& arena);

  /// Bytes that the packed weights take, whole lines of the cache.
  static std::size_t packed_bytes(std::size_t rows, std::size_t cols) noexcept;

  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  std::size_t padded_cols() const noexcept { return padded_cols_; }
  std::size_t block_count() const noexcept { return (rows_ + block_rows - 1) / block_rows; }
  float scale() const noexcept { return scale_; }
  void set_scale(float scale) noexcept { scale_ = scale; }

  /// Packs rows [32*block, min(32*block + 32, rows)) from row-major `weights` (-1, 0, +1), each row `cols`
  /// long. Blocks may be packed from different threads at once.
  void pack_block(std::size_t block, const std::int8_t* weights) noexcept;

  /// The inverse, for tests and checksums: `out` gets `cols` entries.
  void unpack_row(std::size_t row, std::int8_t* out) const noexcept;

  /// Packed bytes of one block: padded_cols() / 8 chunks of 64 bytes.
  const std::uint8_t* block(std::size_t index) const noexcept {
    return reinterpret_cast<const std::uint8_t*>(storage_.data()) + index * padded_cols_ * 8;
  }
  /// The same to write to, for loaders that have two-bit codes already. Code 3 must not be written.
  std::uint8_t* block(std::size_t index) noexcept {
    return reinterpret_cast<std::uint8_t*>(storage_.data()) + index * padded_cols_ * 8;
  }
  std::span<const std::byte> bytes() const noexcept { return {storage_.data(), storage_.size()}; }

 private:
  ternary_matrix(std::size_t rows, std::size_t cols, float scale, weight_arena* arena);

  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t padded_cols_ = 0;
  float scale_ = 1.0F;
  weight_buffer storage_;
};

/// The LM head W[rows, cols] as int8 with one scale a row (scale = absmax / 127), or as the f16 it came from.
///
/// Blocks of 32 rows, columns padded to 64. int8 is stored as weight + 128 in the order of AMX tiles: for
/// each 64 columns two tiles of 16 rows; a tile holds 16 chunks of 64 bytes, each 16 rows x 4 columns. A
/// kernel multiplies unsigned weights by signed activations and subtracts 128 * row_sum. f16 is row-major.
class head_matrix {
 public:
  enum class format : std::uint8_t { int8, f16 };

  static constexpr std::size_t column_padding = 64;
  static constexpr int int8_weight_offset = 128;

  head_matrix() = default;
  /// All weights zero. Throws std::length_error where cols > max_matrix_cols, std::bad_alloc without memory.
  head_matrix(std::size_t rows, std::size_t cols, format f);

  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  std::size_t padded_cols() const noexcept { return padded_cols_; }
  format storage_format() const noexcept { return format_; }

  /// Number of units of work for `head` kernels; a unit is a fixed block of rows.
  std::size_t block_count() const noexcept { return (rows_ + block_rows() - 1) / block_rows(); }
  static constexpr std::size_t block_rows() noexcept { return 32; }

  /// Packs rows [32*block, min(32*block + 32, rows)) from row-major f32, each row `cols` long. Blocks may be
  /// packed from different threads at once. An int8 row with a NaN or infinity gets the scale NaN.
  void pack_block(std::size_t block, const float* values) noexcept;

  /// Where weight (row, col) of an int8 block lies, in bytes from the start of the block.
  static constexpr std::size_t int8_offset_in_block(std::size_t row, std::size_t col) noexcept {
    return col / 64 * 2048 + row / 16 * 1024 + col % 64 / 4 * 64 + row % 16 * 4 + col % 4;
  }

  /// Packed int8 weights of one block: padded_cols() * 32 bytes.
  const std::uint8_t* int8_block(std::size_t index) const noexcept {
    return reinterpret_cast<const std::uint8_t*>(storage_.data()) + index * padded_cols_ * block_rows();
  }
  /// One row of f16 weights: padded_cols() halves, the padding zero.
  const std::uint16_t* f16_row(std::size_t row) const noexcept {
    return reinterpret_cast<const std::uint16_t*>(storage_.data()) + row * padded_cols_;
  }

  /// One scale for each row, 1 for f16; padded to whole blocks.
  const float* row_scales() const noexcept { return row_scales_.get(); }
  std::span<const std::byte> bytes() const noexcept { return {storage_.data(), storage_.size()}; }

 private:
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t padded_cols_ = 0;
  format format_ = format::int8;
  weight_buffer storage_;
  std::unique_ptr<float[]> row_scales_;
};

}  // namespace bitnet::kernels
