#pragma once

#include "kernels/cuda/layout.hpp"
#include "kernels/matrix.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bitnet::kernels::cuda {

/// A weight matrix as the device reads it (layout.hpp), still on the host.
struct packed_matrix {
  std::size_t rows = 0;  ///< without padding
  std::size_t cols = 0;
  std::size_t padded_rows = 0;
  std::size_t padded_cols = 0;
  std::vector<std::uint8_t> tiles;
  std::vector<float> row_scales;  ///< [padded_rows]; padding 0
};

/// Several ternary matrices of the same width as one, rows after rows: products that read the same
/// activations become one launch. Precondition: not empty, equal cols().
packed_matrix pack_ternary(std::span<const ternary_matrix* const> matrices);

/// The int8 head, its stored weight + 128 turned into signed weights. Precondition: format::int8.
packed_matrix pack_head(const head_matrix& head);

}  // namespace bitnet::kernels::cuda
