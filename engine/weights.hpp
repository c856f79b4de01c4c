#pragma once

#include "engine/decode_weights.hpp"
#include "engine/error.hpp"
#include "engine/model_config.hpp"
#include "kernels/head_screen.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/matrix.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace bitnet::engine {

class gguf_file;
struct gguf_tensor;

/// Weights of one transformer block, names as in the file (blk.N.NAME.weight).
struct block_weights {
  std::vector<float> attn_norm;         ///< [embedding_length]
  kernels::ternary_matrix attn_q;       ///< [query_length, embedding_length]
  kernels::ternary_matrix attn_k;       ///< [kv_length, embedding_length]
  kernels::ternary_matrix attn_v;       ///< [kv_length, embedding_length]
  std::vector<float> attn_sub_norm;     ///< [query_length], empty without sub-norms
  kernels::ternary_matrix attn_output;  ///< [embedding_length, query_length]
  std::vector<float> ffn_norm;          ///< [embedding_length]
  kernels::ternary_matrix ffn_gate;     ///< [feed_forward_length, embedding_length]
  kernels::ternary_matrix ffn_up;       ///< [feed_forward_length, embedding_length]
  std::vector<float> ffn_sub_norm;      ///< [feed_forward_length], empty without sub-norms
  kernels::ternary_matrix ffn_down;     ///< [embedding_length, feed_forward_length]
};

/// Rows of token_embd, kept in memory as the file stores them (F32, F16, BF16, Q8_0, Q6_K or Q4_K) and
/// dequantised on demand: nothing is read from the file after loading.
class embedding_table {
 public:
  virtual ~embedding_table() = default;
  /// Writes embedding_length floats. Precondition: token < vocabulary_size. Thread-safe.
  virtual void row(token_id token, float* out) const noexcept = 0;
  /// The memory behind it, for checksums.
  virtual std::span<const std::byte> bytes() const noexcept { return {}; }
};

/// Everything a forward pass reads. Immutable after loading, so any number of threads may share it.
struct model_weights {
  model_config config;
  std::unique_ptr<embedding_table> embedding;
  std::vector<block_weights> blocks;
  std::vector<decode_block> decode_blocks;  ///< the linear weights again for passes over few tokens, or empty
  std::vector<float> output_norm;           ///< [embedding_length]
  kernels::head_matrix head;  ///< [vocabulary_size, embedding_length], from output or token_embd
  std::optional<kernels::head_screen> screen;  ///< of the head; none where it is not screened
  std::size_t screen_candidates = 1024;        ///< that the screen chooses for each token
  std::shared_ptr<const gguf_file> file;       ///< what was loaded: its metadata and identity

  /// Bytes of packed weights and head that a decode step of so many sequences reads; of a screened head the
  /// screen's and the candidates'.
  std::size_t bytes_read_per_step(std::size_t sequences = 1) const noexcept;

  /// Multiply-adds of a token in the linear layers, the head not counted.
  std::uint64_t linear_macs_per_token() const noexcept;
};

struct load_options {
  std::size_t threads = 0;  ///< for packing; 0: all usable CPUs
  kernels::head_matrix::format head = kernels::head_matrix::format::int8;
  /// Also a screen of the head; it must be int8.
  bool screen_head = false;
  std::size_t screen_candidates = 1024;  ///< see model_weights
  decode_format decode = decode_format::automatic;
  /// What will run the model: the choice of the decode format depends on it.
  kernels::instruction_set isa = kernels::best_instruction_set();
  /// Refuse with out_of_memory what needs more; 0: what available_memory_bytes() measures.
  std::uint64_t memory_limit_bytes = 0;
  /// Called from the loading thread with a growing fraction in [0, 1], at most a few hundred times.
  std::function<void(float)> progress;
  /// Once true the load is given up soon; null: never. Any thread may set it.
  const std::atomic<bool>* cancelled = nullptr;
  /// Called from the loading thread with one sentence for the log: weights that had to be quantised.
  std::function<void(const std::string&)> warn;
};

/// Bytes of memory that load_weights() takes and keeps for a model of this shape, with that embedding tensor.
std::uint64_t weights_memory_bytes(const model_config& config, const gguf_tensor& embedding,
                                   kernels::head_matrix::format head) noexcept;

/// What load_options::screen_head adds to it.
std::uint64_t head_screen_bytes(const model_config& config) noexcept;

/// Packs all weights of `file`. Refuses with a sentence that names the tensor when a shape, type or value is
/// wrong, a tensor is missing, or there is one that our transformer would not use.
result<std::unique_ptr<model_weights>> load_weights(std::shared_ptr<const gguf_file> file,
                                                    const load_options& options);

}  // namespace bitnet::engine
