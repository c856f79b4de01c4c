#include "engine/transformer.hpp"

#include "tests/support/random_model.hpp"
#include "tests/unit/engine/reference_forward.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <thread>

namespace {

using namespace bitnet;
using engine::batch_chunk;
using engine::token_id;

std::vector<token_id> some_tokens(std::size_t n, std::uint32_t vocabulary) {
  std::vector<token_id> tokens(n);
  for (std::size_t i = 0; i < n; ++i)
    tokens[i] = static_cast<token_id>((i * i * 7 + i * 13 + 5) % vocabulary);
  return tokens;
}

/// A transformer with its cache, big enough for the tests below.
struct runner {
  explicit runner(const engine::model& m, std::size_t threads = 1,
                  kernels::instruction_set isa = kernels::best_instruction_set())
      : model(m),
        team(threads),
        cache(engine::kv_cache::create(m.config(), 32).value()),
        forward(*m.weights, team, isa, {.rows = 512, .logits_rows = 512, .chunks = 16}) {}

  std::vector<engine::kv_block_id> take_blocks(std::size_t tokens) {
    std::vector<engine::kv_block_id> blocks;
    for (std::size_t i = 0; i < tokens; i += kernels::kv_block_tokens)
      blocks.push_back(cache.allocate().value());
    return blocks;
  }

  /// Keys and values of a block go bad: NaN, as bfloat16, in every place.
  void spoil(engine::kv_block_id block, std::size_t layer) {
    const auto& config = model.config();
    std::fill_n(reinterpret_cast<std::uint16_t*>(cache.data(block, layer)),
                kernels::kv_block_bytes(config.kv_head_count, config.head_dim) / sizeof(std::uint16_t),
                std::uint16_t{0x7FC0});
  }

  /// The logits of all tokens of a sequence, computed in pieces of the given sizes (the last one repeats).
  std::vector<std::vector<float>> run(const std::vector<token_id>& tokens,
                                      const std::vector<std::size_t>& pieces) {
    const auto blocks = take_blocks(tokens.size());
    std::vector<std::vector<float>> rows;
    std::size_t piece = 0;
    for (std::size_t at = 0; at < tokens.size();) {
      const auto n = std::min(pieces[std::min(piece++, pieces.size() - 1)], tokens.size() - at);
      const batch_chunk chunk{std::span(tokens).subspan(at, n), at, blocks, n};
      BOOST_REQUIRE(forward.forward({&chunk, 1}, cache, progress) == engine::forward_status::complete);
      BOOST_TEST(!forward.failed(0));
      for (std::size_t i = 0; i < n; ++i)
        rows.emplace_back(forward.logits(i).begin(), forward.logits(i).end());
      at += n;
    }
    for (const auto block : blocks) cache.release(block);
    return rows;
  }

