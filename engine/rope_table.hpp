#pragma once

#include "engine/model_config.hpp"

#include <cstddef>
#include <vector>

namespace bitnet::engine {

/// Cosines and sines of rotary position embeddings (Su et al., RoFormer, 2021, section 3.4.2): pair i of a
/// head at position p turns by p * theta^(-2 i / head_dim). Computed in extended precision and rounded once
/// to float, so that the table does not depend on how a C library rounds its doubles.
class rope_table {
 public:
  /// For all positions below config.context_length. Takes 8 * context_length * head_dim / 2 bytes.
  explicit rope_table(const model_config& config);

  /// head_dim / 2 values. Precondition: position < context_length.
  const float* cos(std::size_t position) const noexcept { return cos_.data() + position * pairs_; }
  const float* sin(std::size_t position) const noexcept { return sin_.data() + position * pairs_; }

 private:
  std::size_t pairs_;
  std::vector<float> cos_;
  std::vector<float> sin_;
};

}  // namespace bitnet::engine
