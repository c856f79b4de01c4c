#include "engine/dequantize.hpp"

#include <bit>
#include <cstring>

namespace bitnet::engine {

namespace {

template <class T>
T load(const std::byte* in) noexcept {
  T value;
  std::memcpy(&value, in, sizeof(value));
  return value;
}

/// IEEE 754 binary16 to f32 without branches, so that a loop over it becomes vector code on any machine, and
/// without subnormal floats, which cost a hundred cycles each. NaN payloads are kept, not quieted.
float half_to_float(std::uint16_t half) noexcept {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7FFFU) << 13;
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const std::uint32_t normal = magnitude + 0x38000000U;  // from half's bias to float's
  // As the fraction of 2^-14, which is subtracted again: exact.
  const auto subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude + 0x38800000U) - 0x1p-14F);
  const std::uint32_t special = magnitude | 0x7F800000U;  // infinity or NaN
  const std::uint32_t is_subnormal = 0U - static_cast<std::uint32_t>(magnitude < 0x00800000U);
  const std::uint32_t is_special = 0U - static_cast<std::uint32_t>(magnitude >= 0x0F800000U);
  return std::bit_cast<float>(sign | (subnormal & is_subnormal) | (special & is_special) |
                              (normal & ~(is_subnormal | is_special)));
}

float load_half(const std::byte* in) noexcept {
  return half_to_float(load<std::uint16_t>(in));
}

void dequantize_f16(const std::byte* in, std::size_t count, float* out) noexcept {
  for (std::size_t i = 0; i < count; ++i) out[i] = load_half(in + 2 * i);
}

void dequantize_bf16(const std::byte* in, std::size_t count, float* out) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    const auto top = static_cast<std::uint32_t>(load<std::uint16_t>(in + 2 * i));
    out[i] = std::bit_cast<float>(top << 16);
  }
}

/// A group: f16 scale, 32 int8.
void dequantize_q8_0(const std::byte* in, std::size_t count, float* out) noexcept {
  for (std::size_t i = 0; i < count; i += 32, in += 34) {
    const float scale = load_half(in);
    for (std::size_t j = 0; j < 32; ++j)
      out[i + j] = scale * static_cast<float>(load<std::int8_t>(in + 2 + j));
  }
}

/// A group of 256: f16 scale of scales, f16 scale of minima, 8 pairs of 6-bit (scale, minimum) in 12 bytes,
/// 128 bytes of 4-bit weights. Each 64 weights share 32 bytes: low nibbles first, then high ones.
void dequantize_q4_k(const std::byte* in, std::size_t count, float* out) noexcept {
  for (std::size_t i = 0; i < count; i += 256, in += 144) {
    const float scale = load_half(in);
    const float minimum_scale = load_half(in + 2);
    const auto* packed = reinterpret_cast<const std::uint8_t*>(in + 4);
    const auto* nibbles = reinterpret_cast<const std::uint8_t*>(in + 16);
    for (std::size_t j = 0; j < 8; ++j) {
      // Pairs 4 to 7 keep their top two bits in the top bits of bytes 0 to 7.
      const unsigned s = j < 4 ? packed[j] & 63U : (packed[j + 4] & 15U) | ((packed[j - 4] >> 6U) << 4U);
      const unsigned m = j < 4 ? packed[j + 4] & 63U : (packed[j + 4] >> 4U) | ((packed[j] >> 6U) << 4U);
      const float step = scale * static_cast<float>(s);
      const float minimum = minimum_scale * static_cast<float>(m);
      const std::uint8_t* source = nibbles + j / 2 * 32;
      const unsigned shift = j % 2 * 4;
      for (std::size_t l = 0; l < 32; ++l)
        out[i + 32 * j + l] = step * static_cast<float>((source[l] >> shift) & 15U) - minimum;
    }
  }
}

/// A group of 256: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 int8 scales (one for 16
/// weights), f16 scale of scales. Weights are 6-bit minus 32. In each half of 128, weight 32*k + l has its
/// low bits in byte l + 32*(k%2), nibble k/2, and its upper pair in byte l at bits 2k.
void dequantize_q6_k(const std::byte* in, std::size_t count, float* out) noexcept {
  for (std::size_t i = 0; i < count; i += 256, in += 210) {
    const float scale = load_half(in + 208);
    for (std::size_t half = 0; half < 2; ++half) {
      const auto* low = reinterpret_cast<const std::uint8_t*>(in) + 64 * half;
      const auto* high = reinterpret_cast<const std::uint8_t*>(in) + 128 + 32 * half;
      const auto* scales = reinterpret_cast<const std::int8_t*>(in) + 192 + 8 * half;
      for (std::size_t k = 0; k < 4; ++k) {
        for (std::size_t l = 0; l < 32; ++l) {
          const unsigned bits =
              ((low[l + 32 * (k % 2)] >> (4 * (k / 2))) & 15U) | (((high[l] >> (2 * k)) & 3U) << 4U);
          const float step = scale * static_cast<float>(scales[2 * k + l / 16]);
          out[i + 128 * half + 32 * k + l] = step * static_cast<float>(static_cast<int>(bits) - 32);
        }
      }
    }
  }
}

}  // namespace

void dequantize(tensor_type type, const std::byte* in, std::size_t count, float* out) noexcept {
  switch (type) {
    case tensor_type::f32:
      std::memcpy(out, in, count * sizeof(float));
      return;
    case tensor_type::f16:
      return dequantize_f16(in, count, out);
    case tensor_type::bf16:
      return dequantize_bf16(in, count, out);
    case tensor_type::q8_0:
      return dequantize_q8_0(in, count, out);
    case tensor_type::q4_k:
      return dequantize_q4_k(in, count, out);
    case tensor_type::q6_k:
      return dequantize_q6_k(in, count, out);
    case tensor_type::tq1_0:
    case tensor_type::tq2_0:
    case tensor_type::i2_s:
      return;
  }
}

bool is_dequantizable(tensor_type type) noexcept {
  return !is_ternary(type);
}

}  // namespace bitnet::engine
