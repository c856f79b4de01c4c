#include "tests/support/tensor_encoders.hpp"

#include "kernels/half.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <vector>

namespace bitnet::tests {

namespace {

using engine::tensor_type;

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

unsigned code(std::int8_t weight) {
  return static_cast<unsigned>(weight + 1);
}

std::string encode_i2_s(std::span<const std::int8_t> weights) {
  std::string out;
  out.reserve(weights.size() / 4);
  for (std::size_t start = 0; start < weights.size(); start += 128) {
    const auto* w = weights.data() + start;
    for (std::size_t j = 0; j < 32; ++j) {
      const unsigned byte =
          code(w[j]) << 6U | code(w[j + 32]) << 4U | code(w[j + 64]) << 2U | code(w[j + 96]);
      out += static_cast<char>(byte);
    }
  }
  return out;
}

std::string encode_tq2_0(std::span<const std::int8_t> weights, float scale) {
  std::string out;
  for (std::size_t start = 0; start < weights.size(); start += 256) {
    for (std::size_t half = 0; half < 256; half += 128) {
      const auto* w = weights.data() + start + half;
      for (std::size_t m = 0; m < 32; ++m) {
        const unsigned byte =
            code(w[m]) | code(w[m + 32]) << 2U | code(w[m + 64]) << 4U | code(w[m + 96]) << 6U;
        out += static_cast<char>(byte);
      }
    }
    append(out, kernels::half_from_float(scale));
  }
  return out;
}

/// Bytes of `count` weights each, the first `stride` weights being the most significant digits.
void append_base3(std::string& out, const std::int8_t* w, std::size_t stride, std::size_t count) {
  for (std::size_t m = 0; m < stride; ++m) {
    unsigned value = 0;
    for (std::size_t k = 0; k < 5; ++k) value = value * 3 + (k < count ? code(w[k * stride + m]) : 0);
    out += static_cast<char>((value * 256 + 242) / 243);
  }
}

std::string encode_tq1_0(std::span<const std::int8_t> weights, float scale) {
  std::string out;
  for (std::size_t start = 0; start < weights.size(); start += 256) {
    const auto* w = weights.data() + start;
    append_base3(out, w, 32, 5);
    append_base3(out, w + 160, 16, 5);
    append_base3(out, w + 240, 4, 4);
    append(out, kernels::half_from_float(scale));
  }
  return out;
}

std::uint16_t bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

float through_half(float value) {
  return kernels::float_from_half(kernels::half_from_float(value));
}

std::string encode_q8_0(std::span<const float> values) {
  std::string out;
  for (std::size_t start = 0; start < values.size(); start += 32) {
    const auto group = values.subspan(start, 32);
    float most = 0.0F;
    for (const float v : group) most = std::max(most, std::fabs(v));
    const float scale = through_half(most / 127.0F);
    append(out, kernels::half_from_float(scale));
    for (const float v : group) {
      const float q = scale == 0.0F ? 0.0F : std::nearbyint(v / scale);
      out += static_cast<char>(static_cast<std::int8_t>(std::clamp(q, -127.0F, 127.0F)));
    }
  }
  return out;
}

std::string encode_q6_k(std::span<const float> values) {
  std::string out;
  for (std::size_t start = 0; start < values.size(); start += 256) {
    const auto group = values.subspan(start, 256);
    float step[16];
    float largest = 0.0F;
    for (std::size_t s = 0; s < 16; ++s) {
      float most = 0.0F;
      for (std::size_t i = 0; i < 16; ++i) most = std::max(most, std::fabs(group[16 * s + i]));
      step[s] = most / 31.0F;
      largest = std::max(largest, step[s]);
    }
    const float scale = through_half(largest / 127.0F);
    std::int8_t scales[16];
    unsigned q[256];
    for (std::size_t i = 0; i < 256; ++i) {
      const float rounded = scale == 0.0F ? 0.0F : std::ceil(step[i / 16] / scale);
      scales[i / 16] = static_cast<std::int8_t>(std::min(rounded, 127.0F));
      const float unit = scale * static_cast<float>(scales[i / 16]);
      const float level = unit == 0.0F ? 0.0F : std::clamp(std::nearbyint(group[i] / unit), -32.0F, 31.0F);
      q[i] = static_cast<unsigned>(static_cast<int>(level) + 32);
    }
    // Each half of 128 is four runs of 32: A B C D. Low bits: A with C above it, then B with D.
    for (std::size_t half = 0; half < 256; half += 128) {
      for (std::size_t l = 0; l < 64; ++l)
        out += static_cast<char>((q[half + l] & 15U) | (q[half + 64 + l] & 15U) << 4U);
    }
    for (std::size_t half = 0; half < 256; half += 128) {
      for (std::size_t l = 0; l < 32; ++l) {
        out += static_cast<char>(q[half + l] >> 4U | q[half + 32 + l] >> 4U << 2U |
                                 q[half + 64 + l] >> 4U << 4U | q[half + 96 + l] >> 4U << 6U);
      }
    }
    for (const std::int8_t s : scales) out += static_cast<char>(s);
    append(out, kernels::half_from_float(scale));
  }
  return out;
}

std::string encode_q4_k(std::span<const float> values) {
  std::string out;
  for (std::size_t start = 0; start < values.size(); start += 256) {
    const auto group = values.subspan(start, 256);
    float step[8];
    float depth[8];  // how far below zero a run of 32 reaches
    for (std::size_t s = 0; s < 8; ++s) {
      const auto run = group.subspan(32 * s, 32);
      depth[s] = std::max(0.0F, -*std::min_element(run.begin(), run.end()));
      step[s] = (depth[s] + std::max(0.0F, *std::max_element(run.begin(), run.end()))) / 15.0F;
    }
    const float scale = through_half(*std::max_element(step, step + 8) / 63.0F);
    const float depth_scale = through_half(*std::max_element(depth, depth + 8) / 63.0F);
    unsigned s6[8];
    unsigned m6[8];
    unsigned q[256];
    for (std::size_t s = 0; s < 8; ++s) {
      s6[s] = scale == 0.0F ? 0 : std::min(63U, static_cast<unsigned>(std::ceil(step[s] / scale)));
      m6[s] = depth_scale == 0.0F
                  ? 0
                  : std::min(63U, static_cast<unsigned>(std::nearbyint(depth[s] / depth_scale)));
      for (std::size_t i = 32 * s; i < 32 * s + 32; ++i) {
        const float unit = scale * static_cast<float>(s6[s]);
        const float level = unit == 0.0F ? 0.0F : (group[i] + depth_scale * static_cast<float>(m6[s])) / unit;
        q[i] = static_cast<unsigned>(std::clamp(std::nearbyint(level), 0.0F, 15.0F));
      }
    }
    append(out, kernels::half_from_float(scale));
    append(out, kernels::half_from_float(depth_scale));
    // Twelve bytes: runs 0-3 whole in the low six bits of bytes 0-3 and 4-7, runs 4-7 split.
    for (std::size_t s = 0; s < 4; ++s) out += static_cast<char>(s6[s] | s6[s + 4] >> 4U << 6U);
    for (std::size_t s = 0; s < 4; ++s) out += static_cast<char>(m6[s] | m6[s + 4] >> 4U << 6U);
    for (std::size_t s = 4; s < 8; ++s) out += static_cast<char>((s6[s] & 15U) | (m6[s] & 15U) << 4U);
    for (std::size_t pair = 0; pair < 256; pair += 64) {
      for (std::size_t l = 0; l < 32; ++l) out += static_cast<char>(q[pair + l] | q[pair + 32 + l] << 4U);
    }
  }
  return out;
}

}  // namespace

std::string encode_ternary(tensor_type type, std::span<const std::int8_t> weights, float scale) {
  switch (type) {
    case tensor_type::i2_s:
      return encode_i2_s(weights);
    case tensor_type::tq1_0:
      return encode_tq1_0(weights, scale);
    case tensor_type::tq2_0:
      return encode_tq2_0(weights, scale);
    default:
      break;
  }
  std::vector<float> values(weights.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * static_cast<float>(weights[i]);
  return encode_values(type, values);
}

std::string i2_s_trailer(float scale) {
  std::string out;
  for (int i = 0; i < 8; ++i) append(out, scale);
  return out;
}

std::string encode_values(tensor_type type, std::span<const float> values) {
  std::string out;
  switch (type) {
    case tensor_type::f32:
      return std::string(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    case tensor_type::f16:
      out.reserve(2 * values.size());
      for (const float v : values) append(out, kernels::half_from_float(v));
      return out;
    case tensor_type::bf16:
      for (const float v : values) append(out, bfloat16(v));
      return out;
    case tensor_type::q8_0:
      return encode_q8_0(values);
    case tensor_type::q4_k:
      return encode_q4_k(values);
    case tensor_type::q6_k:
      return encode_q6_k(values);
    case tensor_type::tq1_0:
    case tensor_type::tq2_0:
    case tensor_type::i2_s:
      break;
  }
  throw std::invalid_argument("a ternary type does not hold real values");
}

}  // namespace bitnet::tests
