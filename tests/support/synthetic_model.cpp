#include "tests/support/synthetic_model.hpp"

#include "tests/support/synthetic_vocabulary.hpp"
#include "tests/support/tensor_encoders.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace bitnet::tests {

namespace {

using engine::tensor_type;

/// SplitMix64: a counter-based generator (Steele, Lea and Flood 2014).
class random_bits {
 public:
  random_bits(std::uint64_t seed, std::string_view tensor, std::uint64_t row) : state_(seed) {
    for (const char c : tensor) state_ = mix(state_ ^ static_cast<unsigned char>(c));
    state_ = mix(state_ ^ row);
  }
  std::uint64_t next() { return mix(state_ += 0x9E3779B97F4A7C15U); }

 private:
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

/// Two weights from a byte: a nibble below 5 is -1, below 10 +1, else 0.
constexpr std::array<std::array<std::int8_t, 2>, 256> byte_weights = [] {
  std::array<std::array<std::int8_t, 2>, 256> table{};
  const auto weight = [](unsigned nibble) {
    return static_cast<std::int8_t>(nibble < 5 ? -1 : nibble < 10 ? 1 : 0);
  };
  for (unsigned byte = 0; byte < 256; ++byte) table[byte] = {weight(byte & 15U), weight(byte >> 4U)};
  return table;
}();

std::uint64_t stored_bytes(tensor_type type, std::uint64_t rows, std::uint64_t cols) {
  const engine::tensor_layout layout = engine::layout_of(type);
  const std::uint64_t run = layout.rows_are_whole ? cols : rows * cols;
  if (run % layout.elements != 0) {
    throw std::invalid_argument(engine::tensor_type_name(type) + " cannot store rows of " +
                                std::to_string(cols) + " weights");
  }
  return layout.size_of(rows * cols);
}

void give(const gguf_writer::sink& out, const std::string& bytes) {
  out(std::as_bytes(std::span(bytes)));
}

/// Adds tensors of one model to a file.
class tensor_adder {
 public:
  tensor_adder(gguf_writer& file, const synthetic_model& shape) : file_(file), shape_(shape) {}

  void linear(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    const tensor_type type = shape_.linear_type;
    file_.add_tensor(name, static_cast<std::uint32_t>(type), {cols, rows}, stored_bytes(type, rows, cols),
                     [=, seed = shape_.seed](const gguf_writer::sink& out) {
                       const float scale = synthetic_scale(cols);
                       // A multiple of 128 rows, so that I2_S's groups do not straddle two slices.
                       std::vector<std::int8_t> weights(128 * cols);
                       for (std::uint64_t first = 0; first < rows; first += 128) {
                         const std::uint64_t count = std::min<std::uint64_t>(128, rows - first);
                         const auto slice = std::span(weights).first(count * cols);
                         for (std::uint64_t r = 0; r < count; ++r)
                           synthetic_ternary_row(seed, name, first + r, slice.subspan(r * cols, cols));
                         give(out, encode_ternary(type, slice, scale));
                       }
                       if (type == tensor_type::i2_s) give(out, i2_s_trailer(scale));
                     });
  }

  void embedding(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    const tensor_type type = shape_.embedding_type;
    file_.add_tensor(name, static_cast<std::uint32_t>(type), {cols, rows}, stored_bytes(type, rows, cols),
                     [=, seed = shape_.seed](const gguf_writer::sink& out) {
                       std::vector<float> values(cols);
                       for (std::uint64_t row = 0; row < rows; ++row) {
                         synthetic_embedding_row(seed, name, row, values);
                         give(out, encode_values(type, values));
                       }
                     });
  }

  void norm(const std::string& name, std::uint64_t length) {
    random_bits random(shape_.seed, name, 0);
    std::vector<float> values(length);
    for (float& value : values) value = 0.9F + 0.2F * static_cast<float>(random.next() >> 40U) * 0x1p-24F;
    file_.add_tensor(name, static_cast<std::uint32_t>(tensor_type::f32), {length},
                     encode_values(tensor_type::f32, values));
  }

