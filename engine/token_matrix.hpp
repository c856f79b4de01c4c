#pragma once

#include <boost/align/aligned_allocator.hpp>

#include <cstddef>
#include <vector>

namespace bitnet::engine {

/// Row-major floats, one row a token.
class token_matrix {
 public:
  token_matrix() = default;
  token_matrix(std::size_t rows, std::size_t cols) : cols_(cols), values_(rows * cols) {}

  float* row(std::size_t r) noexcept { return values_.data() + r * cols_; }
  const float* row(std::size_t r) const noexcept { return values_.data() + r * cols_; }
  std::size_t cols() const noexcept { return cols_; }

 private:
  std::size_t cols_ = 0;
  std::vector<float, boost::alignment::aligned_allocator<float, 64>> values_;
};

}  // namespace bitnet::engine
