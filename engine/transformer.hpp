#pragma once

#include "engine/kv_cache.hpp"
#include "engine/progress.hpp"
#include "engine/weights.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/team.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace bitnet::engine {

/// Consecutive tokens of one sequence in a forward pass: a prefill chunk, or the one token of a decode step.
/// A pass takes any mix of chunks; what else is in it never changes a chunk's logits.
struct batch_chunk {
  std::span<const token_id> tokens;     ///< not empty, all below vocabulary_size
  std::size_t position = 0;             ///< absolute position of the first token
  std::span<const kv_block_id> blocks;  ///< covers positions [0, position + tokens.size()); those before
                                        ///< `position` are filled, no other chunk writes to the rest
  std::size_t logits = 0;               ///< how many of the last tokens want logits
};

/// The steps of a forward pass, for profiles.
enum class operation : std::uint8_t {
  embedding,
  attention_norm,
  qkv_matmul,
  rope_and_store,
  attention,
  attention_sub_norm,
  output_matmul,
  ffn_norm,
  gate_up_matmul,
  ffn_sub_norm,
  down_matmul,
  output_norm,
  head_matmul,
};
inline constexpr std::size_t operation_count = 13;
const char* to_string(operation op) noexcept;

/// Seconds a step of the forward pass took in all, waiting at its barrier included, as member 0 saw it.
struct forward_profile {
  std::array<double, operation_count> seconds{};
  std::uint64_t passes = 0;
};

enum class forward_status : std::uint8_t {
  complete,
  cancelled,  ///< progress.cancel was seen: the pass's keys, values and logits are void; it can be run again
};

/// Runs the model over batches of tokens with one parallel region a pass. Owned by one thread. Buffers are
/// taken at construction for `limits`; a pass does not allocate.
class transformer {
 public:
  struct limits {
    std::size_t rows = 1;         ///< tokens in a pass
    std::size_t logits_rows = 1;  ///< tokens in a pass that want logits
    std::size_t chunks = 1;
  };

  /// References must outlive the transformer. `profile`, where given, adds a clock reading a step.
  /// Precondition: kernels::is_supported(isa). Throws std::bad_alloc.
  transformer(const model_weights& weights, kernels::team& team, kernels::instruction_set isa,
              const limits& most, forward_profile* profile = nullptr);
  ~transformer();
  transformer(const transformer&) = delete;
  transformer& operator=(const transformer&) = delete;

  /// One pass: writes the keys and values of all tokens to `cache`, and the logits asked for. Moves
  /// `progress.layer` and `last_progress_ns` at every layer; looks at `progress.cancel` once a layer.
  /// Precondition: `chunks` is within the limits and not empty.
  forward_status forward(std::span<const batch_chunk> chunks, kv_cache& cache, progress& progress);

  /// vocabulary_size logits of the index-th token that asked for them in the last pass, in the order of the
  /// chunks. The caller may write to them.
  std::span<float> logits(std::size_t index) noexcept;

  /// True where the last pass met NaN or infinity in this chunk. The other chunks' results are sound.
  bool failed(std::size_t chunk) const noexcept;

 private:
  struct state;
  friend class forward_member;
  std::unique_ptr<state> state_;
};

}  // namespace bitnet::engine
