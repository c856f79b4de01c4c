#pragma once

#include "kernels/exponential.hpp"
#include "kernels/vector.hpp"

#include <cstddef>
#include <cstdint>

// The float operators, written once over a 16-lane vector type V and instantiated by one translation unit an
// instruction set. V does every lane operation exactly as IEEE 754 says (add, mul, div, fused multiply-add),
// so all instantiations give the same bits by construction. V has internal linkage in each unit, hence so has
// everything here: the linker cannot merge code of different instruction sets. No std:: helpers for the same
// reason.
//
// V provides, lane by lane: load, store, load_pairs and store_pairs (the even and the odd of 2 * lanes
// floats), set1, add, sub, mul, div, fma(a, b, c) = a * b + c and fnma(a, b, c) = c - a * b with one
// rounding, max(a, b) = a > b ? a : b, select_less(a, b, then, otherwise) = a < b ? then : otherwise,
// select_nan(a, then, otherwise), keep_first(v, n, other), add_to_exponent(v, k) (adds the low bits of k's
// representation to v's exponent); over lanes: reduce_add and reduce_max (the tree of kernels/reduction.hpp),
// any_nan, any_equal; load_even and load_odd take every second of 2 * lanes bfloat16, round_to_bfloat16
// rounds to nearest even and store_bfloat16 stores that.

namespace bitnet::kernels {

template <class V>
typename V::f32 load_first(const float* p, std::size_t n, float fill) noexcept {
  float lane[V::lanes];
  for (std::size_t i = 0; i < V::lanes; ++i) lane[i] = i < n ? p[i] : fill;
  return V::load(lane);
}

template <class V>
void store_first(float* p, std::size_t n, typename V::f32 v) noexcept {
  float lane[V::lanes];
  V::store(lane, v);
  for (std::size_t i = 0; i < n; ++i) p[i] = lane[i];
}

/// out[i] = f(a[i], b[i]); the arrays may be the same.
template <class V, class F>
void map2(const float* a, const float* b, float* out, std::size_t n, F f) noexcept {
  std::size_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes) V::store(out + i, f(V::load(a + i), V::load(b + i)));
  if (i < n)
    store_first<V>(out + i, n - i, f(load_first<V>(a + i, n - i, 0.0F), load_first<V>(b + i, n - i, 0.0F)));
}

template <class V>
void exponentials(const float* x, float* out, std::size_t n) {
  using f32 = typename V::f32;
  map2<V>(x, x, out, n, [](f32 v, f32) { return exponential<V>(v); });
}

/// The sums of squares of R rows, whose chains run side by side.
template <class V, std::size_t R>
void sums_of_squares(const float* x, std::size_t stride, std::size_t n, float* sums) noexcept {
  typename V::f32 sum[R];
  for (std::size_t r = 0; r < R; ++r) sum[r] = V::set1(0.0F);
  std::size_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes)
    for (std::size_t r = 0; r < R; ++r) {
      const typename V::f32 v = V::load(x + r * stride + i);
      sum[r] = V::fma(v, v, sum[r]);
    }
  for (std::size_t r = 0; r < R; ++r) {
    if (i < n) {
      const typename V::f32 v = load_first<V>(x + r * stride + i, n - i, 0.0F);
      sum[r] = V::fma(v, v, sum[r]);
    }
    sums[r] = V::reduce_add(sum[r]);
  }
}

template <class V>
void rms_norm(const float* x, std::size_t x_stride, const float* weight, float eps, float* out,
              std::size_t out_stride, std::size_t rows, std::size_t n) {
  using f32 = typename V::f32;
  constexpr std::size_t together = 4;
  float sums[together];
  for (std::size_t r = 0; r < rows; ++r) {
    if (r % together == 0) {
      if (rows - r >= together)
        sums_of_squares<V, together>(x + r * x_stride, x_stride, n, sums);
      else
        for (std::size_t i = 0; i < rows - r; ++i)
          sums_of_squares<V, 1>(x + (r + i) * x_stride, x_stride, n, sums + i);
    }
    const float mean = sums[r % together] / static_cast<float>(n);
    const f32 inverse = V::set1(1.0F / __builtin_sqrtf(mean + eps));
    map2<V>(x + r * x_stride, weight, out + r * out_stride, n,
            [inverse](f32 v, f32 w) { return V::mul(V::mul(v, inverse), w); });
  }
}

template <class V>
void add(const float* x, float* inout, std::size_t n) {
  using f32 = typename V::f32;
  map2<V>(inout, x, inout, n, [](f32 a, f32 b) { return V::add(a, b); });
}

template <class V>
void squared_relu_gate(const float* gate, const float* up, float* out, std::size_t n) {
  using f32 = typename V::f32;
  map2<V>(gate, up, out, n, [](f32 g, f32 u) {
    const f32 positive = V::max(V::set1(0.0F), g);  // in this order NaN passes
    return V::mul(V::mul(positive, positive), u);
  });
}