 private:
  gguf_writer& file_;
  const synthetic_model& shape_;
};

void add_model_keys(gguf_writer& file, const synthetic_model& shape) {
  const auto key = [&](std::string_view name) { return shape.architecture + "." + std::string(name); };
  file.add_string("general.architecture", shape.architecture);
  file.add_string("general.name", shape.name);
  file.add_u32(key("vocab_size"), shape.vocabulary_size);
  file.add_u32(key("context_length"), shape.context_length);
  file.add_u32(key("embedding_length"), shape.embedding_length);
  file.add_u32(key("block_count"), shape.block_count);
  file.add_u32(key("feed_forward_length"), shape.feed_forward_length);
  file.add_u32(key("rope.dimension_count"), shape.head_length());
  file.add_u32(key("attention.head_count"), shape.head_count);
  file.add_u32(key("attention.head_count_kv"), shape.kv_head_count);
  if (shape.head_dim != 0) file.add_u32(key("attention.key_length"), shape.head_dim);
  file.add_f32(key("attention.layer_norm_rms_epsilon"), shape.rms_epsilon);
  file.add_f32(key("rope.freq_base"), shape.rope_theta);
}

void add_tokenizer_keys(gguf_writer& file, const synthetic_model& shape) {
  const synthetic_vocabulary vocabulary = make_synthetic_vocabulary(shape.vocabulary_size);
  file.add_string("tokenizer.ggml.model", "gpt2");
  if (!shape.pre_tokenizer.empty()) file.add_string("tokenizer.ggml.pre", shape.pre_tokenizer);
  file.add_strings("tokenizer.ggml.tokens", vocabulary.tokens);
  file.add_i32s("tokenizer.ggml.token_type", vocabulary.types);
  file.add_strings("tokenizer.ggml.merges", vocabulary.merges);
  file.add_u32("tokenizer.ggml.bos_token_id", vocabulary.begin_of_text);
  file.add_u32("tokenizer.ggml.eos_token_id", vocabulary.end_of_text);
  file.add_u32("tokenizer.ggml.padding_token_id", vocabulary.end_of_text);
  file.add_bool("tokenizer.ggml.add_bos_token", true);
}

synthetic_model two_b_4t() {
  synthetic_model m;
  m.name = "bitnet2b";
  m.vocabulary_size = 128256;
  m.context_length = 4096;
  m.embedding_length = 2560;
  m.block_count = 30;
  m.feed_forward_length = 6912;
  m.head_count = 20;
  m.kv_head_count = 5;
  m.pre_tokenizer.clear();
  return m;
}

synthetic_model bitnet_b1_58(std::uint32_t blocks, std::uint32_t width, std::uint32_t hidden,
                             std::uint32_t heads) {
  synthetic_model m;
  m.architecture = "bitnet";
  m.vocabulary_size = 32002;
  m.context_length = 2048;
  m.embedding_length = width;
  m.block_count = blocks;
  m.feed_forward_length = hidden;
  m.head_count = heads;
  m.kv_head_count = heads;
  m.rope_theta = 10000.0F;
  return m;
}

synthetic_model falcon3(std::uint32_t blocks, std::uint32_t width, std::uint32_t hidden,
                        std::uint32_t heads) {
  synthetic_model m;
  m.architecture = "llama";
  m.vocabulary_size = 131072;
  m.context_length = 8192;
  m.embedding_length = width;
  m.block_count = blocks;
  m.feed_forward_length = hidden;
  m.head_count = heads;
  m.kv_head_count = 4;
  m.head_dim = 256;
  m.rope_theta = 1000042.0F;
  m.rms_epsilon = 1e-6F;
  m.tied_embeddings = false;
  return m;
}

synthetic_model llama3_8b() {
  synthetic_model m;
  m.architecture = "llama";
  m.vocabulary_size = 128256;
  m.context_length = 8192;
  m.embedding_length = 4096;
  m.block_count = 32;
  m.feed_forward_length = 14336;
  m.head_count = 32;
  m.kv_head_count = 8;
  m.tied_embeddings = false;
  return m;
}

synthetic_model demo() {
  synthetic_model m;
  m.vocabulary_size = 4096;
  m.context_length = 1024;
  m.block_count = 4;
  m.feed_forward_length = 768;
  return m;
}

/// For tests that load thousands of files.
synthetic_model smallest() {
  synthetic_model m;
  m.vocabulary_size = least_vocabulary_size;
  m.embedding_length = 64;
  m.block_count = 1;
  m.feed_forward_length = 64;
  m.head_count = 2;
  m.kv_head_count = 1;
  return m;
}

struct named_shape {
  std::string_view name;
  synthetic_model (*make)();
};

constexpr named_shape shapes[] = {
    {"smallest", smallest},
    {"tiny", [] { return synthetic_model(); }},
    {"demo", demo},
    {"2b-4t", two_b_4t},
    {"large", [] { return bitnet_b1_58(24, 1536, 4096, 16); }},
    {"3b", [] { return bitnet_b1_58(26, 3200, 8640, 32); }},
    {"llama3-8b", llama3_8b},
    {"falcon3-1b", [] { return falcon3(18, 2048, 8192, 8); }},
    {"falcon3-3b", [] { return falcon3(22, 3072, 9216, 12); }},
    {"falcon3-7b", [] { return falcon3(28, 3072, 23040, 12); }},
};

}  // namespace

std::optional<synthetic_model> synthetic_shape(std::string_view name) {
  for (const named_shape& shape : shapes) {
    if (shape.name == name) return shape.make();
  }
  return std::nullopt;
}

std::vector<std::string_view> synthetic_shape_names() {
  std::vector<std::string_view> names;
  for (const named_shape& shape : shapes) names.push_back(shape.name);
  return names;
}

gguf_writer make_synthetic_model(const synthetic_model& shape) {
  gguf_writer file;
  add_model_keys(file, shape);
  add_tokenizer_keys(file, shape);
  const std::uint64_t width = shape.embedding_length;
  const std::uint64_t hidden = shape.feed_forward_length;
  const std::uint64_t query = std::uint64_t{shape.head_count} * shape.head_length();
  const std::uint64_t kv = std::uint64_t{shape.kv_head_count} * shape.head_length();
  tensor_adder add(file, shape);
  add.embedding("token_embd.weight", shape.vocabulary_size, width);
  add.norm("output_norm.weight", width);
  if (!shape.tied_embeddings) add.embedding("output.weight", shape.vocabulary_size, width);
  for (std::uint32_t b = 0; b < shape.block_count; ++b) {
    const auto name = [b](std::string_view part) {
      return "blk." + std::to_string(b) + "." + std::string(part) + ".weight";
    };
    add.norm(name("attn_norm"), width);
    add.linear(name("attn_q"), query, width);
    add.linear(name("attn_k"), kv, width);
    add.linear(name("attn_v"), kv, width);
    if (shape.has_sub_norms()) add.norm(name("attn_sub_norm"), query);
    add.linear(name("attn_output"), width, query);
    add.norm(name("ffn_norm"), width);
    add.linear(name("ffn_gate"), hidden, width);
    add.linear(name("ffn_up"), hidden, width);
    if (shape.has_sub_norms()) add.norm(name("ffn_sub_norm"), hidden);
    add.linear(name("ffn_down"), width, hidden);
  }
  return file;
}

void write_synthetic_model(const synthetic_model& shape, const std::filesystem::path& path) {
  make_synthetic_model(shape).write(path);
}

void synthetic_ternary_row(std::uint64_t seed, std::string_view tensor, std::uint64_t row,
                           std::span<std::int8_t> out) {
  random_bits random(seed, tensor, row);
  for (std::size_t i = 0; i < out.size(); i += 16) {
    std::uint64_t bits = random.next();
    for (std::size_t j = i; j < std::min(i + 16, out.size()); j += 2, bits >>= 8U) {
      const auto& pair = byte_weights[bits & 255U];
      out[j] = pair[0];
      if (j + 1 < out.size()) out[j + 1] = pair[1];
    }
  }
}

float synthetic_scale(std::uint64_t cols) {
  const auto exact = static_cast<float>(1.0 / std::sqrt(0.625 * static_cast<double>(cols)));
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(exact) & 0xFFFF0000U);
}

void synthetic_embedding_row(std::uint64_t seed, std::string_view tensor, std::uint64_t row,
                             std::span<float> out) {
  // The sum of four uniform bytes has the mean 510 and the deviation 147.8.
  const auto unit = static_cast<float>(2.5 / std::sqrt(static_cast<double>(out.size())) / 147.8);
  random_bits random(seed, tensor, row);
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < out.size(); ++i, bits >>= 32U) {
    if (i % 2 == 0) bits = random.next();
    const std::uint64_t sum =
        (bits & 255U) + (bits >> 8U & 255U) + (bits >> 16U & 255U) + (bits >> 24U & 255U);
    out[i] = unit * (static_cast<float>(sum) - 510.0F);
  }
}

}  // namespace bitnet::tests
