#include "engine/head_screening.hpp"
#include "engine/transformer.hpp"
#include "tests/unit/engine/generation_fixture.hpp"

#include <algorithm>
#include <bit>
#include <limits>

// A screened head: what is chosen among candidates, who gets them, and that they depend on nothing else.

namespace {

using namespace bitnet;
using tests::make_loop;
using tests::request_of;
using tests::run_until_idle;

/// The model of the other tests with a screen. Few candidates, so that it shows where they are used.
std::shared_ptr<const engine::model> screened_model(std::size_t candidates) {
  auto model = tests::random_model(tests::small_config());
  model->weights->screen = engine::make_head_screen(model->weights->head, 1);
  model->weights->screen_candidates = candidates;
  return model;
}

constexpr std::size_t whole_vocabulary = 301;

/// Greedy requests and such that sample among the most likely tokens.
std::vector<engine::generation_request> screened_requests() {
  std::vector<engine::generation_request> requests;
  const std::size_t lengths[] = {1, 64, 65, 100, 31, 20};
  for (std::size_t i = 0; i < std::size(lengths); ++i) {
    auto request = request_of(i + 1, lengths[i], 16, i % 2 == 0 ? 0.0F : 1.0F);
    if (i == 1) request.sampling.top_k = 64;
    if (i == 3) request.sampling.top_k = 20, request.sampling.top_p = 0.8F;
    if (i == 5) request.sampling.top_k = 40, request.sampling.min_p = 0.05F;
    requests.push_back(request);
  }
  return requests;
}

std::map<engine::request_id, std::vector<engine::token_id>> tokens_of(
    std::shared_ptr<const engine::model> model, const std::vector<engine::generation_request>& requests,
    const engine::generation_options& options = {}) {
  auto loop = make_loop(options, std::move(model));
  for (const auto& request : requests) BOOST_REQUIRE(loop->submit(request));
  std::map<engine::request_id, std::vector<engine::token_id>> all;
  for (const auto& [id, outcome] : run_until_idle(*loop)) all[id] = outcome.ids();
  return all;
}

/// Each request alone, on one thread, with the reference kernels.
std::map<engine::request_id, std::vector<engine::token_id>> tokens_one_by_one(
    const std::shared_ptr<const engine::model>& model) {
  engine::generation_options options;
  options.isa = kernels::instruction_set::scalar;
  options.prefix_cache = false;
  std::map<engine::request_id, std::vector<engine::token_id>> all;
  for (const auto& request : screened_requests()) all.merge(tokens_of(model, {request}, options));
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(screened_head)

BOOST_AUTO_TEST_CASE(with_the_vocabulary_as_candidates_tokens_are_those_of_the_int8_head) {
  const auto expected = tokens_of(tests::shared_random_model(), screened_requests());
  for (const std::size_t candidates : {whole_vocabulary, std::size_t{1024}})
    BOOST_TEST((tokens_of(screened_model(candidates), screened_requests()) == expected));
}

BOOST_AUTO_TEST_CASE(tokens_depend_on_nothing_but_model_and_request) {
  const auto model = screened_model(5);
  const auto expected = tokens_one_by_one(model);
  // Five candidates are too few for a top_k of 64: were they not used, this test would say nothing.
  BOOST_TEST((expected != tokens_one_by_one(tests::shared_random_model())));
  for (const auto isa : kernels::supported_instruction_sets()) {
    for (const std::size_t threads : {1, 3}) {
      BOOST_TEST_CONTEXT(kernels::to_string(isa) << ", " << threads << " threads") {
        engine::generation_options options;
        options.isa = isa;
        options.threads = threads;
        BOOST_TEST((tokens_of(model, screened_requests(), options) == expected));
      }
    }
  }
  for (const std::size_t chunk : {1, 7, 64}) {
    engine::generation_options options;
    options.prefill_chunk = chunk;
    options.max_sequences = 1 + chunk % 5;
    BOOST_TEST((tokens_of(model, screened_requests(), options) == expected), "prefill chunk " << chunk);
  }
  // Beside sequences that want all logits.
  auto mixed = screened_requests();
  for (engine::request_id id = 101; id < 108; ++id) mixed.push_back(request_of(id, 30, 25, 1.0F));
  auto found = tokens_of(model, mixed);
  std::erase_if(found, [](const auto& entry) { return entry.first > 100; });
  BOOST_TEST((found == expected));
  // Going on after any token.
  for (auto request : screened_requests()) {
    const auto& whole = expected.at(request.id);
    request.emitted.assign(whole.begin(), whole.begin() + 7);
    auto ids = request.emitted;
    const auto rest = tokens_of(model, {request}).at(request.id);
    ids.insert(ids.end(), rest.begin(), rest.end());
    BOOST_TEST(ids == whole, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(requests_that_need_all_logits_get_them) {
  // One candidate is all there would be to choose from.
  const auto model = screened_model(1);
  auto request = request_of(1, 40, 20, 1.0F);
  request.sampling.top_k = 64;
  BOOST_TEST((tokens_of(model, {request}) != tokens_of(tests::shared_random_model(), {request})));
  std::vector<engine::generation_request> requests(9, request);
  requests[0].want_logprobs = true;
  requests[1].top_logprobs = 3;
  requests[2].sampling.repetition_penalty = 1.1F;
  requests[3].sampling.frequency_penalty = 0.5F;
  requests[4].sampling.presence_penalty = 0.5F;
  requests[5].sampling.logit_bias = {{5, 1.0F}};
  requests[6].sampling.top_k = 65;
  requests[7].sampling.top_k = 0;
  requests[8].sampling.top_k = 0;
  requests[8].sampling.top_p = 0.1F;
  for (std::size_t i = 0; i < requests.size(); ++i) requests[i].id = i + 1;
  const auto expected = tokens_of(tests::shared_random_model(), requests);
  const auto found = tokens_of(model, requests);
  for (const auto& [id, tokens] : expected)
    BOOST_TEST(found.at(id) == tokens, "request " << id << " of those that need all logits");

  auto screened = make_loop({}, model);
  auto full = make_loop();
  BOOST_TEST(screened->probe_hash().value() == full->probe_hash().value());
}

BOOST_AUTO_TEST_CASE(candidates_have_the_logits_of_the_int8_head_in_any_company) {
  constexpr std::size_t count = 40;
  const auto model = screened_model(count);
  std::vector<engine::token_id> tokens = tests::prompt_of(60);
  for (const auto isa : kernels::supported_instruction_sets()) {
    kernels::team team(2);
    auto cache = engine::kv_cache::create(model->config(), 6).value();
    engine::transformer forward(*model->weights, team, isa, {.rows = 200, .logits_rows = 200, .chunks = 3});
    engine::progress progress;
    const engine::kv_block_id blocks[] = {*cache.allocate(), *cache.allocate(), *cache.allocate()};
    const auto chunk = [&](std::size_t block, std::size_t candidates) {
      return engine::batch_chunk{.tokens = tokens,
                                 .position = 0,
                                 .blocks = std::span(blocks).subspan(block, 1),
                                 .logits = tokens.size(),
                                 .candidates = candidates};
    };
    const engine::batch_chunk batch[] = {chunk(0, count), chunk(1, 0), chunk(2, count)};
    BOOST_REQUIRE((forward.forward(batch, cache, progress) == engine::forward_status::complete));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto all = forward.logits(tokens.size() + i);
      BOOST_TEST(forward.candidates(tokens.size() + i).empty());
      const auto some = forward.candidates(i);
      const auto same = forward.candidates(2 * tokens.size() + i);
      BOOST_REQUIRE((some.size() == count && same.size() == count));
      for (std::size_t c = 0; c < count; ++c) {
        BOOST_REQUIRE(some[c].id < all.size());
        BOOST_TEST(std::bit_cast<std::uint32_t>(some[c].logit) ==
                   std::bit_cast<std::uint32_t>(all[some[c].id]));
        BOOST_TEST(same[c].id == some[c].id);
        BOOST_TEST(std::bit_cast<std::uint32_t>(same[c].logit) ==
                   std::bit_cast<std::uint32_t>(some[c].logit));
        if (c == 0) continue;
        const auto& better = some[c - 1];
        BOOST_TEST(
            (better.logit > some[c].logit || (better.logit == some[c].logit && better.id < some[c].id)));
      }
      // Weights without outliers: four bits are enough to keep the greatest of all.
      const auto greatest = static_cast<engine::token_id>(std::ranges::max_element(all) - all.begin());
      BOOST_TEST(some[0].id == greatest);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_pass_that_computes_no_numbers_fails_its_sequences) {
  auto model = tests::random_model(tests::small_config());
  model->weights->screen = engine::make_head_screen(model->weights->head, 1);
  model->weights->output_norm[3] = std::numeric_limits<float>::quiet_NaN();
  auto loop = make_loop({}, std::move(model));
  BOOST_REQUIRE(loop->submit(request_of(1, 10, 5)));
  BOOST_TEST((run_until_idle(*loop).at(1).finish == engine::finish_reason::failed));
}

BOOST_AUTO_TEST_CASE(the_screen_does_not_depend_on_the_threads_that_make_it) {
  constexpr std::size_t rows = 17000;
  constexpr std::size_t cols = 24;
  kernels::head_matrix head(rows, cols, kernels::head_matrix::format::int8);
  std::vector<float> values(head.block_rows() * cols);
  std::uint32_t x = 1;
  for (std::size_t b = 0; b < head.block_count(); ++b) {
    for (auto& value : values) value = static_cast<float>((x = x * 1664525U + 1013904223U) >> 8U) * 1e-7F;
    head.pack_block(b, values.data());
  }
  const auto one = engine::make_head_screen(head, 1);
  for (const std::size_t threads : {2, 3, 5}) {
    const auto many = engine::make_head_screen(head, threads);
    BOOST_TEST(std::ranges::equal(one.factors(), many.factors()));
    BOOST_TEST(std::ranges::equal(one.code_bytes(), many.code_bytes()));
    BOOST_TEST(std::ranges::equal(one.int8_row_bytes(), many.int8_row_bytes()));
  }
}

BOOST_AUTO_TEST_SUITE_END()
