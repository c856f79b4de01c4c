#include "kernels/attention.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/reduction.hpp"
#include "kernels/vector_operators.hpp"
#include "kernels/vector_variants.hpp"

#include <bit>
#include <cmath>

namespace bitnet::kernels {
namespace {

/// 16 floats one by one: the reference that runs on every CPU. std::fma is exact everywhere (libm picks the
/// instruction where the CPU has it).
struct scalar_vector {
  static constexpr std::size_t lanes = reduction_lanes;
  // Small, for the compiler's sake; two rows, so that the reference has a causal edge inside a tile as well.
  static constexpr std::size_t tile_rows = 2;
  static constexpr std::size_t tile_accumulators = 1;

  struct f32 {
    float lane[lanes];
  };

  template <class F>
  static f32 each(F f) noexcept {
    f32 out;
    // Rolled up: unrolled everywhere, the templates below would take minutes to compile with sanitizers.
#pragma GCC unroll 1
    for (std::size_t i = 0; i < lanes; ++i) out.lane[i] = f(i);
    return out;
  }

  static f32 load(const float* p) noexcept {
    return each([p](std::size_t i) { return p[i]; });
  }
  static void store(float* p, const f32& v) noexcept {
    for (std::size_t i = 0; i < lanes; ++i) p[i] = v.lane[i];
  }
  static void load_pairs(const float* p, f32& even, f32& odd) noexcept {
    even = each([p](std::size_t i) { return p[2 * i]; });
    odd = each([p](std::size_t i) { return p[2 * i + 1]; });
  }
  static void store_pairs(float* p, const f32& even, const f32& odd) noexcept {
    for (std::size_t i = 0; i < lanes; ++i) {
      p[2 * i] = even.lane[i];
      p[2 * i + 1] = odd.lane[i];
    }
  }
  static f32 set1(float x) noexcept {
    return each([x](std::size_t) { return x; });
  }
  static f32 add(const f32& a, const f32& b) noexcept {
    return each([&](std::size_t i) { return a.lane[i] + b.lane[i]; });
  }
  static f32 sub(const f32& a, const f32& b) noexcept {
    return each([&](std::size_t i) { return a.lane[i] - b.lane[i]; });
  }
  static f32 mul(const f32& a, const f32& b) noexcept {
    return each([&](std::size_t i) { return a.lane[i] * b.lane[i]; });
  }
  static f32 div(const f32& a, const f32& b) noexcept {
    return each([&](std::size_t i) { return a.lane[i] / b.lane[i]; });
  }
  static f32 fma(const f32& a, const f32& b, const f32& c) noexcept {
    return each([&](std::size_t i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
  }
  static f32 fnma(const f32& a, const f32& b, const f32& c) noexcept {
    return each([&](std::size_t i) { return std::fma(-a.lane[i], b.lane[i], c.lane[i]); });
  }
  static f32 max(const f32& a, const f32& b) noexcept {
    return each([&](std::size_t i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static f32 select_less(const f32& a, const f32& b, const f32& then, const f32& otherwise) noexcept {
    return each([&](std::size_t i) { return a.lane[i] < b.lane[i] ? then.lane[i] : otherwise.lane[i]; });
  }
  static f32 select_nan(const f32& a, const f32& then, const f32& otherwise) noexcept {
    return each([&](std::size_t i) { return std::isnan(a.lane[i]) ? then.lane[i] : otherwise.lane[i]; });
  }
  static f32 keep_first(const f32& v, std::size_t n, const f32& other) noexcept {
    return each([&](std::size_t i) { return i < n ? v.lane[i] : other.lane[i]; });
  }
  static f32 add_to_exponent(const f32& v, const f32& k) noexcept {
    return each([&](std::size_t i) {
      const auto bits = std::bit_cast<std::uint32_t>(v.lane[i]);
      return std::bit_cast<float>(bits + (std::bit_cast<std::uint32_t>(k.lane[i]) << 23));
    });
  }
  static float reduce_add(const f32& v) noexcept {
    return reduce_lanes(v.lane);
  }
  static float reduce_max(const f32& v) noexcept {
    float m[lanes];
    for (std::size_t i = 0; i < lanes; ++i) m[i] = v.lane[i];
    for (std::size_t width = lanes / 2; width > 0; width /= 2)
      for (std::size_t i = 0; i < width; ++i) m[i] = m[i] > m[i + width] ? m[i] : m[i + width];
    return m[0];
  }
  static bool any_nan(const f32& v) noexcept {
    bool any = false;
    for (const float x : v.lane) any = any || std::isnan(x);
    return any;
  }
  static bool any_equal(const f32& a, const f32& b) noexcept {
    bool any = false;
    for (std::size_t i = 0; i < lanes; ++i) any = any || a.lane[i] == b.lane[i];
    return any;
  }
  static f32 load_even(const std::uint16_t* p) noexcept {
    return each([p](std::size_t i) { return float_from_bfloat16(p[2 * i]); });
  }
  static f32 load_odd(const std::uint16_t* p) noexcept {
    return each([p](std::size_t i) { return float_from_bfloat16(p[2 * i + 1]); });
  }
  static f32 round_to_bfloat16(const f32& v) noexcept {
    return each([&](std::size_t i) { return float_from_bfloat16(bfloat16_from_float(v.lane[i])); });
  }
  static void store_bfloat16(std::uint16_t* p, const f32& v) noexcept {
    for (std::size_t i = 0; i < lanes; ++i) p[i] = bfloat16_from_float(v.lane[i]);
  }
};

}  // namespace

constinit const vector_kernels scalar_vector_kernels =
    make_vector_kernels<scalar_vector>(instruction_set::scalar);

}  // namespace bitnet::kernels
