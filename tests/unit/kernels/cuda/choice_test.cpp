// What the device chooses of rows of logits, against sorting them.

#include "kernels/cuda/operators.hpp"
#include "tests/unit/kernels/cuda/device_array.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <vector>

namespace {

using namespace bitnet;
using namespace bitnet::kernels::cuda;
using tests::device_array;
using tests::needs_device;

constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<float> random_floats(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(n);
  for (auto& x : values) x = distribution(random);
  return values;
}

/// What the device is to select: the greatest 64, of equals the smaller token first.
std::vector<choice> best_of(std::span<const float> row) {
  std::vector<choice> all;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (std::isnan(row[i]) || row[i] == infinity) return {choice{}};
    all.push_back({static_cast<std::int32_t>(i), row[i]});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const choice& a, const choice& b) { return a.value > b.value; });
  if (all.front().value == -infinity) return {choice{}};
  all.resize(std::min(all.size(), choices_a_row));
  return all;
}

/// Rows of all kinds: drawn, with few different values, without a choice, with infinity, in order.
std::vector<std::vector<float>> rows_to_choose_from(std::size_t vocabulary) {
  std::vector<std::vector<float>> rows;
  rows.push_back(random_floats(vocabulary, 31));
  rows.push_back(random_floats(vocabulary, 32));
  for (auto& x : rows.back()) x = std::round(2 * x) / 2;  // many equals, zeros of both signs
  rows.emplace_back(vocabulary, -2.0F);
  rows.emplace_back(vocabulary, -infinity);
  rows.emplace_back(vocabulary, -infinity);
  rows.back().back() = -7.0F;
  for (const float bad : {std::nanf(""), -std::nanf(""), infinity}) {
    rows.push_back(rows.front());
    rows.back()[vocabulary / 2] = bad;
  }
  rows.emplace_back(vocabulary);
  std::iota(rows.back().begin(), rows.back().end(), -3.0F);
  rows.push_back(rows.back());
  std::reverse(rows.back().begin(), rows.back().end());
  rows.push_back(rows.front());
  rows.back().back() = std::numeric_limits<float>::max();
  return rows;
}

void check_choices(std::size_t vocabulary) {
  const auto rows = rows_to_choose_from(vocabulary);
  const std::size_t stride = vocabulary + 3;  // what lies between rows is no candidate
  std::vector<float> logits(rows.size() * stride, infinity);
  for (std::size_t r = 0; r < rows.size(); ++r)
    std::copy(rows[r].begin(), rows[r].end(), logits.begin() + static_cast<std::ptrdiff_t>(r * stride));
  const device_array<float> values(logits);
  const device_array<choice> greatest(rows.size());
  const device_array<choice> best(rows.size() * choices_a_row);
  const device_array<std::uint64_t> scratch(rows.size() * selection_slices(vocabulary) * choices_a_row);
  auto* const on = tests::test_stream().handle();
  choose_greatest(values.get(), stride, vocabulary, rows.size(), greatest.get(), on);
  choose_best(values.get(), stride, vocabulary, rows.size(), scratch.get(), best.get(), on);
  const auto got_greatest = greatest.read();
  const auto got = best.read();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto expected = best_of(rows[r]);
    BOOST_TEST(got_greatest[r].token == expected.front().token, "greatest of row " << r);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto& c = got[r * choices_a_row + i];
      BOOST_TEST((c.token == expected[i].token && c.value == expected[i].value),
                 "row " << r << ", choice " << i << ": " << c.token << " with " << c.value << ", not "
                        << expected[i].token << " with " << expected[i].value);
    }
    // Behind the last of a small vocabulary there is none.
    for (std::size_t i = expected.size(); expected.front().token >= 0 && i < choices_a_row; ++i)
      BOOST_TEST(got[r * choices_a_row + i].token == -1);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cuda_choice)

BOOST_AUTO_TEST_CASE(the_best_logits_are_chosen_in_order_and_of_equals_the_smaller_token, *needs_device()) {
  for (const std::size_t vocabulary : {1, 63, 64, 65, 1500, 2048, 2049, 4321})
    BOOST_TEST_CONTEXT("vocabulary " << vocabulary) {
      check_choices(vocabulary);
    }
}

BOOST_AUTO_TEST_CASE(the_best_logits_of_more_slices_than_one_block_takes_at_once, *needs_device()) {
  check_choices(33 * selection_slice + 5);  // two rounds
}

BOOST_AUTO_TEST_SUITE_END()
