#include "tests/unit/engine/reference_forward.hpp"

#include "kernels/bfloat16.hpp"

#include <algorithm>
#include <cmath>

namespace bitnet::tests {

namespace {

using engine::model_config;
using vector = std::vector<double>;

vector rms_norm(const vector& x, const std::vector<float>& weight, double epsilon) {
  double squares = 0;
  for (const auto v : x) squares += v * v;
  const auto inverse = 1 / std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
  vector out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = x[i] * inverse * static_cast<double>(weight[i]);
  return out;
}

/// W1.58A8: the input rounded to 8 bits with one scale, times ternary weights with one scale.
vector linear(const kernels::ternary_matrix& w, const vector& x) {
  double largest = 1e-5;
  for (const auto v : x) largest = std::max(largest, std::abs(v));
  vector q(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    q[i] = std::clamp(std::nearbyint(x[i] * 127 / largest), -128.0, 127.0);
  vector out(w.rows());
  std::vector<std::int8_t> row(w.cols());
  for (std::size_t r = 0; r < w.rows(); ++r) {
    w.unpack_row(r, row.data());
    double dot = 0;
    for (std::size_t i = 0; i < row.size(); ++i) dot += q[i] * row[i];
    out[r] = dot * largest / 127 * static_cast<double>(w.scale());
  }
  return out;
}

void rope(vector& x, const model_config& c, std::size_t position) {
  const std::size_t half = c.head_dim / 2;
  for (std::size_t head = 0; head < x.size() / c.head_dim; ++head) {
    for (std::size_t i = 0; i < half; ++i) {
      const auto exponent = -2.0 * static_cast<double>(i) / c.head_dim;
      const auto angle =
          static_cast<double>(position) * std::pow(static_cast<double>(c.rope_theta), exponent);
      const bool neox = c.rope == kernels::rope_kind::neox;
      auto& a = x[head * c.head_dim + (neox ? i : 2 * i)];
      auto& b = x[head * c.head_dim + (neox ? i + half : 2 * i + 1)];
      const auto a0 = a;
      a = a0 * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + a0 * std::sin(angle);
    }
  }
}

double to_bfloat16(double x) {
  return kernels::float_from_bfloat16(kernels::bfloat16_from_float(static_cast<float>(x)));
}

void round(vector& x) {
  std::transform(x.begin(), x.end(), x.begin(), to_bfloat16);
}

/// Attention of the last position: all keys and values so far are visible. Its operands are bfloat16.
vector attend(const model_config& c, const vector& q, const std::vector<vector>& keys,
              const std::vector<vector>& values) {
  vector out(c.query_length());
  for (std::size_t head = 0; head < c.head_count; ++head) {
    const auto kv = head / (c.head_count / c.kv_head_count) * c.head_dim;
    vector weight(keys.size());
    for (std::size_t t = 0; t < keys.size(); ++t) {
      double dot = 0;
      const auto scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
      for (std::size_t i = 0; i < c.head_dim; ++i)
        dot += to_bfloat16(q[head * c.head_dim + i] * scale) * keys[t][kv + i];
      weight[t] = dot;
    }
    const auto largest = *std::max_element(weight.begin(), weight.end());
    double sum = 0;
    for (auto& w : weight) sum += w = to_bfloat16(std::exp(w - largest));
    for (std::size_t t = 0; t < keys.size(); ++t) {
      for (std::size_t i = 0; i < c.head_dim; ++i)
        out[head * c.head_dim + i] += weight[t] / sum * values[t][kv + i];
    }
  }
  return out;
}

vector gated(const model_config& c, const vector& gate, const vector& up) {
  vector out(gate.size());
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const auto positive = std::max(gate[i], 0.0);
    out[i] =
        up[i] * (c.activation == engine::ffn_activation::squared_relu ? positive * positive
                                                                      : gate[i] / (1 + std::exp(-gate[i])));
  }
  return out;
}

void add(vector& x, const vector& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

/// The head's weights as the engine keeps them, as doubles: int8 weights meet inputs of 8 bits.
vector head_logits(const engine::model_weights& weights, const vector& x) {
  const auto& c = weights.config;
  std::vector<float> row(c.embedding_length);
  vector out(c.vocabulary_size);
  const bool int8 = weights.head.storage_format() == kernels::head_matrix::format::int8;
  double largest = 1e-5;
  for (const auto v : x) largest = std::max(largest, std::abs(v));
  for (engine::token_id id = 0; id < c.vocabulary_size; ++id) {
    weights.embedding->row(id, row.data());
    const auto absmax = std::abs(*std::max_element(
        row.begin(), row.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
    double dot = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto w = static_cast<double>(row[i]);
      const auto step = static_cast<double>(absmax) / 127;
      dot += int8 ? std::nearbyint(w / step) * step * std::nearbyint(x[i] * 127 / largest) * largest / 127
                  : static_cast<double>(static_cast<_Float16>(row[i])) * x[i];
    }
    out[id] = dot;
  }
  return out;
}

}  // namespace

std::vector<std::vector<double>> reference_forward(const engine::model_weights& weights,
                                                   std::span<const engine::token_id> tokens) {
  const auto& c = weights.config;
  std::vector<std::vector<vector>> keys(c.block_count);
  std::vector<std::vector<vector>> values(c.block_count);
  std::vector<vector> logits;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    std::vector<float> row(c.embedding_length);
    weights.embedding->row(tokens[t], row.data());
    vector x(row.begin(), row.end());
    for (std::size_t l = 0; l < c.block_count; ++l) {
      const auto& b = weights.blocks[l];
      auto h = rms_norm(x, b.attn_norm, static_cast<double>(c.rms_epsilon));
      auto q = linear(b.attn_q, h);
      auto k = linear(b.attn_k, h);
      auto v = linear(b.attn_v, h);
      rope(q, c, t);
      rope(k, c, t);
      round(k);
      round(v);
      keys[l].push_back(k);
      values[l].push_back(v);
      auto attended = attend(c, q, keys[l], values[l]);
      if (c.has_sub_norms) attended = rms_norm(attended, b.attn_sub_norm, static_cast<double>(c.rms_epsilon));
      add(x, linear(b.attn_output, attended));
      h = rms_norm(x, b.ffn_norm, static_cast<double>(c.rms_epsilon));
      auto inner = gated(c, linear(b.ffn_gate, h), linear(b.ffn_up, h));
      if (c.has_sub_norms) inner = rms_norm(inner, b.ffn_sub_norm, static_cast<double>(c.rms_epsilon));
      add(x, linear(b.ffn_down, inner));
    }
    logits.push_back(
        head_logits(weights, rms_norm(x, weights.output_norm, static_cast<double>(c.rms_epsilon))));
  }
  return logits;
}

}  // namespace bitnet::tests
