#include "engine/sampler.hpp"

#include "tests/support/random_model.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace {

using namespace bitnet;
using engine::sampling_params;
using engine::token_id;

constexpr float infinity = std::numeric_limits<float>::infinity();

token_id choose(const std::vector<float>& logits, const sampling_params& params, std::uint64_t position = 0,
                const std::vector<token_id>& history = {}, std::size_t generated = 0) {
  engine::sampler s(logits.size());
  return s.sample(logits, params, history, generated, position, 0, false).value().id;
}

std::vector<double> softmax(std::vector<double> x, double temperature) {
  const auto largest = *std::max_element(x.begin(), x.end());
  for (auto& v : x) v = std::exp((v - largest) / temperature);
  const auto sum = std::accumulate(x.begin(), x.end(), 0.0);
  for (auto& v : x) v /= sum;
  return x;
}

/// How often each token comes in `draws` draws, one a position.
std::vector<int> histogram(const std::vector<float>& logits, const sampling_params& params, int draws) {
  engine::sampler s(logits.size());
  std::vector<int> counts(logits.size());
  for (int i = 0; i < draws; ++i)
    ++counts[s.sample(logits, params, {}, 0, static_cast<std::uint64_t>(i), 0, false).value().id];
  return counts;
}

/// Chi-square statistic of counts against probabilities; a token of probability 0 must not have been drawn.
double chi_square(const std::vector<int>& counts, const std::vector<double>& probabilities) {
  const auto draws = std::accumulate(counts.begin(), counts.end(), 0);
  double statistic = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto expected = probabilities[i] * draws;
    if (expected == 0) {
      BOOST_TEST(counts[i] == 0, "token " << i << " must not be drawn");
      continue;
    }
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return statistic;
}

/// Expected probabilities by the definition: sort everything, cut, renormalise.
std::vector<double> expected_distribution(const std::vector<float>& logits, const sampling_params& params) {
  const auto p = softmax({logits.begin(), logits.end()}, static_cast<double>(params.temperature));
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return p[a] > p[b]; });
  if (params.top_k != 0) order.resize(std::min<std::size_t>(order.size(), params.top_k));
  double mass = 0;
  for (const auto i : order) mass += p[i];
  double sum = 0;
  std::size_t keep = 0;
  while (keep < order.size() && sum < static_cast<double>(params.top_p) * mass) sum += p[order[keep++]];
  order.resize(std::max<std::size_t>(keep, 1));
  std::vector<double> kept(p.size());
  for (const auto i : order) {
    if (p[i] >= static_cast<double>(params.min_p) * p[order.front()]) kept[i] = p[i];
  }
  const auto total = std::accumulate(kept.begin(), kept.end(), 0.0);
  for (auto& v : kept) v /= total;
  return kept;
}

std::vector<float> twelve_logits() {
  return {0.3F, 2.0F, -1.0F, 1.2F, 0.0F, 1.19F, -4.0F, 0.9F, 1.7F, -0.4F, 0.5F, -2.5F};
}

/// 99.9 % quantile of the chi-square distribution with 11 degrees of freedom; fewer degrees stay below.
constexpr double chi_square_limit = 31.3;

