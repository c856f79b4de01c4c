#pragma once

#include "engine/error.hpp"
#include "kernels/vector.hpp"

#include <cstdint>
#include <string>

namespace bitnet::engine {

class gguf_file;

using token_id = std::uint32_t;

enum class ffn_activation : std::uint8_t { silu, squared_relu };

/// Shape of a ternary transformer, as read from the file's metadata and checked against its tensors.
struct model_config {
  std::string architecture;  ///< bitnet, bitnet-b1.58, bitnet-25 or llama
  std::string name;          ///< general.name, or the file's name
  std::uint32_t vocabulary_size = 0;
  std::uint32_t context_length = 0;
  std::uint32_t embedding_length = 0;
  std::uint32_t block_count = 0;
  std::uint32_t feed_forward_length = 0;
  std::uint32_t head_count = 0;
  std::uint32_t kv_head_count = 0;  ///< divides head_count
  std::uint32_t head_dim = 0;       ///< even, at most 256
  float rms_epsilon = 1e-5F;
  float rope_theta = 10000.0F;
  kernels::rope_kind rope = kernels::rope_kind::neox;
  ffn_activation activation = ffn_activation::silu;
  bool has_sub_norms = false;    ///< attn_sub_norm and ffn_sub_norm are there
  bool tied_embeddings = false;  ///< no output.weight: the head is token_embd

  std::uint32_t query_length() const noexcept { return head_count * head_dim; }
  std::uint32_t kv_length() const noexcept { return kv_head_count * head_dim; }
};

/// Reads and checks the metadata. Refuses, naming the key, what is missing, out of range, or would be
/// computed wrongly by our transformer (RoPE scaling, experts, sliding windows).
result<model_config> read_model_config(const gguf_file& file);

}  // namespace bitnet::engine
