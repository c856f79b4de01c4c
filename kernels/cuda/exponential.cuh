#pragma once

#include "kernels/exponential.hpp"

#include <cuda_runtime.h>

namespace bitnet::kernels::cuda {

/// One lane of the vector type that kernels/exponential.hpp is written over.
struct one_lane {
  using f32 = float;
  static __device__ float set1(float x) { return x; }
  static __device__ float sub(float a, float b) { return a - b; }
  static __device__ float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
  static __device__ float add_to_exponent(float v, float k) {
    return __uint_as_float(__float_as_uint(v) + (__float_as_uint(k) << 23));
  }
  static __device__ float select_less(float a, float b, float then, float otherwise) {
    return a < b ? then : otherwise;
  }
  static __device__ float select_nan(float a, float then, float otherwise) {
    return a != a ? then : otherwise;
  }
};

__device__ inline float exponential_of(float x) {
  return exponential<one_lane>(x);
}

}  // namespace bitnet::kernels::cuda
