#pragma once

#include "engine/error.hpp"
#include "engine/model_config.hpp"

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

/// Refuses parameters out of the ranges above (NaN included) with a sentence that names the parameter.
result<void> validate(const sampling_params& params, const model_config& config);

/// Chooses a token from one row of logits. A pure function of its arguments: the random number comes from a
/// counter-based generator keyed (seed, position), so a resumed sequence goes on as it would have.
/// `history`: prompt and generated ids, for the penalties; the last `generated` of them are the completion.
/// Ties go to the smaller id. Fails where a logit is NaN.
/// Reuses scratch memory: one sampler a thread.
class sampler {
 public:
  explicit sampler(std::size_t vocabulary_size);
  result<sampled_token> sample(std::span<const float> logits, const sampling_params& params,
                               std::span<const token_id> history, std::size_t generated,
                               std::uint64_t position, std::uint32_t top_logprobs, bool want_logprob);

 private:
  std::vector<float> scratch_;
  std::vector<token_id> order_;
};

}  // namespace bitnet::engine
