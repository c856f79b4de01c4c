#pragma once

#include "engine/candidate.hpp"
#include "engine/error.hpp"
#include "engine/model_config.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace bitnet::engine {

/// How the next token is chosen. The defaults are the OpenAI API's.
struct sampling_params {
  float temperature = 1.0F;         ///< [0, 2]; 0 is greedy
  float top_p = 1.0F;               ///< (0, 1]
  float min_p = 0.0F;               ///< [0, 1]
  std::uint32_t top_k = 0;          ///< 0: all
  float repetition_penalty = 1.0F;  ///< (0, 2]
  float frequency_penalty = 0.0F;   ///< [-2, 2]
  float presence_penalty = 0.0F;    ///< [-2, 2]
  std::uint64_t seed = 0;
  std::vector<std::pair<token_id, float>> logit_bias;  ///< added to the logit, [-100, 100]
};

struct token_logprob {
  token_id id = 0;
  float logprob = 0.0F;  ///< natural logarithm, under the unmodified distribution; finite
};

struct sampled_token {
  token_id id = 0;
  float logprob = 0.0F;            ///< only where asked for
  std::vector<token_logprob> top;  ///< only where asked for, most likely first
};

/// Which tokens may be chosen: those whose bit is set in `allowed` ([vocabulary size], the lowest bit first)
/// and those in `also`. Without `allowed`: all.
struct token_filter {
  std::span<const std::uint64_t> allowed;
  std::span<const token_id> also;
};

/// Refuses parameters out of the ranges above (NaN included) with a sentence that names the parameter.
result<void> validate(const sampling_params& params, const model_config& config);

/// How many of the best logits decide the token: 1 for greedy, else top_k; 0 where all are needed, because
/// they are changed first, or more than most_candidates may be chosen.
std::size_t candidates_needed(const sampling_params& params) noexcept;

/// Chooses a token from one row of logits. A pure function of its arguments: the random number comes from a
/// counter-based generator keyed (seed, position), so a resumed sequence goes on as it would have.
///
/// In this order: repetition penalty (prompt and completion: positive logits are divided by it, negative ones
/// multiplied), frequency and presence penalty (completion only, subtracted), logit bias (added), the filter
/// (what it does not allow is as if it were not there), top_k (the k greatest logits), temperature, top_p
/// (the fewest most likely tokens that hold this share of what top_k left), min_p (tokens at least this
/// fraction as likely as the most likely one). Among equals the smaller id counts as more likely. Greedy
/// (temperature below 1e-5, or top_k 1) takes the most likely after penalties and bias. Nothing that top_k
/// leaves out takes part in any sum: the k greatest logits alone decide.
///
/// Reuses scratch memory: one sampler a thread.
class sampler {
 public:
  explicit sampler(std::size_t vocabulary_size);

  /// `history`: prompt and generated ids, for the penalties; the last `generated` of them are the completion.
  /// `position`: index in the sequence of the token to be chosen. Fails (internal) where a logit is NaN or
  /// positive infinity, and where the filter leaves no token; negative infinity is a token that cannot be
  /// chosen. O(vocabulary), no sort of it.
  result<sampled_token> sample(std::span<const float> logits, const sampling_params& params,
                               std::span<const token_id> history, std::size_t generated,
                               std::uint64_t position, std::uint32_t top_logprobs, bool want_logprob,
                               const token_filter& filter = {});

  /// The same token from the candidates_needed(params) greatest logits alone, the best first (of equals the
  /// smaller id). All, but for negative infinity behind others, must be finite; not empty.
  token_id sample(std::span<const candidate> best, const sampling_params& params, std::uint64_t position);

 private:
  /// The last entry of scratch_ kept, in the order of falling probability and rising ids.
  struct cutoff {
    float probability;
    std::size_t index;
    bool keeps(float p, std::size_t i) const noexcept {
      return p > probability || (p == probability && i <= index);
    }
  };

  void apply_penalties(const sampling_params& params, std::span<const token_id> history,
                       std::size_t generated);
  void apply_filter(const token_filter& filter);
  void keep_greatest(std::size_t count);
  cutoff find_cutoff(double share);
  token_id draw(const sampling_params& params, std::uint64_t position);
  void add_logprobs(std::span<const float> logits, std::uint32_t top_logprobs, sampled_token& out);

  std::vector<float> kept_;      ///< logits of the filter's `also`
  std::vector<float> scratch_;   ///< logits, then probabilities: of all tokens, or of those in ids_
  std::vector<token_id> ids_;    ///< rising; empty: scratch_ has an entry for every token
  std::vector<token_id> order_;  ///< the history sorted, or entries of one bucket
  std::vector<double> bucket_mass_;
};

/// The uniform random number in [0, 1) that decides the token at `position` of a sequence with this seed:
/// 53 bits of Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC
/// 2011).
double uniform_random(std::uint64_t seed, std::uint64_t position) noexcept;

}  // namespace bitnet::engine
