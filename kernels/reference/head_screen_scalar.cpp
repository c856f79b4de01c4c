#include "kernels/head_screen_variants.hpp"

#include <algorithm>

namespace bitnet::kernels {

namespace {

void scores(const head_screen& w, const activation_rows& x, const screen_scores& out, work_range blocks) {
  for (std::size_t block = blocks.first; block < blocks.last; ++block) {
    const std::uint8_t* const packed = w.block(block);
    const std::size_t first = block * head_screen::block_rows;
    const std::size_t rows = std::min(head_screen::block_rows, w.rows() - first);
    for (std::size_t m = 0; m < x.rows(); ++m) {
      const std::int8_t* const q = x.row(m);
      for (std::size_t r = 0; r < rows; ++r) {
        std::int32_t sum = 0;
        for (std::size_t k = 0; k < w.cols(); ++k)
          sum += (packed[k / 4 * 64 + r % 16 * 4 + k % 4] >> (r / 16 * 4) & 15) * q[k];
        out.scores[m * out.stride + first + r] = sum;
      }
    }
  }
  find_block_maxima(w, x.rows(), out, blocks);
}

void rescore(const head_screen& w, const float* scales, const activation_rows& x, std::size_t m,
             const std::uint32_t* rows, std::size_t count, float* logits) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t* const weights = w.int8_row(rows[i]);
    std::int32_t dot = 0;
    for (std::size_t k = 0; k < w.cols(); ++k)
      dot += (weights[k] - head_matrix::int8_weight_offset) * x.at(m, k);
    logits[i] = static_cast<float>(dot) * (x.row_scale()[m] * scales[rows[i]]);
  }
}

}  // namespace

const head_screen_kernels scalar_head_screen_kernels{.scores = scores, .rescore = rescore};

}  // namespace bitnet::kernels