void check_distribution(const sampling_params& params) {
  const auto counts = histogram(twelve_logits(), params, 6'000);
  BOOST_TEST(chi_square(counts, expected_distribution(twelve_logits(), params)) < chi_square_limit);
}

sampling_params greedy() {
  sampling_params params;
  params.temperature = 0;
  return params;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(sampler)

BOOST_AUTO_TEST_CASE(greedy_takes_the_largest_and_of_equals_the_first) {
  BOOST_TEST(choose({1, 3, 2}, greedy()) == 1U);
  BOOST_TEST(choose({1, 3, 3, 3}, greedy()) == 1U);
  BOOST_TEST(choose({-infinity, -7, -infinity}, greedy()) == 1U);
  sampling_params top_one;
  top_one.top_k = 1;
  for (std::uint64_t position = 0; position < 50; ++position)
    BOOST_TEST(choose({1, 3, 3, 2.99F}, top_one, position) == 1U);
}

BOOST_AUTO_TEST_CASE(a_filter_leaves_the_distribution_of_what_it_allows) {
  engine::sampler s(70);
  std::vector<float> logits(70, 0.5F);
  logits[3] = 9;
  logits[69] = 1;
  const std::vector<std::uint64_t> allowed{std::uint64_t{1} << 5U | std::uint64_t{1} << 6U,
                                           std::uint64_t{1} << 5U};
  const std::vector<token_id> also{7};
  std::vector<int> counts(70);
  for (std::uint64_t i = 0; i < 4000; ++i)
    ++counts[s.sample(logits, {}, {}, 0, i, 0, false, {allowed, also}).value().id];
  std::vector<double> expected(70);
  for (const auto id : {5, 6, 7}) expected[static_cast<std::size_t>(id)] = 1;
  expected[69] = std::exp(0.5);
  for (auto& p : expected) p /= 3 + std::exp(0.5);
  BOOST_TEST(chi_square(counts, expected) < chi_square_limit);
  // Greedy and log-probabilities: the choice is filtered, what is reported is the model's own.
  const auto chosen = s.sample(logits, greedy(), {}, 0, 0, 1, true, {allowed, {}}).value();
  BOOST_TEST(chosen.id == 69U);
  BOOST_TEST(chosen.top.front().id == 3U);
  const std::vector<std::uint64_t> nothing{0, 0};
  BOOST_TEST(!s.sample(logits, greedy(), {}, 0, 0, 0, false, {nothing, {}}).has_value());
}

BOOST_AUTO_TEST_CASE(equals_at_the_edge_of_top_k_are_taken_from_the_smaller_ids) {
  sampling_params params;
  params.top_k = 3;
  const auto counts = histogram({1, 0, 0, 0, 0, -1}, params, 3000);
  BOOST_TEST(counts[1] > 0);
  BOOST_TEST(counts[2] > 0);
  BOOST_TEST(counts[3] + counts[4] + counts[5] == 0);
}

namespace {

/// The greatest `count`, as a device would hand them over.
std::vector<engine::candidate> best_of(const std::vector<float>& logits, std::size_t count) {
  std::vector<engine::candidate> all;
  for (token_id id = 0; id < logits.size(); ++id) all.push_back({id, logits[id]});
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.logit > b.logit; });
  all.resize(std::min(all.size(), count));
  return all;
}

/// Rows with many equals, with zeros of both signs, with tokens that cannot be chosen, and with logits so far
/// apart that most have no probability.
std::vector<std::vector<float>> rows_of_logits(std::size_t vocabulary) {
  std::uint32_t x = 7;
  const auto random = [&x] {
    x = x * 1664525U + 1013904223U;
    return static_cast<float>(x >> 16U) / 65536.0F - 0.5F;
  };
  std::vector<std::vector<float>> rows(5, std::vector<float>(vocabulary));
  for (std::size_t i = 0; i < vocabulary; ++i) {
    rows[0][i] = 20 * random();
    rows[1][i] = std::round(6 * random());
    rows[2][i] = i % 3 == 0 ? 4 * random() : -infinity;
    rows[3][i] = 1e30F * random();
    rows[4][i] = 1e-7F * random();  // all probabilities are about equal: logits decide who is among the best
  }
  rows[2][0] = 0;
  return rows;
}

}  // namespace

