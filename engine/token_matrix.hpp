#pragma once

#include "kernels/weight_buffer.hpp"

#include <cstddef>

namespace bitnet::engine {

/// Row-major floats, one row a token, zero at first. In huge pages where there are any: products write their
/// results column by column, a page or more apart.
class token_matrix {
 public:
  token_matrix() = default;
  /// Throws std::bad_alloc.
  token_matrix(std::size_t rows, std::size_t cols) : cols_(cols), storage_(rows * cols * sizeof(float)) {}

  float* row(std::size_t r) noexcept { return reinterpret_cast<float*>(storage_.data()) + r * cols_; }
  const float* row(std::size_t r) const noexcept {
    return reinterpret_cast<const float*>(storage_.data()) + r * cols_;
  }
  std::size_t cols() const noexcept { return cols_; }

 private:
  std::size_t cols_ = 0;
  kernels::weight_buffer storage_;
};

}  // namespace bitnet::engine
