#pragma once

#include "engine/generation.hpp"
#include "engine/grammar/matcher.hpp"
#include "engine/kv_cache.hpp"

#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace bitnet::engine {

/// A request under way.
struct sequence {
  generation_request request;
  std::vector<token_id> tokens;     ///< prompt, then completion
  std::size_t initial_length = 0;   ///< prompt and the tokens of a previous worker
  std::size_t max_completion = 0;   ///< request.max_tokens, cut to the context length
  std::size_t computed = 0;         ///< tokens whose keys and values are in `blocks`
  std::vector<kv_block_id> blocks;  ///< block table
  std::size_t published = 0;        ///< blocks at the start of the table that are in the prefix cache
  kv_prefix_id prefix = 0;          ///< names the tokens of those
  std::size_t cached_tokens = 0;    ///< prompt tokens found there at the first admission
  bool admitted_before = false;
  std::optional<grammar::matcher> constraint;  ///< with a JSON schema: has gone through the completion
  bool may_end = false;                        ///< the schema allows that the completion ends here

  std::size_t completion_length() const noexcept { return tokens.size() - request.prompt.size(); }
  std::span<const token_id> block_tokens(std::size_t block) const noexcept {
    return std::span(tokens).subspan(block * kernels::kv_block_tokens, kernels::kv_block_tokens);
  }
};

/// What a sequence gets in a step: the next `count` tokens that are not computed yet.
struct planned_chunk {
  sequence* target;
  std::size_t count;
  /// The chunk reaches the sequence's end: its last token's logits choose the next one.
  bool completes() const noexcept { return target->computed + count == target->tokens.size(); }
  bool decodes() const noexcept { return target->computed >= target->initial_length; }
};

/// Prompt tokens for the next step: `most`, or fewer where sequences that decode would have to wait for
/// longer than `wait_seconds` (0: however long), going by what a token took lately; but always 16, so that
/// prompts go on.
std::size_t prefill_budget(std::size_t most, bool others_decode, double seconds_per_token,
                           double wait_seconds) noexcept;

/// Decides what runs in each step and who holds which KV blocks. The most urgent priority comes first; within
/// it whoever was put back, then the client who has the fewest sequences running, then the one whose last
/// turn is longest ago, then first come, first served. When blocks run out the least urgent sequence, of
/// equals the youngest, goes back to the queue and is computed again later, which gives the same tokens.
/// Owned by one thread.
class scheduler {
 public:
  struct limits {
    std::size_t sequences = 1;  ///< running together
    std::size_t queued = 1;     ///< waiting
    bool prefix_cache = true;
  };

  /// Precondition: one whole context fits into `cache`'s free blocks.
  scheduler(kv_cache& cache, const limits& most);

  bool contains(request_id id) const noexcept;
  bool queue_is_full() const noexcept { return queue_.size() >= limits_.queued; }
  std::size_t running() const noexcept { return running_.size(); }
  std::size_t queued() const noexcept { return queue_.size(); }
  /// Some sequence is past its prompt and waits for every step.
  bool decodes() const noexcept;
  std::uint64_t preemptions() const noexcept { return preemptions_; }
  std::uint64_t cached_tokens() const noexcept { return cached_tokens_; }

  void enqueue(std::unique_ptr<sequence> s);

  /// Admits what fits and lays out the next step; empty only when nothing runs or waits. A step that did not
  /// happen can be planned again. The result holds until the next call of a member function.
  /// `prefill_tokens`, at least 1: prompt tokens in the step.
  std::span<const planned_chunk> plan(std::size_t prefill_tokens);

  /// The chunk's keys and values are in the cache now.
  void mark_computed(const planned_chunk& chunk);

  /// Takes a sequence out and frees its blocks; null for an unknown id. `sound` is false where its keys and
  /// values cannot be trusted: then no later prompt finds them.
  std::unique_ptr<sequence> remove(request_id id, bool sound = true);

 private:
  void admit();
  bool admit(sequence& s);
  bool reserve_blocks(sequence& s, std::size_t length);
  void preempt_last();
  void release_blocks(sequence& s) noexcept;
  std::size_t next_in_queue() const;

  /// What a client has here, for whose turn it is; kept while it has something.
  struct client_share {
    std::size_t sequences = 0;
    std::size_t running = 0;
    std::uint64_t last_turn = 0;
  };

  kv_cache& cache_;
  limits limits_;
  std::vector<std::unique_ptr<sequence>> queue_;    ///< in the order of arrival
  std::vector<std::unique_ptr<sequence>> running_;  ///< most urgent first, then oldest first
  std::unordered_map<std::uint64_t, client_share> clients_;
  std::uint64_t turns_ = 0;  ///< admissions so far
  std::vector<planned_chunk> plan_;
  std::uint64_t preemptions_ = 0;
  std::uint64_t cached_tokens_ = 0;  ///< found in the prefix cache, by all admissions
};

}  // namespace bitnet::engine
