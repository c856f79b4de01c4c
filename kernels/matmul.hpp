#pragma once

#include "kernels/instruction_set.hpp"
#include "kernels/matrix.hpp"

#include <cstddef>
#include <cstdint>

namespace bitnet::kernels {

/// Half-open range of work units, for example row blocks of a matrix.
struct work_range {
  std::size_t first = 0;
  std::size_t last = 0;
};

/// How int8 activations lie in memory. In both, 64 columns of a row (a step) are contiguous, and rows are
/// readable, not defined, up to the next multiple of 16.
/// - rows: one row after the other, an odd number of cache lines apart.
/// - tiles: tiles of 16 rows x 64 columns, 1 KiB each; first all tiles of 16 rows, column by column, then the
///   next 16 rows. What a matrix multiplier reads at once is contiguous.
enum class activation_layout : std::uint8_t { rows, tiles };

/// Rows of int8 activations X[rows, cols], a token each, with one scale a row: what a product reads. A view
/// of quantized_activations, or of some of its rows.
///
/// Rule (BitNet b1.58): s = 127 / max(absmax(x), 1e-5); q = clamp(round_half_even(x * s), -128, 127).
/// `row_scale` is max(absmax, 1e-5) / 127: multiply an integer dot product by it and by the weight scale.
class activation_rows {
 public:
  static constexpr std::size_t step_cols = 64;
  static constexpr std::size_t tile_rows = 16;
  static constexpr std::size_t tile_bytes = tile_rows * step_cols;

  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  /// cols rounded up to 64; the padding is zero.
  std::size_t padded_cols() const noexcept { return padded_cols_; }
  activation_layout layout() const noexcept { return layout_; }

  /// Columns [step_cols * step, step_cols * (step + 1)) of a row, in any layout.
  const std::int8_t* step(std::size_t r, std::size_t step) const noexcept {
    return data_ + step_offset(r, step);
  }
  std::int8_t at(std::size_t r, std::size_t col) const noexcept {
    return step(r, col / step_cols)[col % step_cols];
  }
  /// Bytes from a step of a row to its next one.
  std::size_t step_stride() const noexcept {
    return layout_ == activation_layout::rows ? step_cols : tile_bytes;
  }

  /// Of the layout `rows`: bytes from one row to the next, an odd multiple of 64, so that the same columns of
  /// several rows lie in different sets of the L1 cache; and the rows.
  std::size_t row_stride() const noexcept { return row_stride_; }
  const std::int8_t* row(std::size_t r) const noexcept { return data_ + r * row_stride_; }

  const float* row_scale() const noexcept { return scales_; }
  const std::int32_t* row_sum() const noexcept { return sums_; }

  /// The rows [part.first, part.last); `first` must be a multiple of 16.
  activation_rows part(work_range part) const noexcept {
    activation_rows view = *this;
    view.rows_ = part.last - part.first;
    view.data_ += step_offset(part.first, 0);
    view.scales_ += part.first;
    view.sums_ += part.first;
    return view;
  }

 protected:
  activation_rows() = default;

  std::size_t step_offset(std::size_t r, std::size_t step) const noexcept {
    if (layout_ == activation_layout::rows) return r * row_stride_ + step * step_cols;
    return r / tile_rows * tile_rows * padded_cols_ + step * tile_bytes + r % tile_rows * step_cols;
  }

  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t padded_cols_ = 0;
  std::size_t row_stride_ = 0;
  activation_layout layout_ = activation_layout::rows;
  std::int8_t* data_ = nullptr;
  float* scales_ = nullptr;
  std::int32_t* sums_ = nullptr;
};

/// The activations of a batch of tokens with their memory, in the layout that the kernels want.
class quantized_activations : public activation_rows {
 public:
  quantized_activations() = default;
  quantized_activations(const quantized_activations&) = delete;
  quantized_activations& operator=(const quantized_activations&) = delete;

  /// Grows the buffers if needed; the contents are undefined until each row was quantised. Not thread-safe.
  /// The layout is that of the table that will multiply: matmul_kernels::layout.
  void resize(std::size_t rows, std::size_t cols, activation_layout layout = activation_layout::rows);

