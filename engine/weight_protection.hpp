#pragma once

#include "engine/error.hpp"
#include "engine/weights.hpp"

#include <cstddef>
#include <string>

namespace bitnet::engine {

/// Makes the packed matrices read-only: a stray write then ends the process instead of changing answers.
/// Norms and scales, a few KiB on the heap, stay writable. Returns the bytes protected.
std::size_t protect_weights(const model_weights& weights);

/// Flips the lowest bit of one byte of a region (weight_regions() names them; empty: the largest), as a
/// memory fault would; packed matrices are read-only afterwards. Returns the region's name. For drills.
result<std::string> flip_weight_bit(const model_weights& weights, const std::string& region,
                                    std::size_t offset);

/// Makes one norm weight that every forward pass reads not a number, or restores it. Returns what it was. For
/// drills.
float exchange_output_norm(const model_weights& weights, float value) noexcept;

}  // namespace bitnet::engine
