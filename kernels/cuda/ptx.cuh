#pragma once

#include "kernels/cuda/runtime.hpp"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

// What plain CUDA C++ does not say. tests/support/cuda_emulation has a twin of this file that computes the
// same on a CPU; keep both lists of functions equal.

namespace bitnet::kernels::cuda {

/// d += a * b for a 16x32 tile of a and 32x8 of b, int8 with int32 sums; fragments as PTX defines them for
/// mma.m16n8k32. All lanes of a warp call it together.
__device__ __forceinline__ void mma_int8(std::int32_t (&d)[4], const std::uint32_t (&a)[4],
                                         std::uint32_t b_low, std::uint32_t b_high) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
#else
  // Turing has m8n8k16: rows 0-7 and 8-15 apart, columns 0-15 and 16-31 one after the other.
  const auto quarter = [](std::int32_t& d0, std::int32_t& d1, std::uint32_t x, std::uint32_t y) {
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+r"(d0), "+r"(d1)
        : "r"(x), "r"(y));
  };
  quarter(d[0], d[1], a[0], b_low);
  quarter(d[0], d[1], a[2], b_high);
  quarter(d[2], d[3], a[1], b_low);
  quarter(d[2], d[3], a[3], b_high);
#endif
}

/// Starts to copy 16 bytes to shared memory; both aligned to 16.
__device__ __forceinline__ void copy_async(void* shared, const void* global) {
#if __CUDA_ARCH__ >= 800
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
#else
  *static_cast<uint4*>(shared) = *static_cast<const uint4*>(global);
#endif
}
/// Ends a group of this thread's copies.
__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Returns when at most `pending` of this thread's last groups are under way. Others' copies: synchronise.
template <int pending>
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

/// Weights are read once a pass: they should not push activations out of the caches.
__device__ __forceinline__ uint4 load_streaming(const uint4* p) {
  return __ldcs(p);
}

__device__ __forceinline__ float float_from_half_bits(std::uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}
__device__ __forceinline__ std::uint16_t half_bits_from_float(float value) {
  return __half_as_ushort(__float2half_rn(value));
}

/// Two bfloat16 side by side, the even place in the lower half.
__device__ __forceinline__ float even_bfloat16(std::uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float odd_bfloat16(std::uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000U);
}
/// Rounded to nearest even, NaNs quieted.
__device__ __forceinline__ std::uint16_t bfloat16_bits_from_float(float value) {
  const std::uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}

/// a * b + c with one rounding, and a + b; subnormals count as zero.
__device__ __forceinline__ float fma_flushed(float a, float b, float c) {
  float d;
  asm("fma.rn.ftz.f32 %0, %1, %2, %3;" : "=f"(d) : "f"(a), "f"(b), "f"(c));
  return d;
}
__device__ __forceinline__ float add_flushed(float a, float b) {
  float d;
  asm("add.rn.ftz.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
  return d;
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, void* stream, Arguments... arguments) {
  kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  if (const auto status = cudaGetLastError(); status != cudaSuccess)
    throw device_error(classify(status), std::string("launching a kernel: ") + cudaGetErrorString(status));
}

}  // namespace bitnet::kernels::cuda
