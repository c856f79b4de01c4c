#include "kernels/head_screen.hpp"

#include "tests/unit/kernels/matmul_checks.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

// The folded copy of the head: what its codes say, that every instruction set that this machine has finds the
// same scores and logits, and which rows are taken.

namespace {

using bitnet::kernels::candidate_selector;
using bitnet::kernels::head_matrix;
using bitnet::kernels::head_screen;
using bitnet::test::activations;

std::vector<float> random_weights(std::size_t rows, std::size_t cols, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  std::vector<float> values(rows * cols);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto col = static_cast<float>(i % cols);
    values[i] = (1.0F + col) * normal(random) + 3.0F * col;  // columns of different means and deviations
  }
  return values;
}

std::vector<std::uint32_t> selected(const std::vector<std::int32_t>& scores, std::size_t count) {
  std::vector<std::int32_t> maxima;
  for (std::size_t first = 0; first < scores.size(); first += 32)
    maxima.push_back(
        *std::max_element(scores.begin() + static_cast<std::ptrdiff_t>(first),
                          scores.begin() + static_cast<std::ptrdiff_t>(std::min(first + 32, scores.size()))));
  candidate_selector selector(scores.size());
  std::vector<std::uint32_t> out(count);
  selector.select(scores, maxima, out);
  return out;
}

std::vector<std::uint32_t> best_by_sorting(const std::vector<std::int32_t>& scores, std::size_t count) {
  std::vector<std::uint32_t> ids(scores.size());
  std::iota(ids.begin(), ids.end(), 0U);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return scores[a] > scores[b]; });
  ids.resize(count);
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(head_screen_test)

BOOST_AUTO_TEST_CASE(codes_are_the_folded_weights_in_sixteen_levels) {
  constexpr std::size_t rows = 77;
  constexpr std::size_t cols = 70;
  const auto head = bitnet::test::pack_int8_head(random_weights(rows, cols, 1), rows, cols);
  const auto screen = bitnet::test::make_screen(head);
  std::vector<float> factors(screen.factors().begin(), screen.factors().end());
  for (std::size_t k = 0; k < cols; ++k) {
    double mean = 0;
    double squares = 0;
    const auto weight = [&](std::size_t r) {
      return static_cast<double>(head.row_scales()[r]) *
             (head.int8_block(r / 32)[head_matrix::int8_offset_in_block(r % 32, k)] - 128);
    };
    for (std::size_t r = 0; r < rows; ++r) mean += weight(r) / rows;
    for (std::size_t r = 0; r < rows; ++r) squares += (weight(r) - mean) * (weight(r) - mean) / rows;
    BOOST_TEST(static_cast<double>(factors[k]) == std::sqrt(squares), boost::test_tools::tolerance(1e-4));
    for (std::size_t r = 0; r < rows; ++r) {
      const double deviations = (weight(r) - mean) / std::sqrt(squares);
      const int code = screen.block(r / 32)[k / 4 * 64 + r % 16 * 4 + k % 4] >> (r % 32 / 16 * 4) & 15;
      const double exact = deviations * 16 / (2 * 2.9) + 8;
      BOOST_TEST(code >= std::clamp(std::floor(exact - 1e-3), 0.0, 15.0));
      BOOST_TEST(code <= std::clamp(std::floor(exact + 1e-3), 0.0, 15.0));
    }
  }
}

BOOST_AUTO_TEST_CASE(columns_of_one_value_and_rows_that_are_not_finite_do_no_harm) {
  constexpr std::size_t rows = 40;
  constexpr std::size_t cols = 65;
  auto values = random_weights(rows, cols, 2);
  values[7 * cols + 3] = std::numeric_limits<float>::infinity();
  for (std::size_t r = 0; r < rows; ++r) values[r * cols + 64] = 0.0F;
  const auto screen = bitnet::test::make_screen(bitnet::test::pack_int8_head(values, rows, cols));
  for (const float factor : screen.factors()) BOOST_TEST(std::isfinite(factor));
  BOOST_TEST(screen.factors()[64] == 0.0F);
  BOOST_TEST(screen.factors()[0] > 0.0F);
}

BOOST_AUTO_TEST_CASE(scores_are_exact_for_odd_shapes_and_any_split) {
  for (const auto isa : bitnet::kernels::supported_instruction_sets()) {
    BOOST_TEST_CONTEXT(to_string(isa)) {
      const auto& products = bitnet::kernels::matmul_kernels_for(isa);
      const auto check = [&](const bitnet::test::matmul_shape& shape, activations kind) {
        bitnet::test::check_screen_scores(bitnet::kernels::head_screen_kernels_for(isa), shape, kind,
                                          products.layout(shape.tokens));
      };
      for (const auto& shape : bitnet::test::odd_shapes()) check(shape, activations::random);
      for (const auto kind : {activations::lowest, activations::highest, activations::zero})
        for (const std::size_t tokens : {1, 2, 5, 17}) check({167, 2000, tokens}, kind);
      for (const auto kind : {activations::lowest, activations::highest})
        for (const std::size_t tokens : {1, 16}) check({40, bitnet::kernels::max_matrix_cols, tokens}, kind);
    }
  }
}

BOOST_AUTO_TEST_CASE(rescored_rows_have_the_bits_of_the_int8_head) {
  for (const auto isa : bitnet::kernels::supported_instruction_sets()) {
    BOOST_TEST_CONTEXT(to_string(isa)) {
      const auto& table = bitnet::kernels::head_screen_kernels_for(isa);
      for (const auto layout :
           {bitnet::kernels::activation_layout::rows, bitnet::kernels::activation_layout::tiles})
        for (const auto& shape : bitnet::test::odd_shapes())
          bitnet::test::check_rescoring(table, shape, layout);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_greatest_scores_are_taken_and_of_equals_the_smaller_ids) {
  std::mt19937 random(3);
  // Few values: most scores are equal to others.
  for (const std::int32_t values : {1, 2, 5, 1000, std::numeric_limits<std::int32_t>::max()}) {
    for (const std::size_t n : {1, 31, 32, 33, 100, 1000, 4099}) {
      std::vector<std::int32_t> scores(n);
      for (auto& score : scores)
        score = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(values)) - values / 2;
      for (const std::size_t count : {std::size_t{1}, std::size_t{2}, n / 32, n / 3, n - 1, n}) {
        if (count == 0 || count > n) continue;
        BOOST_TEST(selected(scores, count) == best_by_sorting(scores, count),
                   n << " scores of " << values << " values, the best " << count);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_ends_of_the_range_of_scores_are_ordered) {
  std::vector<std::int32_t> scores(70, 0);
  scores[3] = std::numeric_limits<std::int32_t>::min();
  scores[40] = std::numeric_limits<std::int32_t>::max();
  scores[69] = -1;
  const std::vector<std::uint32_t> best = {40};
  BOOST_TEST(selected(scores, 1) == best);
  const auto most = selected(scores, 68);
  BOOST_TEST((std::ranges::find(most, 3U) == most.end()));
  BOOST_TEST((std::ranges::find(most, 69U) == most.end()));
}

BOOST_AUTO_TEST_SUITE_END()
