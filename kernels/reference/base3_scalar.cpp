#include "kernels/base3_variants.hpp"

#include <algorithm>

namespace bitnet::kernels {

namespace {

/// The code of row group g.
int code_of(std::uint8_t byte, std::size_t g) noexcept {
  const int high = byte < 216 ? byte / 8 : byte - 216;
  const int low = byte < 216 ? byte % 8 : 8;
  switch (g) {
    case 0:
      return high % 3;
    case 1:
      return high / 3 % 3;
    case 2:
      return high / 9;
    case 3:
      return low % 3;
    default:
      return low / 3;
  }
}

}  // namespace

void base3_matmul_scalar(const base3_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                         work_range blocks) {
  const std::size_t last = std::min(blocks.last * base3_matrix::block_rows, w.rows());
  for (std::size_t r = blocks.first * base3_matrix::block_rows; r < last; ++r) {
    const std::uint8_t* const packed = w.block(r / base3_matrix::block_rows);
    const std::size_t in_block = r % base3_matrix::block_rows;
    for (std::size_t m = 0; m < x.rows(); ++m) {
      const std::int8_t* const q = x.row(m);
      std::int32_t dot = 0;
      for (std::size_t k = 0; k < w.cols(); ++k)
        dot += (code_of(packed[k / 4 * 64 + in_block % 16 * 4 + k % 4], in_block / 16) - 1) * q[k];
      y[m * y_stride + r] = static_cast<float>(dot) * (x.row_scale()[m] * w.scale());
    }
  }
}

}  // namespace bitnet::kernels
