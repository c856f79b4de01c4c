#include "tests/support/random_model.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace bitnet::tests {

namespace {

using engine::model_config;

/// Uniform numbers straight from the engine: the standard distributions differ between libraries.
class random_source {
 public:
  explicit random_source(std::uint32_t seed) : bits_(seed) {}
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(bits_() >> 8U) * 0x1p-24F;
  }
  std::int8_t trit() { return static_cast<std::int8_t>(static_cast<int>(bits_() % 3U) - 1); }

 private:
  std::mt19937 bits_;
};

class memory_embedding final : public engine::embedding_table {
 public:
  memory_embedding(std::size_t cols, std::vector<float> values) : cols_(cols), values_(std::move(values)) {}
  void row(engine::token_id token, float* out) const noexcept override {
    std::copy_n(values_.data() + token * cols_, cols_, out);
  }

 private:
  std::size_t cols_;
  std::vector<float> values_;
};

std::vector<float> random_floats(random_source& random, std::size_t n, float low, float high) {
  std::vector<float> values(n);
  for (auto& value : values) value = random.uniform(low, high);
  return values;
}

kernels::ternary_matrix random_ternary(random_source& random, std::size_t rows, std::size_t cols) {
  constexpr auto block_rows = kernels::ternary_matrix::block_rows;
  kernels::ternary_matrix w(rows, cols, 1.2F / std::sqrt(static_cast<float>(cols)));
  std::vector<std::int8_t> trits(block_rows * cols);
  for (std::size_t block = 0; block < w.block_count(); ++block) {
    for (auto& trit : trits) trit = random.trit();
    w.pack_block(block, trits.data());
  }
  return w;
}

engine::block_weights random_block(random_source& random, const model_config& c) {
  engine::block_weights b;
  const std::size_t d = c.embedding_length;
  b.attn_norm = random_floats(random, d, 0.8F, 1.2F);
  b.attn_q = random_ternary(random, c.query_length(), d);
  b.attn_k = random_ternary(random, c.kv_length(), d);
  b.attn_v = random_ternary(random, c.kv_length(), d);
  b.attn_output = random_ternary(random, d, c.query_length());
  b.ffn_norm = random_floats(random, d, 0.8F, 1.2F);
  b.ffn_gate = random_ternary(random, c.feed_forward_length, d);
  b.ffn_up = random_ternary(random, c.feed_forward_length, d);
  b.ffn_down = random_ternary(random, d, c.feed_forward_length);
  if (c.has_sub_norms) {
    b.attn_sub_norm = random_floats(random, c.query_length(), 0.8F, 1.2F);
    b.ffn_sub_norm = random_floats(random, c.feed_forward_length, 0.8F, 1.2F);
  }
  return b;
}

kernels::head_matrix pack_head(const model_config& c, const std::vector<float>& values,
                               kernels::head_matrix::format format) {
  kernels::head_matrix head(c.vocabulary_size, c.embedding_length, format);
  for (std::size_t block = 0; block < head.block_count(); ++block)
    head.pack_block(block, values.data() + block * head.block_rows() * c.embedding_length);
  return head;
}

}  // namespace

model_config small_config() {
  model_config c;
  c.architecture = "bitnet-b1.58";
  c.name = "small";
  c.vocabulary_size = 301;
  c.context_length = 512;
  c.embedding_length = 96;
  c.block_count = 3;
  c.feed_forward_length = 176;
  c.head_count = 6;
  c.kv_head_count = 2;
  c.head_dim = 24;
  c.activation = engine::ffn_activation::squared_relu;
  c.has_sub_norms = true;
  c.tied_embeddings = true;
  return c;
}

std::unique_ptr<engine::model> random_model(const model_config& config, std::uint32_t seed,
                                            kernels::head_matrix::format head) {
  random_source random(seed);
  auto weights = std::make_unique<engine::model_weights>();
  weights->config = config;
  const std::size_t n = std::size_t{config.vocabulary_size} * config.embedding_length;
  // A uniform variable on [-a, a] has the deviation a / sqrt(3); the normalised hidden vector has length
  // sqrt(d).
  const auto spread = 3.0F * std::sqrt(3.0F) / std::sqrt(static_cast<float>(config.embedding_length));
  auto embedding = random_floats(random, n, -spread, spread);
  weights->head =
      pack_head(config, config.tied_embeddings ? embedding : random_floats(random, n, -spread, spread), head);
  weights->embedding = std::make_unique<memory_embedding>(config.embedding_length, std::move(embedding));
  for (std::size_t i = 0; i < config.block_count; ++i)
    weights->blocks.push_back(random_block(random, config));
  weights->output_norm = random_floats(random, config.embedding_length, 0.8F, 1.2F);
  auto model = std::make_unique<engine::model>();
  model->id = config.name;
  model->weights = std::move(weights);
  return model;
}

}  // namespace bitnet::tests
