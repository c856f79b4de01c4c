#pragma once

#include "engine/weights.hpp"

#include <span>
#include <vector>

namespace bitnet::tests {

/// Logits [tokens][vocabulary_size] of a whole sequence, written as the formulas are: double arithmetic, no
/// cache, no batch, weights unpacked one row at a time. Keys and values are rounded to binary16 and
/// activations to 8 bits, as the model is defined to run; otherwise nothing is shared with the engine.
std::vector<std::vector<double>> reference_forward(const engine::model_weights& weights,
                                                   std::span<const engine::token_id> tokens);

}  // namespace bitnet::tests
