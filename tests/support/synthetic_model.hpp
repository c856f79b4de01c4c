#pragma once

#include "engine/tensor_types.hpp"
#include "tests/support/gguf_writer.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::tests {

/// A model file with random ternary weights: the shapes, scales and keys of a real one, so that it loads,
/// runs and takes the time that a real one takes. Its text is nonsense.
struct synthetic_model {
  std::string architecture = "bitnet-b1.58";
  std::string name = "synthetic";
  std::uint32_t vocabulary_size = 512;
  std::uint32_t context_length = 256;
  std::uint32_t embedding_length = 256;
  std::uint32_t block_count = 2;
  std::uint32_t feed_forward_length = 512;
  std::uint32_t head_count = 4;
  std::uint32_t kv_head_count = 2;
  std::uint32_t head_dim = 0;  ///< 0: embedding_length / head_count, and no attention.key_length key
  float rope_theta = 500000.0F;
  float rms_epsilon = 1e-5F;
  bool tied_embeddings = true;
  std::string pre_tokenizer = "llama-bpe";  ///< empty: the key is left out, as in the 2B-4T file
  engine::tensor_type linear_type = engine::tensor_type::i2_s;
  engine::tensor_type embedding_type = engine::tensor_type::f16;  ///< of output too, if it is there
  std::uint64_t seed = 1;

  std::uint32_t head_length() const { return head_dim != 0 ? head_dim : embedding_length / head_count; }
  bool has_sub_norms() const { return architecture != "llama"; }
};

/// "smallest", "tiny", "demo", "2b-4t", "large", "3b", "llama3-8b", "falcon3-1b" and so on; nothing for other
/// names.
std::optional<synthetic_model> synthetic_shape(std::string_view name);
std::vector<std::string_view> synthetic_shape_names();

/// The file in memory, its tensors not yet produced. The same options give the same bytes everywhere.
/// Throws std::invalid_argument where a type's groups do not divide a row.
gguf_writer make_synthetic_model(const synthetic_model& shape);

/// Writes it: 4 s and 1.2 GB for 2b-4t.
void write_synthetic_model(const synthetic_model& shape, const std::filesystem::path& path);

/// One row of a linear tensor's weights, the same for every linear_type. About 5/16 each are -1 and +1.
void synthetic_ternary_row(std::uint64_t seed, std::string_view tensor, std::uint64_t row,
                           std::span<std::int8_t> out);

/// Scale of a linear tensor with rows of `cols` weights: keeps the variance of activations; exact in BF16 and
/// F16.
float synthetic_scale(std::uint64_t cols);

/// One row of an embedding or head: nearly normal, its deviation 2.5 / sqrt(cols), so that logits differ by a
/// few.
void synthetic_embedding_row(std::uint64_t seed, std::string_view tensor, std::uint64_t row,
                             std::span<float> out);

}  // namespace bitnet::tests