  using activation_rows::at;
  using activation_rows::row;
  using activation_rows::row_scale;
  using activation_rows::row_sum;
  using activation_rows::step;
  std::int8_t* step(std::size_t r, std::size_t step) noexcept { return data_ + step_offset(r, step); }
  std::int8_t& at(std::size_t r, std::size_t col) noexcept {
    return step(r, col / step_cols)[col % step_cols];
  }
  std::int8_t* row(std::size_t r) noexcept { return data_ + r * row_stride_; }
  float* row_scale() noexcept { return scales_; }
  std::int32_t* row_sum() noexcept { return sums_; }

 private:
  std::size_t row_capacity_ = 0;
  weight_buffer storage_;
  std::unique_ptr<float[]> scale_storage_;
  std::unique_ptr<std::int32_t[]> sum_storage_;
};

/// The matrix products of one instruction set. Every function is single-threaded and works on the range it is
/// given, so that a team can share one product (kernels/team.hpp). None allocates, throws or blocks.
struct matmul_kernels {
  instruction_set isa;

  /// From this many rows on the products are fastest with activations in tiles; fewer must lie in rows.
  std::size_t tiled_rows = static_cast<std::size_t>(-1);

  /// The layout in which this table wants the activations of so many tokens; others than it, it need not
  /// know.
  activation_layout layout(std::size_t rows) const noexcept {
    return rows >= tiled_rows ? activation_layout::tiles : activation_layout::rows;
  }

  /// Quantises one token row of out.cols() floats into row `r` of `out`. Different rows may run concurrently.
  /// A row with a NaN or infinity becomes zeros with the scale NaN: all its products are NaN, so that a
  /// broken forward pass shows instead of being clamped away.
  void (*quantize_row)(const float* x, quantized_activations& out, std::size_t r);

  /// y[m * y_stride + r] = float(dot(x[m], w[r])) * (x.row_scale()[m] * w.scale()) for all rows m of x and
  /// the rows r of the 32-row blocks in `blocks`. w.cols() == x.cols(). Integer dot products are exact.
  /// Unpadded rows only. y needs no alignment. A call serves all rows of x: batches cost less than row by
  /// row.
  void (*ternary_matmul)(const ternary_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                         work_range blocks);

  /// The same added to y. Of activations in tiles only; null in a table that adds no faster than
  /// vector_kernels::add does.
  void (*add_ternary_matmul)(const ternary_matrix& w, const activation_rows& x, float* y,
                             std::size_t y_stride, work_range blocks) = nullptr;

  /// y = relu(gate x)^2 * (up x), as vector_kernels::squared_relu_gate computes it from both products. Of
  /// activations in tiles only; null where add_ternary_matmul is. Both matrices have the same shape.
  void (*gated_matmul)(const ternary_matrix& gate, const ternary_matrix& up, const activation_rows& x,
                       float* y, std::size_t y_stride, work_range blocks) = nullptr;

  /// Whether products with so many tokens can add to y and be gated.
  bool fuses(std::size_t rows) const noexcept { return gated_matmul != nullptr && rows >= tiled_rows; }

  /// Logits with an int8 head: the same as ternary_matmul with one scale a weight row.
  void (*head_int8)(const head_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                    work_range blocks);

  /// Logits with an f16 head and f32 activations x[m * x_stride + k]: 16 strided partial sums of fused
  /// multiply-adds over k, then the fixed tree of kernels/reduction.hpp.
  void (*head_f16)(const head_matrix& w, const float* x, std::size_t x_stride, std::size_t x_rows, float* y,
                   std::size_t y_stride, work_range blocks);
};

/// Starts to read what a product over few tokens reads first: the beginnings of the blocks that it walks side
/// by side from `first` on, `block_bytes` apart. For the time between two products, when memory would idle.
/// Addresses past the matrix do no harm.
void prefetch_blocks(const std::uint8_t* first, std::size_t block_bytes) noexcept;

/// Precondition: is_supported(isa).
const matmul_kernels& matmul_kernels_for(instruction_set isa) noexcept;

}  // namespace bitnet::kernels
