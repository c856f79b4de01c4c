#pragma once

// Twin of kernels/cuda/ptx.cuh for the emulation: the same functions, computed on a CPU.

#include "kernels/bfloat16.hpp"
#include "kernels/cuda/runtime.hpp"
#include "kernels/half.hpp"

#include <cuda_runtime.h>

#include <cmath>

namespace bitnet::kernels::cuda {

/// Fragments as the PTX ISA has them for mma.m16n8k32 with .s8: lane 4 g + c holds of a the rows g and g + 8
/// (registers 0, 2 and 1, 3), columns 4 c to 4 c + 3 (0, 1) and 16 more (2, 3); of b the column g, rows
/// alike; of d the rows g and g + 8, columns 2 c and 2 c + 1.
inline void mma_int8(std::int32_t (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b_low,
                     std::uint32_t b_high) {
  const std::uint32_t own[6] = {a[0], a[1], a[2], a[3], b_low, b_high};
  std::uint32_t all[32 * 6];
  cuda_emulation::gather(own, 6, all);
  const auto byte = [](std::uint32_t word, unsigned i) {
    return static_cast<std::int32_t>(static_cast<std::int8_t>(word >> 8 * i));
  };
  const auto a_at = [&](unsigned row, unsigned k) {
    const unsigned from = row % 8 * 4 + k % 16 / 4;
    return byte(all[from * 6 + row / 8 + k / 16 * 2], k % 4);
  };
  const auto b_at = [&](unsigned k, unsigned col) {
    return byte(all[(col * 4 + k % 16 / 4) * 6 + 4 + k / 16], k % 4);
  };
  const unsigned lane = cuda_emulation::lane();
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + i / 2 * 8;
    const unsigned col = lane % 4 * 2 + i % 2;
    for (unsigned k = 0; k < 32; ++k) d[i] += a_at(row, k) * b_at(k, col);
  }
}

inline void copy_async(void* shared, const void* global) {
  cuda_emulation::copy_later(shared, global, 16);
}
inline void commit_copies() {
  cuda_emulation::commit_copies();
}
template <int pending>
void wait_for_copies() {
  cuda_emulation::finish_copies(pending);
}
inline uint4 load_streaming(const uint4* p) {
  return *p;
}
inline float float_from_half_bits(std::uint16_t bits) {
  return float_from_half(bits);
}
inline std::uint16_t half_bits_from_float(float value) {
  return half_from_float(value);
}

inline float even_bfloat16(std::uint32_t pair) {
  return float_from_bfloat16(static_cast<std::uint16_t>(pair));
}
inline float odd_bfloat16(std::uint32_t pair) {
  return float_from_bfloat16(static_cast<std::uint16_t>(pair >> 16));
}
inline std::uint16_t bfloat16_bits_from_float(float value) {
  return bfloat16_from_float(value);
}
inline float flushed(float x) {
  return std::fabs(x) < 0x1p-126F ? std::copysign(0.0F, x) : x;
}
inline float fma_flushed(float a, float b, float c) {
  return flushed(std::fma(flushed(a), flushed(b), flushed(c)));
}
inline float add_flushed(float a, float b) {
  return flushed(flushed(a) + flushed(b));
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, void*, Arguments... arguments) {
  cuda_emulation::run_kernel(grid, block, [=] { kernel(arguments...); });
  if (const auto status = cudaGetLastError(); status != cudaSuccess)
    throw device_error(classify(status), std::string("launching a kernel: ") + cudaGetErrorString(status));
}

}  // namespace bitnet::kernels::cuda