BOOST_AUTO_TEST_CASE(candidates_give_the_token_that_all_logits_give) {
  for (const std::size_t vocabulary : {1, 5, 64, 3000}) {
    engine::sampler s(vocabulary);
    for (const auto& logits : rows_of_logits(vocabulary)) {
      for (const std::uint32_t top_k : {1, 2, 7, 64}) {
        for (const auto temperature : {0.0F, 0.4F, 2.0F}) {
          for (const auto top_p : {1.0F, 0.8F}) {
            sampling_params params;
            params.top_k = top_k;
            params.temperature = temperature;
            params.top_p = top_p;
            params.min_p = top_k == 7 ? 0.1F : 0.0F;
            params.seed = 17 * top_k;
            const auto best = best_of(logits, engine::candidates_needed(params));
            for (std::uint64_t position = 0; position < 20; ++position)
              BOOST_REQUIRE(s.sample(best, params, position) ==
                            s.sample(logits, params, {}, 0, position, 0, false).value().id);
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(candidates_do_where_nothing_else_is_asked_of_the_logits) {
  sampling_params params;
  BOOST_TEST(engine::candidates_needed(params) == 0U);  // drawn from all
  BOOST_TEST(engine::candidates_needed(greedy()) == 1U);
  params.top_k = 40;
  BOOST_TEST(engine::candidates_needed(params) == 40U);
  for (const auto change :
       {+[](sampling_params& p) { p.top_k = 65; }, +[](sampling_params& p) { p.repetition_penalty = 1.1F; },
        +[](sampling_params& p) { p.frequency_penalty = 0.1F; },
        +[](sampling_params& p) { p.presence_penalty = 0.1F; },
        +[](sampling_params& p) {
          p.logit_bias = {{1, 1.0F}};
        }}) {
    auto changed = params;
    change(changed);
    BOOST_TEST(engine::candidates_needed(changed) == 0U);
  }
}

BOOST_AUTO_TEST_CASE(draws_follow_the_softmax_at_every_temperature) {
  for (const auto temperature : {0.3F, 0.7F, 1.0F, 2.0F}) {
    sampling_params params;
    params.temperature = temperature;
    params.seed = 12;
    check_distribution(params);
  }
  // The comparison can fail.
  sampling_params params;
  auto other = params;
  other.temperature = 0.9F;
  BOOST_TEST(chi_square(histogram(twelve_logits(), params, 40'000),
                        expected_distribution(twelve_logits(), other)) > chi_square_limit);
}

BOOST_AUTO_TEST_CASE(draws_follow_each_cut_and_all_together) {
  for (const std::uint32_t top_k : {0, 2, 5, 12, 100}) {
    for (const auto top_p : {1.0F, 0.95F, 0.6F, 0.1F}) {
      for (const auto min_p : {0.0F, 0.2F, 1.0F}) {
        BOOST_TEST_CONTEXT("top_k " << top_k << ", top_p " << top_p << ", min_p " << min_p) {
          sampling_params params;
          params.top_k = top_k;
          params.top_p = top_p;
          params.min_p = min_p;
          params.seed = 99;
          check_distribution(params);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(cuts_of_a_large_vocabulary_keep_what_sorting_keeps) {
  std::vector<float> logits(20'000);
  std::uint32_t x = 1;
  for (auto& logit : logits) {
    x = x * 1664525U + 1013904223U;
    logit = static_cast<float>(x >> 16U) / 8192.0F;  // many equal ones
  }
  for (const std::uint32_t top_k : {0, 7, 1000}) {
    for (const auto top_p : {0.999F, 0.5F, 0.05F}) {
      sampling_params params;
      params.top_k = top_k;
      params.top_p = top_p;
      const auto expected = expected_distribution(logits, params);
      const auto kept = std::count_if(expected.begin(), expected.end(), [](double p) { return p > 0; });
      std::size_t outside = 0;
      engine::sampler s(logits.size());
      for (std::uint64_t position = 0; position < 300; ++position) {
        const auto id = s.sample(logits, params, {}, 0, position, 0, false).value().id;
        outside += expected[id] == 0 ? 1 : 0;
      }
      // Float and double sums may disagree about the one token at the edge.
      BOOST_TEST(outside <= (kept > 1000 ? 1U : 0U), "top_k " << top_k << ", top_p " << top_p);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_choice_depends_on_seed_and_position_alone) {
  const auto logits = twelve_logits();
  sampling_params a;
  a.seed = 5;
  auto b = a;
  b.seed = 6;
  engine::sampler used(logits.size());
  std::size_t same_as_other_seed = 0;
  std::size_t same_as_next_position = 0;
  for (std::uint64_t position = 0; position < 200; ++position) {
    const auto first = used.sample(logits, a, {}, 0, position, 5, true).value().id;
    BOOST_TEST(first == choose(logits, a, position));
    same_as_other_seed += first == choose(logits, b, position) ? 1 : 0;
    same_as_next_position += first == choose(logits, a, position + 1) ? 1 : 0;
  }
  BOOST_TEST(same_as_other_seed < 100U);
  BOOST_TEST(same_as_next_position < 100U);
}

BOOST_AUTO_TEST_CASE(random_numbers_are_those_of_philox) {
  // Known answers of Philox4x32-10 in the Random123 distribution (kat_vectors): the first two words of the
  // output for counter and key all zero are 6627e8d5 and e169c58d.
  const auto expected =
      static_cast<double>((std::uint64_t{0xe169c58dU} << 32U | 0x6627e8d5U) >> 11U) * 0x1p-53;
  BOOST_TEST(engine::uniform_random(0, 0) == expected);
  double sum = 0;
  for (std::uint64_t i = 0; i < 10'000; ++i) {
    const auto u = engine::uniform_random(42, i);
    BOOST_REQUIRE((u >= 0 && u < 1));
    sum += u;
  }
  BOOST_TEST(std::abs(sum / 10'000 - 0.5) < 0.015);
}

BOOST_AUTO_TEST_CASE(repetition_penalty_weakens_prompt_and_completion) {
  auto params = greedy();
  params.repetition_penalty = 1.5F;
  BOOST_TEST(choose({2.0F, 2.5F, 1.0F}, params, 0, {1}, 0) == 0U);  // 2.5 / 1.5 < 2
  BOOST_TEST(choose({2.0F, 2.5F, 1.0F}, params, 0, {1, 0}, 1) == 1U);
  BOOST_TEST(choose({-2.0F, -1.5F, -9.0F}, params, 0, {1, 1}, 0) == 0U);  // -1.5 * 1.5 < -2, once for both
  params.repetition_penalty = std::numeric_limits<float>::min();
  BOOST_TEST(choose({2.0F, 2.5F, 1.0F}, params, 0, {2}, 0) == 2U);
}

BOOST_AUTO_TEST_CASE(frequency_and_presence_penalties_count_the_completion_only) {
  auto params = greedy();
  params.frequency_penalty = 0.5F;
  BOOST_TEST(choose({2.0F, 2.8F}, params, 0, {1, 1, 1}, 0) == 1U);
  BOOST_TEST(choose({2.0F, 2.8F}, params, 0, {1, 1, 1}, 1) == 1U);  // 2.3
  BOOST_TEST(choose({2.0F, 2.8F}, params, 0, {1, 1, 1}, 2) == 0U);  // 1.8
  params.frequency_penalty = 0;
  params.presence_penalty = 1.0F;
  BOOST_TEST(choose({2.0F, 2.8F}, params, 0, {1, 1, 1}, 0) == 1U);
  BOOST_TEST(choose({2.0F, 2.8F, 1.9F}, params, 0, {1, 1, 1}, 3) == 0U);  // once, not three times
  params.presence_penalty = -2.0F;
  BOOST_TEST(choose({2.0F, 2.8F, 1.9F}, params, 0, {2}, 1) == 2U);
}

BOOST_AUTO_TEST_CASE(logit_bias_bans_and_forces) {
  auto params = greedy();
  params.logit_bias = {{1, -100.0F}};
  BOOST_TEST(choose({2.0F, 9.0F, 1.0F}, params) == 0U);
  params.logit_bias = {{2, 100.0F}};
  BOOST_TEST(choose({2.0F, 9.0F, 1.0F}, params) == 2U);
  params.temperature = 1;
  for (std::uint64_t position = 0; position < 50; ++position)
    BOOST_TEST(choose({2, 9, 1}, params, position) == 2U);
}

BOOST_AUTO_TEST_CASE(logprobs_are_those_of_the_unmodified_distribution) {
  const std::vector<float> logits = {1.0F, 3.0F, -infinity, 2.0F, 3.0F};
  sampling_params params;
  params.temperature = 0.2F;
  params.logit_bias = {{0, 100.0F}};
  engine::sampler s(logits.size());
  const auto token = s.sample(logits, params, {}, 0, 0, 5, true).value();
  const auto p = softmax({logits.begin(), logits.end()}, 1);
  BOOST_TEST(token.id == 0U);
  BOOST_TEST(std::abs(static_cast<double>(token.logprob) - std::log(p[0])) < 1e-5);
  BOOST_REQUIRE(token.top.size() == 5U);
  const token_id order[] = {1, 4, 3, 0, 2};
  for (std::size_t i = 0; i < 5; ++i) BOOST_TEST(token.top[i].id == order[i]);
  BOOST_TEST(std::abs(static_cast<double>(token.top[2].logprob) - std::log(p[3])) < 1e-5);
  BOOST_TEST(token.top[4].logprob == -9999.0F);
  BOOST_TEST(s.sample(logits, params, {}, 0, 0, 2, true).value().top.size() == 2U);
  BOOST_TEST(s.sample(logits, params, {}, 0, 0, 0, false).value().top.empty());
}

BOOST_AUTO_TEST_CASE(logits_that_are_no_numbers_are_an_error) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity}) {
    for (const float temperature : {0.0F, 1.0F}) {
      sampling_params params;
      params.temperature = temperature;
      engine::sampler s(3);
      const std::vector<float> logits = {1.0F, bad, 2.0F};
      const auto result = s.sample(logits, params, {}, 0, 0, 0, false);
      BOOST_REQUIRE(!result.has_value());
      BOOST_TEST((result.error().code == engine::error_code::internal));
    }
  }
  engine::sampler s(2);
  BOOST_TEST(!s.sample(std::vector{-infinity, -infinity}, {}, {}, 0, 0, 0, false).has_value());
}

BOOST_AUTO_TEST_CASE(extreme_parameters_choose_a_token_all_the_same) {
  const std::vector<float> logits = {1e30F, -1e30F, 3.0F, std::numeric_limits<float>::max()};
  for (const float temperature : {1e-38F, 1e-4F, 2.0F}) {
    for (const float penalty : {std::numeric_limits<float>::denorm_min(), 2.0F}) {
      sampling_params params;
      params.temperature = temperature;
      params.repetition_penalty = penalty;
      params.top_p = std::numeric_limits<float>::min();
      params.min_p = 1;
      BOOST_TEST(choose(logits, params, 0, {0, 1, 2, 3}, 4) < 4U);
    }
  }
  sampling_params params;
  params.seed = ~std::uint64_t{0};
  BOOST_TEST(choose({0.0F}, params, ~std::uint64_t{0}) == 0U);
}

BOOST_AUTO_TEST_CASE(validate_names_the_parameter_that_is_out_of_range) {
  const auto config = tests::small_config();
  BOOST_TEST(engine::validate({}, config).has_value());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  struct bad_value {
    float sampling_params::*member;
    const char* name;
    std::vector<float> bad;
    std::vector<float> good;
  };
  const std::vector<bad_value> cases = {
      {&sampling_params::temperature, "temperature", {-0.1F, 2.1F, nan, infinity}, {0, 2}},
      {&sampling_params::top_p, "top_p", {0, -1, 1.01F, nan}, {0.001F, 1}},
      {&sampling_params::min_p, "min_p", {-0.1F, 1.1F, nan}, {0, 1}},
      {&sampling_params::repetition_penalty, "repetition_penalty", {0, 2.1F, nan}, {0.1F, 2}},
      {&sampling_params::frequency_penalty, "frequency_penalty", {-2.1F, 2.1F, nan}, {-2, 2}},
      {&sampling_params::presence_penalty, "presence_penalty", {-2.1F, 2.1F, nan}, {-2, 2}},
  };
  for (const auto& c : cases) {
    for (const auto value : c.bad) {
      sampling_params params;
      params.*c.member = value;
      const auto result = engine::validate(params, config);
      BOOST_REQUIRE_MESSAGE(!result.has_value(), c.name << " = " << value);
      BOOST_TEST((result.error().code == engine::error_code::invalid_request));
      BOOST_TEST(result.error().message.find(c.name) != std::string::npos, result.error().message);
    }
    for (const auto value : c.good) {
      sampling_params params;
      params.*c.member = value;
      BOOST_TEST(engine::validate(params, config).has_value(), c.name << " = " << value);
    }
  }
  sampling_params params;
  params.logit_bias = {{config.vocabulary_size, 1.0F}};
  BOOST_TEST(!engine::validate(params, config).has_value());
  params.logit_bias = {{3, 101.0F}};
  BOOST_TEST(!engine::validate(params, config).has_value());
  params.logit_bias = {{3, nan}};
  BOOST_TEST(!engine::validate(params, config).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
