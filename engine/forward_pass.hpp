#pragma once

#include "engine/kv_cache.hpp"
#include "engine/model_config.hpp"
#include "engine/progress.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
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
  bool greedy = false;                  ///< whoever asks will do with `greatest`, where that has an answer
};

enum class forward_status : std::uint8_t {
  complete,
  cancelled,  ///< progress.cancel was seen: the pass's keys, values and logits are void; it can be run again
};

/// What a forward pass must have room for.
struct pass_limits {
  std::size_t rows = 1;         ///< tokens in a pass
  std::size_t logits_rows = 1;  ///< tokens in a pass that want logits
  std::size_t chunks = 1;
};

/// Runs the model over batches of tokens on some device. Owned by one thread; a pass allocates nothing.
class forward_pass {
 public:
  virtual ~forward_pass() = default;

  /// One pass: writes the keys and values of all tokens to the blocks of `cache`, and the logits asked for.
  /// Moves `progress.layer` and `last_progress_ns` as often as the device lets it; looks at `progress.cancel`
  /// likewise. Throws device_lost where the device is lost with all that was computed. Precondition: `chunks`
  /// is within the limits and not empty.
  virtual forward_status forward(std::span<const batch_chunk> chunks, kv_cache& cache,
                                 progress& progress) = 0;

  /// vocabulary_size logits of the index-th token that asked for them in the last pass, in the order of the
  /// chunks; of a greedy chunk only where `greatest` has no answer. The caller may write to them. May be
  /// called from several threads for different rows.
  virtual std::span<float> logits(std::size_t index) noexcept = 0;

  /// The token of the greatest of these logits (the first of equals), where the device has found it: greedy
  /// chunks with sound logits, on devices for which fetching all logits costs more.
  virtual std::optional<token_id> greatest(std::size_t) const noexcept { return std::nullopt; }

  /// True where the last pass met NaN or infinity in this chunk. The other chunks' results are sound.
  virtual bool failed(std::size_t chunk) const noexcept = 0;
};

}  // namespace bitnet::engine
