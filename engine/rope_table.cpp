#include "engine/rope_table.hpp"

#include <cmath>

namespace bitnet::engine {

rope_table::rope_table(const model_config& config)
    : pairs_(config.head_dim / 2),
      cos_(std::size_t{config.context_length} * pairs_),
      sin_(std::size_t{config.context_length} * pairs_) {
  // Positions are split as 64 a + b; the angles' sum formulas join the halves, which spares all but a few
  // calls of sin and cos.
  constexpr std::size_t stride = 64;
  const std::size_t positions = config.context_length;
  struct turn {
    long double cos;
    long double sin;
  };
  std::vector<turn> fine(stride);
  std::vector<turn> coarse((positions + stride - 1) / stride);
  for (std::size_t i = 0; i < pairs_; ++i) {
    const auto frequency =
        std::pow(static_cast<long double>(config.rope_theta),
                 -2.0L * static_cast<long double>(i) / static_cast<long double>(config.head_dim));
    const auto turn_by = [frequency](std::size_t position) {
      const auto angle = static_cast<long double>(position) * frequency;
      return turn{std::cos(angle), std::sin(angle)};
    };
    for (std::size_t b = 0; b < stride; ++b) fine[b] = turn_by(b);
    for (std::size_t a = 0; a < coarse.size(); ++a) coarse[a] = turn_by(a * stride);
    for (std::size_t p = 0; p < positions; ++p) {
      const auto& a = coarse[p / stride];
      const auto& b = fine[p % stride];
      cos_[p * pairs_ + i] = static_cast<float>(a.cos * b.cos - a.sin * b.sin);
      sin_[p * pairs_ + i] = static_cast<float>(a.sin * b.cos + a.cos * b.sin);
    }
  }
}

}  // namespace bitnet::engine
