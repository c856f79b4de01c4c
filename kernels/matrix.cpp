#include "kernels/matrix.hpp"

#include "kernels/half.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

namespace bitnet::kernels {

namespace {

constexpr std::size_t chunk_bytes = 64;

constexpr std::size_t round_up(std::size_t n, std::size_t multiple) noexcept {
  return (n + multiple - 1) / multiple * multiple;
}

/// Rejects shapes whose packed size or whose integer dot products would overflow.
void check_shape(std::size_t rows, std::size_t cols, std::size_t bytes_per_8_weights) {
  if (cols > max_matrix_cols)
    throw std::length_error("a matrix of " + std::to_string(cols) +
                            " columns is too wide: the kernels' integer sums hold " +
                            std::to_string(max_matrix_cols));
  const std::size_t row_bytes = round_up(std::max<std::size_t>(cols, 1), 64) / 8 * bytes_per_8_weights;
  if (rows > std::numeric_limits<std::size_t>::max() / 4 / row_bytes) throw std::bad_alloc();
}

/// The codes (weight + 1) of four consecutive columns, one a byte.
std::uint32_t four_codes(const std::int8_t* weights, std::size_t available) noexcept {
  std::uint32_t word = 0;
  std::memcpy(&word, weights, std::min<std::size_t>(available, 4));
  // Adds one to each byte without a carry into the next.
  return (((word & 0x7F7F7F7FU) + 0x01010101U) ^ (word & 0x80808080U)) & 0x03030303U;
}

constexpr std::uint32_t four_zero_weights = 0x01010101U;

}  // namespace

ternary_matrix::ternary_matrix(std::size_t rows, std::size_t cols, float scale)
    : ternary_matrix(rows, cols, scale, nullptr) {}

ternary_matrix::ternary_matrix(std::size_t rows, std::size_t cols, float scale, weight_arena& arena)
    : ternary_matrix(rows, cols, scale, &arena) {}

std::size_t ternary_matrix::packed_bytes(std::size_t rows, std::size_t cols) noexcept {
  return round_up(rows, block_rows) * round_up(cols, column_padding) / 4;
}

ternary_matrix::ternary_matrix(std::size_t rows, std::size_t cols, float scale, weight_arena* arena)
    : rows_(rows), cols_(cols), padded_cols_(round_up(cols, column_padding)), scale_(scale) {
  check_shape(rows, cols, 2);
  const std::size_t bytes = packed_bytes(rows, cols);
  storage_ = arena != nullptr ? arena->take(bytes) : weight_buffer(bytes);
  // Code 1 in every field is weight zero.
  if (storage_.size() != 0) std::memset(storage_.data(), 0x55, storage_.size());
}

void ternary_matrix::pack_block(std::size_t block, const std::int8_t* weights) noexcept {
  auto* out = reinterpret_cast<std::uint8_t*>(storage_.data()) + block * padded_cols_ * 8;
  const std::size_t rows = std::min(block_rows, rows_ - block * block_rows);
  const auto codes = [&](std::size_t row, std::size_t col) {
    if (row >= rows || col >= cols_) return four_zero_weights;
    const std::size_t available = cols_ - col;
    const std::uint32_t word = four_codes(weights + row * cols_ + col, available);
    return word;
  };
  for (std::size_t col = 0; col < padded_cols_; col += 8) {
    for (std::size_t pair = 0; pair < block_rows / 2; ++pair) {
      const std::uint32_t word = codes(pair, col) | codes(pair + 16, col) << 2 | codes(pair, col + 4) << 4 |
                                 codes(pair + 16, col + 4) << 6;
      std::memcpy(out + pair * 4, &word, sizeof(word));
    }
    out += chunk_bytes;
  }
}

void ternary_matrix::unpack_row(std::size_t row, std::int8_t* out) const noexcept {
  const std::uint8_t* const packed = block(row / block_rows);
  const std::size_t in_block = row % block_rows;
  for (std::size_t col = 0; col < cols_; ++col) {
    const std::size_t byte = (in_block % 16) * 4 + col % 4;
    const std::size_t field = in_block / 16 + 2 * (col / 4 % 2);
    const int code = packed[col / 8 * chunk_bytes + byte] >> (2 * field) & 3;
    out[col] = static_cast<std::int8_t>(code - 1);
  }
}

head_matrix::head_matrix(std::size_t rows, std::size_t cols, format f)
    : rows_(rows), cols_(cols), padded_cols_(round_up(cols, column_padding)), format_(f) {
  const std::size_t weight_bytes = f == format::int8 ? 1 : 2;
  check_shape(rows, cols, 8 * weight_bytes);
  storage_ = weight_buffer(block_count() * block_rows() * padded_cols_ * weight_bytes);
  row_scales_ = std::make_unique<float[]>(block_count() * block_rows());
  if (f == format::int8 && storage_.size() != 0)
    std::memset(storage_.data(), int8_weight_offset, storage_.size());
}

void head_matrix::pack_block(std::size_t block, const float* values) noexcept {
  const std::size_t first = block * block_rows();
  const std::size_t rows = std::min(block_rows(), rows_ - first);
  for (std::size_t r = 0; r < rows; ++r) {
    const float* const row = values + r * cols_;
    if (format_ == format::f16) {
      auto* const out = reinterpret_cast<std::uint16_t*>(storage_.data()) + (first + r) * padded_cols_;
      for (std::size_t k = 0; k < cols_; ++k) out[k] = half_from_float(row[k]);
      row_scales_[first + r] = 1.0F;
      continue;
    }
    auto* const out = reinterpret_cast<std::uint8_t*>(storage_.data()) + first * padded_cols_;
    float absmax = 0.0F;
    bool finite = true;
    for (std::size_t k = 0; k < cols_; ++k) {
      finite = finite && std::isfinite(row[k]);
      absmax = std::max(absmax, std::fabs(row[k]));
    }
    const float scale = absmax / 127.0F;
    // A row that is not finite must show in the logits, not be hidden by the clamp.
    row_scales_[first + r] = finite ? scale : std::numeric_limits<float>::quiet_NaN();
    for (std::size_t k = 0; k < cols_; ++k) {
      float q = 0.0F;
      // Dividing keeps q within 127 also where the reciprocal of a subnormal scale would be infinite.
      if (finite && scale > 0.0F) q = std::clamp(std::nearbyint(row[k] / scale), -127.0F, 127.0F);
      out[int8_offset_in_block(r, k)] = static_cast<std::uint8_t>(static_cast<int>(q) + int8_weight_offset);
    }
  }
}

}  // namespace bitnet::kernels