  const engine::model& model;
  kernels::team team;
  engine::kv_cache cache;
  engine::transformer forward;
  engine::progress progress;
};

bool same_bits(const std::vector<float>& a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

void check_same(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  BOOST_REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    BOOST_TEST(same_bits(a[i], b[i]), "the logits of token " << i << " differ");
}

/// Mean absolute difference over all logits, divided by their deviation.
double relative_difference(const std::vector<std::vector<float>>& actual,
                           const std::vector<std::vector<double>>& expected) {
  double difference = 0;
  double squares = 0;
  std::size_t count = 0;
  for (std::size_t t = 0; t < expected.size(); ++t) {
    for (std::size_t i = 0; i < expected[t].size(); ++i, ++count) {
      difference += std::abs(expected[t][i] - static_cast<double>(actual[t][i]));
      squares += expected[t][i] * expected[t][i];
    }
  }
  return difference / static_cast<double>(count) / std::sqrt(squares / static_cast<double>(count));
}

engine::model_config llama_config() {
  auto c = tests::small_config();
  c.activation = engine::ffn_activation::silu;
  c.has_sub_norms = false;
  c.rope = kernels::rope_kind::interleaved;
  c.rope_theta = 500000.0F;
  c.embedding_length = 128;
  c.head_count = 4;
  c.kv_head_count = 4;
  c.head_dim = 32;
  return c;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(transformer)

BOOST_AUTO_TEST_CASE(logits_agree_with_the_formulas_in_double_arithmetic) {
  for (const auto& config : {tests::small_config(), llama_config()}) {
    for (const auto format : {kernels::head_matrix::format::int8, kernels::head_matrix::format::f16}) {
      const auto model = tests::random_model(config, 3, format);
      const auto tokens = some_tokens(90, config.vocabulary_size);
      const auto actual = runner(*model).run(tokens, {90});
      const auto expected = tests::reference_forward(*model->weights, tokens);
      // Float sums round differently than double sums, which now and then moves an 8-bit activation by one.
      const auto difference = relative_difference(actual, expected);
      BOOST_TEST_MESSAGE("difference " << difference);
      BOOST_TEST(difference < 0.02);
      // The comparison can fail: other tokens give other logits.
      const auto others = tests::reference_forward(*model->weights, some_tokens(91, config.vocabulary_size));
      BOOST_TEST(relative_difference(actual, {others.begin() + 1, others.end()}) > 0.3);
    }
  }
}

BOOST_AUTO_TEST_CASE(logits_do_not_depend_on_the_decode_copy) {
  for (const auto& config : {tests::small_config(), llama_config()}) {
    const auto model = tests::random_model(config);
    const auto tokens = some_tokens(90, config.vocabulary_size);
    const std::vector<std::size_t> pieces{60, 1, 1, 2, 3, 4, 5, 1};
    const auto expected = runner(*model, 1, kernels::instruction_set::scalar).run(tokens, pieces);
    std::size_t products = 0;
    for (const auto isa : kernels::supported_instruction_sets()) {
      engine::load_options options;
      options.decode = engine::decode_format::base3;
      options.isa = isa;
      options.threads = 2;
      model->weights->decode_blocks = engine::make_decode_blocks(config, model->weights->blocks, options);
      BOOST_TEST(model->weights->decode_blocks.empty() == (kernels::base3_matmul_for(isa) == nullptr));
      if (!model->weights->decode_blocks.empty()) ++products;
      for (const std::size_t threads : {1, 2, 3}) {
        BOOST_TEST_INFO(kernels::to_string(isa) << " " << threads << " threads");
        check_same(runner(*model, threads, isa).run(tokens, pieces), expected);
      }
    }
    BOOST_TEST(products > 0U);
  }
}

BOOST_AUTO_TEST_CASE(a_model_that_fits_the_caches_gets_no_decode_copy_of_its_own_accord) {
  const auto config = tests::small_config();
  const auto model = tests::random_model(config);
  BOOST_TEST(engine::make_decode_blocks(config, model->weights->blocks, {}).empty());
}

BOOST_AUTO_TEST_CASE(logits_do_not_depend_on_threads_and_instruction_set) {
  for (const auto& config : {tests::small_config(), llama_config()}) {
    const auto model = tests::random_model(config);
    const auto tokens = some_tokens(150, config.vocabulary_size);
    const auto expected = runner(*model, 1, kernels::instruction_set::scalar).run(tokens, {100, 1, 1, 40, 1});
    for (const auto isa : kernels::supported_instruction_sets()) {
      for (const std::size_t threads : {1, 2, 3}) {
        BOOST_TEST_INFO(kernels::to_string(isa) << " " << threads << " threads");
        check_same(runner(*model, threads, isa).run(tokens, {100, 1, 1, 40, 1}), expected);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(logits_do_not_depend_on_the_pieces_of_a_prompt) {
  const auto model = tests::random_model(tests::small_config());
  const auto tokens = some_tokens(260, model->config().vocabulary_size);
  const auto expected = runner(*model).run(tokens, {260});
  for (const auto& pieces :
       std::vector<std::vector<std::size_t>>{{1}, {7}, {64}, {63, 65, 1, 100}, {2, 16, 17}})
    check_same(runner(*model).run(tokens, pieces), expected);
}

BOOST_AUTO_TEST_CASE(logits_do_not_depend_on_the_rest_of_the_batch) {
  const auto model = tests::random_model(tests::small_config());
  const auto vocabulary = model->config().vocabulary_size;
  runner r(*model, 3);
  std::vector<std::vector<token_id>> sequences;
  std::vector<std::vector<std::vector<float>>> expected;
  for (const std::size_t length : {1, 5, 64, 65, 130}) {
    sequences.push_back(some_tokens(length + 1, vocabulary));
    std::rotate(sequences.back().begin(), sequences.back().begin() + static_cast<std::ptrdiff_t>(length / 2),
                sequences.back().end());
    expected.push_back(r.run(sequences.back(), {length + 1}));
  }
  // All prompts in one pass, then all last tokens in one pass.
  std::vector<std::vector<engine::kv_block_id>> blocks;
  std::vector<batch_chunk> prompts;
  std::vector<batch_chunk> lasts;
  for (const auto& s : sequences) blocks.push_back(r.take_blocks(s.size()));
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::span<const token_id> s = sequences[i];
    prompts.push_back({s.first(s.size() - 1), 0, blocks[i], 1});
    lasts.push_back({s.last(1), s.size() - 1, blocks[i], 1});
  }
  for (const auto* batch : {&prompts, &lasts}) {
    BOOST_REQUIRE(r.forward.forward(*batch, r.cache, r.progress) == engine::forward_status::complete);
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const auto row = sequences[i].size() - (batch == &prompts ? 2 : 1);
      BOOST_TEST(same_bits(expected[i][row], r.forward.logits(i)), "sequence " << i);
    }
  }
}

BOOST_AUTO_TEST_CASE(logits_do_not_depend_on_which_other_tokens_want_some) {
  const auto model = tests::random_model(tests::small_config());
  const auto tokens = some_tokens(150, model->config().vocabulary_size);
  const auto expected = runner(*model).run(tokens, {150});
  const auto check_last = [&](runner& r, std::size_t first, std::size_t logits) {
    const auto blocks = r.take_blocks(tokens.size());
    const std::span<const token_id> all = tokens;
    for (const auto& chunk : {batch_chunk{all.first(first), 0, blocks, 0},
                              batch_chunk{all.subspan(first), first, blocks, logits}})
      BOOST_REQUIRE(r.forward.forward({&chunk, 1}, r.cache, r.progress) == engine::forward_status::complete);
    for (std::size_t i = 0; i < logits; ++i)
      BOOST_TEST(same_bits(expected[tokens.size() - logits + i], r.forward.logits(i)), "logits " << i);
  };
  for (const auto isa : kernels::supported_instruction_sets()) {
    for (const std::size_t threads : {1, 2, 3}) {
      BOOST_TEST_CONTEXT(kernels::to_string(isa) << " " << threads << " threads") {
        runner r(*model, threads, isa);
        for (const std::size_t logits : {1, 2, 5, 17, 49, 50}) check_last(r, 100, logits);
        check_last(r, 149, 1);
        check_last(r, 1, 149);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(numbers_that_are_none_are_seen_in_tokens_without_logits) {
  const auto model = tests::random_model(tests::small_config());
  const auto tokens = some_tokens(9, model->config().vocabulary_size);
  for (const std::size_t threads : {1, 2}) {
    runner r(*model, threads);
    const auto good_blocks = r.take_blocks(9);
    const auto bad_blocks = r.take_blocks(9);
    r.spoil(bad_blocks[0], 0);
    const auto all = std::span<const token_id>(tokens);
    const batch_chunk prompt{all.first(7), 0, good_blocks, 0};
    r.forward.forward({&prompt, 1}, r.cache, r.progress);
    const std::array<batch_chunk, 2> both{batch_chunk{all.subspan(7), 7, bad_blocks, 0},
                                          batch_chunk{all.subspan(7), 7, good_blocks, 1}};
    r.forward.forward(both, r.cache, r.progress);
    BOOST_TEST(r.forward.failed(0));
    BOOST_TEST(!r.forward.failed(1));
  }
}

BOOST_AUTO_TEST_CASE(a_cancelled_pass_can_be_run_again) {
  const auto model = tests::random_model(tests::small_config());
  const auto tokens = some_tokens(70, model->config().vocabulary_size);
  runner r(*model, 2);
  const auto expected = r.run(tokens, {70});
  const auto blocks = r.take_blocks(tokens.size());
  const batch_chunk chunk{tokens, 0, blocks, 1};
  r.progress.cancel = true;
  BOOST_TEST((r.forward.forward({&chunk, 1}, r.cache, r.progress) == engine::forward_status::cancelled));
  r.progress.cancel = false;
  BOOST_TEST((r.forward.forward({&chunk, 1}, r.cache, r.progress) == engine::forward_status::complete));
  BOOST_TEST(same_bits(expected.back(), r.forward.logits(0)));
}

BOOST_AUTO_TEST_CASE(progress_moves_with_the_layers) {
  const auto model = tests::random_model(tests::small_config());
  runner r(*model);
  r.run(some_tokens(3, 100), {3});
  BOOST_TEST(r.progress.layer.load() == model->config().block_count - 1);
  BOOST_TEST(r.progress.last_progress_ns.load() > 0);
}

BOOST_AUTO_TEST_CASE(numbers_that_are_none_fail_their_own_chunk_only) {
  const auto model = tests::random_model(tests::small_config());
  const auto vocabulary = model->config().vocabulary_size;
  const auto good = some_tokens(9, vocabulary);
  runner r(*model, 2);
  const auto expected = r.run(good, {9});
  const auto good_blocks = r.take_blocks(9);
  const auto bad_blocks = r.take_blocks(9);
  for (std::size_t layer = 0; layer < model->config().block_count; ++layer) r.spoil(bad_blocks[0], layer);
  const auto all = std::span<const token_id>(good);
  const batch_chunk prompt{all.first(8), 0, good_blocks, 0};
  r.forward.forward({&prompt, 1}, r.cache, r.progress);
  const std::array<batch_chunk, 2> both{batch_chunk{all.last(1), 8, bad_blocks, 1},
                                        batch_chunk{all.last(1), 8, good_blocks, 1}};
  r.forward.forward(both, r.cache, r.progress);
  BOOST_TEST(r.forward.failed(0));
  BOOST_TEST(!r.forward.failed(1));
  BOOST_TEST(same_bits(expected.back(), r.forward.logits(1)));
  // Alone, as well, and on several threads.
  r.forward.forward({both.data(), 1}, r.cache, r.progress);
  BOOST_TEST(r.forward.failed(0));
  r.forward.forward({both.data() + 1, 1}, r.cache, r.progress);
  BOOST_TEST(!r.forward.failed(0));
}

BOOST_AUTO_TEST_CASE(profile_accounts_for_the_time_of_a_pass) {
  const auto model = tests::random_model(tests::small_config());
  engine::forward_profile profile;
  kernels::team team(2);
  auto cache = engine::kv_cache::create(model->config(), 2).value();
  engine::transformer forward(*model->weights, team, kernels::best_instruction_set(), {}, &profile);
  engine::progress progress;
  const std::array<token_id, 1> token{7};
  const std::array<engine::kv_block_id, 1> block{*cache.allocate()};
  const batch_chunk chunk{token, 0, block, 1};
  forward.forward({&chunk, 1}, cache, progress);
  BOOST_TEST(profile.passes == 1U);
  BOOST_TEST(std::accumulate(profile.seconds.begin(), profile.seconds.end(), 0.0) > 0);
  BOOST_TEST(profile.seconds[static_cast<std::size_t>(engine::operation::head_matmul)] > 0);
}

BOOST_AUTO_TEST_SUITE_END()
