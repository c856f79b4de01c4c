#pragma once

// One exponential for every instruction set and for the device; V as in kernels/vector_operators.hpp, of
// which it needs set1, add_to_exponent, fma, sub, select_less and select_nan.

#ifdef __CUDACC__
#define BITNET_ON_DEVICE __device__
#else
#define BITNET_ON_DEVICE
#endif

namespace bitnet::kernels {

/// 2^k (e^r), without looking at what leaves the range of floats: what `exponential` is made of.
template <class V>
BITNET_ON_DEVICE [[gnu::always_inline]] inline typename V::f32 exponential_in_range(
    typename V::f32 x) noexcept {
  using f32 = typename V::f32;
  constexpr float round_to_integer = 0x1.8p23F;  // adding it leaves the integer in the low bits
  const f32 shifted = V::fma(x, V::set1(0x1.715476p+0F), V::set1(round_to_integer));
  const f32 k = V::sub(shifted, V::set1(round_to_integer));
  f32 r = V::fma(k, V::set1(-0x1.62e4p-1F), x);
  r = V::fma(k, V::set1(-0x1.7f7d1cp-20F), r);
  f32 p = V::set1(0x1.6d1b1ep-10F);
  p = V::fma(p, r, V::set1(0x1.121586p-7F));
  p = V::fma(p, r, V::set1(0x1.555514p-5F));
  p = V::fma(p, r, V::set1(0x1.5554d4p-3F));
  p = V::fma(p, r, V::set1(0x1p-1F));
  p = V::fma(p, r, V::set1(1.0F));
  p = V::fma(p, r, V::set1(1.0F));
  return V::add_to_exponent(p, shifted);
}

inline constexpr float smallest_normal_log = -0x1.5d589ep+6F;  // -87.336540: e^x >= 2^-126 from here on

/// e^x within 1 ulp of the exact value for x >= ln(2^-126); 0 below that (no subnormal results), +inf above
/// ln(2^128), NaN for NaN. Cody-Waite reduction x = k ln 2 + r, |r| <= ln(2)/2, and a degree 6 polynomial for
/// e^r (interpolation of (e^r - 1 - r)/r^2 in Chebyshev nodes, relative error 8e-9), Horner with FMA.
template <class V>
BITNET_ON_DEVICE [[gnu::always_inline]] inline typename V::f32 exponential(typename V::f32 x) noexcept {
  constexpr float largest_log = 0x1.62e42ep+6F;  // 88.722832: e^x is finite up to here
  typename V::f32 result = exponential_in_range<V>(x);
  result = V::select_less(x, V::set1(smallest_normal_log), V::set1(0.0F), result);
  result = V::select_less(V::set1(largest_log), x, V::set1(__builtin_inff()), result);
  return V::select_nan(x, x, result);
}

/// The same for x <= 0, and a NaN for a NaN whose low nine bits are zero (one that arithmetic on bfloat16
/// numbers gives).
template <class V>
BITNET_ON_DEVICE [[gnu::always_inline]] inline typename V::f32 exponential_of_negative(
    typename V::f32 x) noexcept {
  return V::select_less(x, V::set1(smallest_normal_log), V::set1(0.0F), exponential_in_range<V>(x));
}

}  // namespace bitnet::kernels
