#pragma once

#include "engine/model.hpp"

#include <cstdint>
#include <memory>

namespace bitnet::tests {

/// A small shape with odd sizes: nothing is a multiple of 64, query heads share KV heads.
engine::model_config small_config();

/// A model in memory, without file and tokenizer, whose weights are drawn from `seed`. Same arguments, same
/// weights on every machine. Its logits are spread like those of a trained model (standard deviation about
/// 3).
std::unique_ptr<engine::model> random_model(
    const engine::model_config& config, std::uint32_t seed = 1,
    kernels::head_matrix::format head = kernels::head_matrix::format::int8);

}  // namespace bitnet::tests