template <class V>
void silu_gate(const float* gate, const float* up, float* out, std::size_t n) {
  using f32 = typename V::f32;
  map2<V>(gate, up, out, n, [](f32 g, f32 u) {
    const f32 e = exponential<V>(V::sub(V::set1(0.0F), g));
    return V::mul(V::div(g, V::add(V::set1(1.0F), e)), u);
  });
}

/// (a, b) -> (a cos - b sin, b cos + a sin), each with one fused multiply-add.
template <class V>
struct rotation {
  typename V::f32 a, b;
  rotation(typename V::f32 x, typename V::f32 y, typename V::f32 c, typename V::f32 s) noexcept
      : a(V::fnma(y, s, V::mul(x, c))), b(V::fma(x, s, V::mul(y, c))) {}
};

template <class V>
void rope_neox(float* x, std::size_t half, const float* cos, const float* sin) noexcept {
  std::size_t i = 0;
  for (; i + V::lanes <= half; i += V::lanes) {
    const rotation<V> r(V::load(x + i), V::load(x + half + i), V::load(cos + i), V::load(sin + i));
    V::store(x + i, r.a);
    V::store(x + half + i, r.b);
  }
  if (i < half) {
    const std::size_t n = half - i;
    const rotation<V> r(load_first<V>(x + i, n, 0.0F), load_first<V>(x + half + i, n, 0.0F),
                        load_first<V>(cos + i, n, 0.0F), load_first<V>(sin + i, n, 0.0F));
    store_first<V>(x + i, n, r.a);
    store_first<V>(x + half + i, n, r.b);
  }
}

template <class V>
void rope_interleaved(float* x, std::size_t half, const float* cos, const float* sin) noexcept {
  typename V::f32 even, odd;
  std::size_t i = 0;
  for (; i + V::lanes <= half; i += V::lanes) {
    V::load_pairs(x + 2 * i, even, odd);
    const rotation<V> r(even, odd, V::load(cos + i), V::load(sin + i));
    V::store_pairs(x + 2 * i, r.a, r.b);
  }
  if (i == half) return;
  const std::size_t n = half - i;
  float pairs[2 * V::lanes] = {};
  for (std::size_t j = 0; j < 2 * n; ++j) pairs[j] = x[2 * i + j];
  V::load_pairs(pairs, even, odd);
  const rotation<V> r(even, odd, load_first<V>(cos + i, n, 0.0F), load_first<V>(sin + i, n, 0.0F));
  V::store_pairs(pairs, r.a, r.b);
  for (std::size_t j = 0; j < 2 * n; ++j) x[2 * i + j] = pairs[j];
}

template <class V>
void rope(float* x, std::size_t heads, std::size_t head_dim, const float* cos, const float* sin,
          rope_kind kind) {
  for (std::size_t h = 0; h < heads; ++h) {
    if (kind == rope_kind::neox)
      rope_neox<V>(x + h * head_dim, head_dim / 2, cos, sin);
    else
      rope_interleaved<V>(x + h * head_dim, head_dim / 2, cos, sin);
  }
}

template <class V>
void softmax(float* x, std::size_t n, float temperature) {
  using f32 = typename V::f32;
  const float lowest = -__builtin_inff();
  f32 top = V::set1(lowest);
  std::size_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes) top = V::max(V::load(x + i), top);
  if (i < n) top = V::max(load_first<V>(x + i, n - i, lowest), top);
  const f32 greatest = V::set1(V::reduce_max(top));
  const f32 divisor = V::set1(temperature);

  f32 sum = V::set1(0.0F);
  for (i = 0; i + V::lanes <= n; i += V::lanes) {
    const f32 e = exponential<V>(V::div(V::sub(V::load(x + i), greatest), divisor));
    V::store(x + i, e);
    sum = V::add(sum, e);
  }
  if (i < n) {
    const f32 e = exponential<V>(V::div(V::sub(load_first<V>(x + i, n - i, lowest), greatest), divisor));
    store_first<V>(x + i, n - i, e);
    sum = V::add(sum, e);  // lanes past the end hold e^-inf = 0
  }
  const f32 total = V::set1(V::reduce_add(sum));
  map2<V>(x, x, x, n, [total](f32 e, f32) { return V::div(e, total); });
}

template <class V>
std::size_t argmax(const float* x, std::size_t n) {
  using f32 = typename V::f32;
  const float lowest = -__builtin_inff();
  f32 top = V::set1(lowest);
  f32 nan_seen = V::set1(0.0F);
  std::size_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes) {
    const f32 v = V::load(x + i);
    top = V::max(v, top);
    nan_seen = V::select_nan(v, v, nan_seen);
  }
  if (i < n) {
    const f32 v = load_first<V>(x + i, n - i, lowest);
    top = V::max(v, top);
    nan_seen = V::select_nan(v, v, nan_seen);
  }
  if (V::any_nan(nan_seen)) return n;
  const float greatest = V::reduce_max(top);
  i = 0;
  while (i + V::lanes <= n && !V::any_equal(V::load(x + i), V::set1(greatest))) i += V::lanes;
  while (i < n && x[i] != greatest) ++i;
  return i;
}

}  // namespace bitnet::kernels
