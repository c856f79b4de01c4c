#pragma once

#include "engine/candidate.hpp"
#include "engine/kv_cache.hpp"
#include "engine/model_config.hpp"
#include "engine/progress.hpp"

#include <cstddef>
#include <cstdint>
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
  std::size_t candidates = 0;           ///< whoever asks will do with the best so many logits, at most
                                        ///< most_candidates, where `candidates` has them; 0: wants all
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
  /// chunks; of a chunk that wants candidates only where there are none. The caller may write to them. May be
  /// called from several threads for different rows.
  virtual std::span<float> logits(std::size_t index) noexcept = 0;

  /// As many of these logits as the chunk wants candidates (all, where the vocabulary has fewer), the
  /// greatest first, of equals the smaller id first. Empty where the device does not select, where the chunk
  /// wants all, and where the logits give no choice: one is NaN or positive infinity, or none is finite. With
  /// a screened head the best among the screen's candidates, with the logits that `logits` would have.
  virtual std::span<const candidate> candidates(std::size_t) const noexcept { return {}; }

  /// True where the last pass met NaN or infinity in this chunk. The other chunks' results are sound.
  virtual bool failed(std::size_t chunk) const noexcept = 0;
};

}  // namespace bitnet::engine
