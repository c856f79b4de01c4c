#pragma once

#include "kernels/base3.hpp"
#include "kernels/head_screen.hpp"
#include "kernels/matmul.hpp"

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

// Checks of one table of matrix products against sums written out from the unpacked weights. The suites run
// them over every table the machine can run, and over emulated ones.

namespace bitnet::test {

struct matmul_shape {
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t tokens = 0;
};

std::string to_string(const matmul_shape& shape);

/// Which activations a check uses.
enum class activations { random, lowest, highest, zero };

/// Row-major random weights in {-1, 0, 1}.
std::vector<std::int8_t> random_ternary(std::size_t rows, std::size_t cols, std::uint64_t seed);

kernels::ternary_matrix pack_ternary(std::span<const std::int8_t> weights, std::size_t rows, std::size_t cols,
                                     float scale);

/// Each multiplies once with all blocks in one range and once with one range a block, `y` misaligned and
/// surrounded by sentinels, and reports every wrong or overwritten element through Boost.Test.
void check_ternary_matmul(const kernels::matmul_kernels& table, const matmul_shape& shape, activations kind);
/// The products that a table adds to what is there, and those that it gates, where it does.
void check_fused_matmul(const kernels::matmul_kernels& table, const matmul_shape& shape);
void check_base3_matmul(kernels::base3_matmul multiply, const matmul_shape& shape, activations kind);
void check_head_int8(const kernels::matmul_kernels& table, const matmul_shape& shape, activations kind);
void check_head_f16(const kernels::matmul_kernels& table, const matmul_shape& shape);

/// An int8 head from row-major values, and its screen.
kernels::head_matrix pack_int8_head(std::span<const float> values, std::size_t rows, std::size_t cols);
kernels::head_screen make_screen(const kernels::head_matrix& head);

void check_screen_scores(const kernels::head_screen_kernels& table, const matmul_shape& shape,
                         activations kind, kernels::activation_layout layout);
/// Every row, and some of them, of every token.
void check_rescoring(const kernels::head_screen_kernels& table, const matmul_shape& shape,
                     kernels::activation_layout layout);

/// Quantises rows of cols floats from each of several distributions, as one of `tokens`, and compares them
/// with the rule.
void check_quantize_row(const kernels::matmul_kernels& table, std::size_t tokens, std::size_t cols);

/// Shapes with tails in every dimension: each takes a few milliseconds.
std::vector<matmul_shape> odd_shapes();

}  // namespace bitnet::test
