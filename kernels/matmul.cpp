#include "kernels/matmul.hpp"

#include "kernels/matmul_variants.hpp"

#include <algorithm>
#include <cstring>

namespace bitnet::kernels {

void quantized_activations::resize(std::size_t rows, std::size_t cols, activation_layout layout) {
  const std::size_t lines = (cols + step_cols - 1) / step_cols;
  const std::size_t row_stride = (lines | 1) * step_cols;
  const std::size_t bytes = (rows + tile_rows - 1) / tile_rows * tile_rows * row_stride;
  if (bytes > storage_.size()) storage_ = weight_buffer(bytes);
  if (rows > row_capacity_) {
    scale_storage_ = std::make_unique<float[]>(rows);
    sum_storage_ = std::make_unique<std::int32_t[]>(rows);
    row_capacity_ = rows;
  }
  data_ = reinterpret_cast<std::int8_t*>(storage_.data());
  scales_ = scale_storage_.get();
  sums_ = sum_storage_.get();
  rows_ = rows;
  cols_ = cols;
  padded_cols_ = lines * step_cols;
  row_stride_ = row_stride;
  layout_ = layout;
  // quantize_row writes the padding too; this serves rows written directly.
  for (std::size_t r = 0; r < rows && padded_cols_ != cols; ++r)
    std::memset(&at(r, cols), 0, padded_cols_ - cols);
}

void prefetch_blocks(const std::uint8_t* first, std::size_t block_bytes) noexcept {
  constexpr std::size_t streams = 4;
  constexpr std::size_t bytes = 2048;  // further ahead, the products prefetch themselves
  constexpr std::size_t line = 64;
  for (std::size_t at = 0; at < bytes; at += line)
    for (std::size_t s = 0; s < streams; ++s) __builtin_prefetch(first + s * block_bytes + at);
}

const matmul_kernels& matmul_kernels_for(instruction_set isa) noexcept {
  switch (isa) {
#if BITNET_X86_KERNELS
    case instruction_set::avx2:
      return avx2_matmul_kernels;
    case instruction_set::avx_vnni:
      return avx_vnni_matmul_kernels;
    case instruction_set::avx512_vnni:
      return avx512_vnni_matmul_kernels;
    case instruction_set::amx_int8:
      return amx_int8_matmul_kernels;
#else
    case instruction_set::avx2:
    case instruction_set::avx_vnni:
    case instruction_set::avx512_vnni:
    case instruction_set::amx_int8:
#endif
    case instruction_set::scalar:
      break;
  }
  return scalar_matmul_kernels;
}

}  // namespace bitnet::kernels
