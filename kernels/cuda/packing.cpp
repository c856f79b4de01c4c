#include "kernels/cuda/packing.hpp"

#include <algorithm>

namespace bitnet::kernels::cuda {

namespace {

constexpr std::uint8_t four_zero_weights = 0x55;  // code 1 in every field

packed_matrix shape_of(std::size_t rows, std::size_t cols) {
  packed_matrix m;
  m.rows = rows;
  m.cols = cols;
  m.padded_rows = round_up(rows, row_padding);
  m.padded_cols = round_up(cols, col_padding);
  m.row_scales.assign(m.padded_rows, 0.0F);
  return m;
}

}  // namespace

packed_matrix pack_ternary(std::span<const ternary_matrix* const> matrices) {
  std::size_t rows = 0;
  for (const auto* matrix : matrices) rows += matrix->rows();
  auto out = shape_of(rows, matrices.front()->cols());
  out.tiles.assign(out.padded_rows * out.padded_cols / 4, four_zero_weights);
  std::vector<std::int8_t> weights(out.cols);
  std::size_t row = 0;
  for (const auto* matrix : matrices) {
    for (std::size_t r = 0; r < matrix->rows(); ++r, ++row) {
      matrix->unpack_row(r, weights.data());
      out.row_scales[row] = matrix->scale();
      for (std::size_t col = 0; col < out.cols; ++col) {
        if (weights[col] == 0) continue;
        const auto place = ternary_place_of(row, col, out.padded_cols);
        const auto keep = static_cast<std::uint8_t>(~(3U << place.shift));
        auto& byte = out.tiles[place.byte];
        byte =
            static_cast<std::uint8_t>((byte & keep) | static_cast<unsigned>(weights[col] + 1) << place.shift);
      }
    }
  }
  return out;
}

packed_matrix pack_head(const head_matrix& head) {
  auto out = shape_of(head.rows(), head.cols());
  out.tiles.assign(out.padded_rows * out.padded_cols, 0);
  for (std::size_t row = 0; row < out.rows; ++row) {
    const auto* const block = head.int8_block(row / head_matrix::block_rows());
    out.row_scales[row] = head.row_scales()[row];
    for (std::size_t col = 0; col < out.cols; ++col) {
      const auto stored = block[head_matrix::int8_offset_in_block(row % head_matrix::block_rows(), col)];
      out.tiles[int8_place_of(row, col, out.padded_cols)] =
          static_cast<std::uint8_t>(stored - head_matrix::int8_weight_offset);
    }
  }
  return out;
}

}  // namespace bitnet::kernels::cuda
