#pragma once

#include "engine/model_config.hpp"

#include <cstddef>

namespace bitnet::engine {

/// A token that may come next.
struct candidate {
  token_id id = 0;
  float logit = 0.0F;
};

/// Whoever chooses among more than this many gets all logits.
inline constexpr std::size_t most_candidates = 64;

}  // namespace bitnet::engine
