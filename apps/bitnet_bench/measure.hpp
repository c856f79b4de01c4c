#pragma once

#include "apps/bitnet_bench/options.hpp"
#include "engine/generation.hpp"
#include "engine/transformer.hpp"

#include <memory>
#include <vector>

namespace bitnet::apps::bench {

/// One entry a repetition, in tokens per second over all sequences.
struct measurement {
  std::vector<double> prompt_rates;
  std::vector<double> generate_rates;
  engine::forward_profile prompt_profile;  ///< over all repetitions; empty unless asked for
  engine::forward_profile generate_profile;
};

/// Runs the repetitions after a short warm-up. Prompts are drawn at random, sampling is greedy, and every
/// repetition generates at the context depth that its prompts give.
engine::result<measurement> measure(std::shared_ptr<const engine::model> model, const options& chosen);

/// Logits [tokens][vocabulary_size] after each token of one sequence.
engine::result<std::vector<std::vector<float>>> logits_of(const engine::model& model, const options& chosen);

}  // namespace bitnet::apps::bench
