#include "kernels/half.hpp"
#include "kernels/matmul_variants.hpp"
#include "kernels/reduction.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

// The oracle: every other instruction set must give these bits. Written to be read, not to be fast.

namespace bitnet::kernels {

namespace {

void quantize_row(const float* x, quantized_activations& out, std::size_t r) {
  const std::size_t cols = out.cols();
  std::int8_t* const q = out.row(r);
  float absmax = 0.0F;
  bool finite = true;
  for (std::size_t k = 0; k < cols; ++k) {
    finite = finite && std::isfinite(x[k]);
    absmax = std::max(absmax, std::fabs(x[k]));
  }
  if (!finite) {
    std::memset(q, 0, out.padded_cols());
    out.row_scale()[r] = std::numeric_limits<float>::quiet_NaN();
    out.row_sum()[r] = 0;
    return;
  }
  const float range = std::max(absmax, 1e-5F);
  const float scale = 127.0F / range;
  std::int32_t sum = 0;
  for (std::size_t k = 0; k < cols; ++k) {
    const float rounded = std::clamp(std::nearbyint(x[k] * scale), -128.0F, 127.0F);
    q[k] = static_cast<std::int8_t>(rounded);
    sum += q[k];
  }
  std::memset(q + cols, 0, out.padded_cols() - cols);
  out.row_scale()[r] = range / 127.0F;
  out.row_sum()[r] = sum;
}

/// Dot products of the 32 rows of a block with one row of activations, from codes (weight + 1).
void ternary_block(const std::uint8_t* packed, const std::int8_t* q, std::size_t padded_cols,
                   std::int32_t (&dots)[ternary_matrix::block_rows]) {
  for (std::size_t col = 0; col < padded_cols; col += 8, packed += 64) {
    for (std::size_t byte = 0; byte < 64; ++byte) {
      const std::size_t row = byte / 4;
      const std::size_t k = col + byte % 4;
      const int fields = packed[byte];
      dots[row] += (fields & 3) * q[k] + (fields >> 4 & 3) * q[k + 4];
      dots[row + 16] += (fields >> 2 & 3) * q[k] + (fields >> 6 & 3) * q[k + 4];
    }
  }
}

void ternary_matmul(const ternary_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                    work_range blocks) {
  for (std::size_t block = blocks.first; block < blocks.last; ++block) {
    const std::size_t first = block * ternary_matrix::block_rows;
    const std::size_t rows = std::min(ternary_matrix::block_rows, w.rows() - first);
    for (std::size_t m = 0; m < x.rows(); ++m) {
      std::int32_t dots[ternary_matrix::block_rows] = {};
      ternary_block(w.block(block), x.row(m), w.padded_cols(), dots);
      const float scale = x.row_scale()[m] * w.scale();
      for (std::size_t r = 0; r < rows; ++r)
        y[m * y_stride + first + r] = static_cast<float>(dots[r] - x.row_sum()[m]) * scale;
    }
  }
}

void head_int8(const head_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
               work_range blocks) {
  for (std::size_t block = blocks.first; block < blocks.last; ++block) {
    const std::uint8_t* const packed = w.int8_block(block);
    const std::size_t first = block * head_matrix::block_rows();
    const std::size_t rows = std::min(head_matrix::block_rows(), w.rows() - first);
    for (std::size_t m = 0; m < x.rows(); ++m) {
      const std::int8_t* const q = x.row(m);
      for (std::size_t r = 0; r < rows; ++r) {
        std::int32_t dot = 0;
        for (std::size_t k = 0; k < w.cols(); ++k)
          dot += (packed[head_matrix::int8_offset_in_block(r, k)] - head_matrix::int8_weight_offset) * q[k];
        y[m * y_stride + first + r] =
            static_cast<float>(dot) * (x.row_scale()[m] * w.row_scales()[first + r]);
      }
    }
  }
}

void head_f16(const head_matrix& w, const float* x, std::size_t x_stride, std::size_t x_rows, float* y,
              std::size_t y_stride, work_range blocks) {
  const std::size_t first = blocks.first * head_matrix::block_rows();
  const std::size_t last = std::min(blocks.last * head_matrix::block_rows(), w.rows());
  for (std::size_t r = first; r < last; ++r) {
    const std::uint16_t* const row = w.f16_row(r);
    for (std::size_t m = 0; m < x_rows; ++m) {
      float lanes[reduction_lanes] = {};
      for (std::size_t k = 0; k < w.cols(); ++k) {
        float& lane = lanes[k % reduction_lanes];
        lane = std::fma(float_from_half(row[k]), x[m * x_stride + k], lane);
      }
      y[m * y_stride + r] = reduce_lanes(lanes);
    }
  }
}

}  // namespace

const matmul_kernels scalar_matmul_kernels{.isa = instruction_set::scalar,
                                           .quantize_row = quantize_row,
                                           .ternary_matmul = ternary_matmul,
                                           .head_int8 = head_int8,
                                           .head_f16 = head_f16};

}  // namespace bitnet::kernels
