#pragma once

#include "engine/compute_device.hpp"
#include "engine/error.hpp"
#include "engine/model.hpp"
#include "engine/progress.hpp"
#include "engine/sampler.hpp"
#include "kernels/instruction_set.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::engine {

using request_id = std::uint64_t;

/// One sequence to continue. Plain values only: it crosses processes and machines.
struct generation_request {
  request_id id = 0;
  std::vector<token_id> prompt;   ///< BOS included where wanted; not empty
  std::vector<token_id> emitted;  ///< tokens that a previous worker generated already (resume); usually empty
  std::uint32_t max_tokens = 16;  ///< new tokens in all, `emitted` included
  sampling_params sampling;
  std::vector<token_id> stop_tokens;  ///< ends the completion; the stop token itself is not delivered
  std::uint32_t top_logprobs = 0;     ///< 0..20
  bool want_logprobs = false;
  std::string json_schema;    ///< the completion is JSON that this schema (as text) allows; empty: any text
  std::int32_t priority = 0;  ///< who waits in the queue: smaller first
  std::uint64_t client = 0;   ///< whom the request is for: clients that wait take turns
};

enum class finish_reason : std::uint8_t { none, stop, length, cancelled, failed };

struct generation_usage {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t completion_tokens = 0;  ///< delivered, `emitted` included; a stop token is not
  std::uint32_t cached_tokens = 0;      ///< prompt tokens that the prefix cache had
};

/// What one step did for one sequence.
struct generation_event {
  request_id id = 0;
  std::vector<sampled_token> tokens;
  finish_reason finish = finish_reason::none;
  std::optional<error> failure;  ///< with finish_reason::failed
  generation_usage usage;
};

struct generation_options {
  std::shared_ptr<compute_device> device{};  ///< where forward passes run; null: on this CPU
  std::size_t threads = 0;                   ///< 0: what thread_count() chooses
  kernels::instruction_set isa = kernels::best_instruction_set();
  std::size_t max_sequences = 16;   ///< decoded together
  std::size_t max_queued = 256;     ///< waiting; more are refused with queue_full
  std::size_t kv_cache_bytes = 0;   ///< 0: chosen from the context length and the memory at hand
  std::size_t prefill_chunk = 256;  ///< prompt tokens a step at most
  /// Sequences that decode wait about so long at most for others' prompts in a step, and for no more than one
  /// and a half steps of theirs; 0: no limit.
  double decode_wait_seconds = 0.25;
  bool prefix_cache = true;             ///< keep the KV blocks of known prefixes for prompts that start alike
  struct progress* progress = nullptr;  ///< where to report; null: the loop's own. Outlives the loop
  struct forward_profile* profile = nullptr;  ///< where to add up operator times; null: not measured
};

/// Threads that a loop uses: `requested`, or for 0 all usable CPUs, but so few that each has 2 MiB of weights
/// to read in a step. With less, members wait for each other longer than they work.
std::size_t thread_count(const model_weights& weights, std::size_t requested);

/// Whether a loop over a model of this shape takes the request: all that submit() refuses but what depends on
/// its other sequences. For whoever must refuse at once and from afar.
result<void> check_request(const generation_request& request, const model_config& config);

/// Load and rates since construction; cheap to read from the owning thread.
struct generation_stats {
  std::size_t running = 0;
  std::size_t queued = 0;
  std::size_t kv_blocks_total = 0;  ///< for sequences: without the reserve of the probe
  std::size_t kv_blocks_used = 0;   ///< held by sequences; cached prefixes that nobody uses count as free
  std::uint64_t prompt_tokens = 0;  ///< prefilled in all
  std::uint64_t cached_tokens = 0;  ///< not prefilled because the prefix cache had them
  std::uint64_t preemptions = 0;    ///< sequences put back in the queue because the KV cache was full
  std::uint64_t generated_tokens = 0;
  std::uint64_t steps = 0;
  std::uint64_t failed_sequences = 0;  ///< failed computations, not cancellations
  double last_step_seconds = 0;
};

/// The batching loop of one device: admits sequences, runs forward passes over all of them, samples.
/// Not thread-safe: a worker owns it. Batch composition never changes a sequence's tokens.
class generation_loop {
 public:
  /// Refuses where the memory for a usable KV cache is not there.
  static result<std::unique_ptr<generation_loop>> create(std::shared_ptr<const model> model,
                                                         const generation_options& options);
  ~generation_loop();

  /// Queues a sequence; see scheduler.hpp for whose turn is when. max_tokens is cut to what the context
  /// length leaves; a sequence that has its tokens already (`emitted`) finishes with the next step. Refuses
  /// invalid parameters, a JSON schema that cannot be used or does not fit `emitted`, and an id in use
  /// (invalid_request), a prompt that leaves no room for a token (prompt_too_long), a full queue
  /// (queue_full).
  result<void> submit(generation_request request);

  /// Ends a sequence and frees its memory now; its final event (finish_reason::cancelled) comes with the next
  /// step. Unknown ids are ignored.
  void cancel(request_id id);

  /// One forward pass and its events: the next token of every sequence that decodes, and up to prefill_chunk
  /// prompt tokens of those that do not yet. Returns at once with no events when idle. Blocks for the length
  /// of the pass, unless `progress().cancel` is set: then it gives up at the next layer, clears the flag and
  /// leaves all sequences as they were, so that the next step does the work again.
  std::vector<generation_event> step();

  /// Nothing runs, waits or has an event to deliver.
  bool idle() const noexcept;

  generation_stats stats() const noexcept;

  /// Readable from any thread while a step runs.
  struct progress& progress() noexcept;

  /// Hash of the logits (bits of every float, FNV-1a) of a fixed probe prompt, computed apart from running
  /// sequences in a KV block of its own, by a prefill and a decode step. It is the same at every call on a
  /// sound engine. Fails (internal) on logits that are not numbers, and when `progress().cancel` stopped it.
  result<std::uint64_t> probe_hash();

  /// Loses up to `count` free KV blocks for as long as the loop lives, as a leak would, and returns how many.
  /// For drills.
  std::size_t leak_kv_blocks(std::size_t count);

 private:
  struct state;
  explicit generation_loop(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

}  // namespace bitnet::engine
