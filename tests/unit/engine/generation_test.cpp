#include "engine/generation.hpp"

#include "engine/kv_cache.hpp"
#include "tests/unit/engine/generation_fixture.hpp"

#include <algorithm>
#include <limits>
#include <set>

namespace {

using namespace bitnet;
using engine::error_code;
using engine::finish_reason;
using tests::make_loop;
using tests::request_of;
using tests::run_until_idle;

template <class T>
void check_refused(const engine::result<T>& r, error_code code, std::string_view mentions) {
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST((r.error().code == code), r.error().message);
  BOOST_TEST(r.error().message.find(mentions) != std::string::npos, r.error().message);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(generation)

BOOST_AUTO_TEST_CASE(a_request_runs_to_its_length) {
  auto loop = make_loop();
  BOOST_TEST(loop->idle());
  BOOST_TEST(loop->step().empty());
  BOOST_REQUIRE(loop->submit(request_of(7, 20, 12)));
  BOOST_TEST(!loop->idle());
  const auto result = run_until_idle(*loop).at(7);
  BOOST_TEST(result.tokens.size() == 12U);
  BOOST_TEST((result.finish == finish_reason::length));
  BOOST_TEST(result.usage.prompt_tokens == 20U);
  BOOST_TEST(result.usage.completion_tokens == 12U);
  const auto stats = loop->stats();
  BOOST_TEST(stats.prompt_tokens == 20U);
  BOOST_TEST(stats.generated_tokens == 12U);
  BOOST_TEST(stats.steps == 12U);
  BOOST_TEST(stats.kv_blocks_used == 0U);
  BOOST_TEST(loop->progress().delivered_tokens.load() == 12U);
  BOOST_TEST((loop->progress().current.load() == engine::phase::idle));
}

BOOST_AUTO_TEST_CASE(a_stop_token_ends_the_completion_and_is_not_delivered) {
  auto loop = make_loop();
  auto request = request_of(1, 9, 30, 1.0F);
  BOOST_REQUIRE(loop->submit(request));
  const auto whole = run_until_idle(*loop).at(1).ids();
  const auto stop = whole[10];
  const auto expected = std::find(whole.begin(), whole.end(), stop) - whole.begin();
  request.stop_tokens = {stop};
  BOOST_REQUIRE(loop->submit(request));
  const auto result = run_until_idle(*loop).at(1);
  BOOST_TEST((result.finish == finish_reason::stop));
  BOOST_TEST(result.ids() == std::vector(whole.begin(), whole.begin() + expected),
             boost::test_tools::per_element());
  BOOST_TEST(result.usage.completion_tokens == static_cast<std::uint32_t>(expected));
}

BOOST_AUTO_TEST_CASE(max_tokens_is_cut_to_the_context) {
  auto loop = make_loop();
  const auto context = tests::small_config().context_length;
  BOOST_REQUIRE(loop->submit(request_of(1, context - 5, 100)));
  const auto result = run_until_idle(*loop).at(1);
  BOOST_TEST(result.tokens.size() == 5U);
  BOOST_TEST((result.finish == finish_reason::length));
}

BOOST_AUTO_TEST_CASE(a_request_without_tokens_to_generate_finishes_at_once) {
  auto loop = make_loop();
  BOOST_REQUIRE(loop->submit(request_of(1, 5, 0)));
  auto resumed = request_of(2, 5, 3);
  resumed.emitted = {1, 2, 3};
  BOOST_REQUIRE(loop->submit(resumed));
  const auto results = run_until_idle(*loop);
  BOOST_TEST((results.at(1).finish == finish_reason::length));
  BOOST_TEST((results.at(2).finish == finish_reason::length));
  BOOST_TEST(results.at(2).tokens.empty());
  BOOST_TEST(results.at(2).usage.completion_tokens == 3U);
}

BOOST_AUTO_TEST_CASE(submit_refuses_what_cannot_run) {
  engine::generation_options options;
  options.max_queued = 2;
  auto loop = make_loop(options);
  const auto vocabulary = tests::small_config().vocabulary_size;
  const auto context = tests::small_config().context_length;
  check_refused(loop->submit(request_of(1, 0, 5)), error_code::invalid_request, "empty");
  check_refused(loop->submit(request_of(1, context, 5)), error_code::prompt_too_long, "512");
  auto request = request_of(1, 4, 5);
  request.prompt[2] = vocabulary;
  check_refused(loop->submit(request), error_code::invalid_request, "301");
  request = request_of(1, 4, 5);
  request.stop_tokens = {vocabulary + 7};
  check_refused(loop->submit(request), error_code::invalid_request, "308");
  request = request_of(1, 4, 5);
  request.top_logprobs = 21;
  check_refused(loop->submit(request), error_code::invalid_request, "top_logprobs");
  request = request_of(1, 4, 5);
  request.sampling.temperature = std::numeric_limits<float>::quiet_NaN();
  check_refused(loop->submit(request), error_code::invalid_request, "temperature");
  request = request_of(1, context - 3, 9);
  request.emitted = {1, 2, 3, 4};
  check_refused(loop->submit(request), error_code::prompt_too_long, "4 tokens");

  BOOST_REQUIRE(loop->submit(request_of(1, 4, 5)));
  check_refused(loop->submit(request_of(1, 4, 5)), error_code::invalid_request, "under way");
  BOOST_REQUIRE(loop->submit(request_of(2, 4, 5)));
  check_refused(loop->submit(request_of(3, 4, 5)), error_code::queue_full, "2 requests");
  BOOST_TEST(loop->stats().queued == 2U);
  BOOST_TEST(run_until_idle(*loop).size() == 2U);
}

BOOST_AUTO_TEST_CASE(create_refuses_options_that_cannot_work) {
  const auto model = tests::shared_random_model();
  engine::generation_options options;
  options.max_sequences = 0;
  check_refused(engine::generation_loop::create(model, options), error_code::invalid_request,
                "max_sequences");
  options = {};
  options.prefill_chunk = 0;
  check_refused(engine::generation_loop::create(model, options), error_code::invalid_request,
                "prefill_chunk");
  options = {};
  options.kv_cache_bytes =
      engine::kv_cache_block_bytes(model->config()) * 8;  // a context, but not the probe's block
  check_refused(engine::generation_loop::create(model, options), error_code::out_of_memory, "KV cache");
  options.kv_cache_bytes = engine::kv_cache_block_bytes(model->config()) * 9;
  BOOST_TEST(engine::generation_loop::create(model, options).has_value());
}

BOOST_AUTO_TEST_CASE(cancelling_ends_queued_and_running_sequences) {
  engine::generation_options options;
  options.max_sequences = 1;
  auto loop = make_loop(options);
  BOOST_REQUIRE(loop->submit(request_of(1, 10, 50)));
  BOOST_REQUIRE(loop->submit(request_of(2, 10, 50)));
  BOOST_REQUIRE(loop->submit(request_of(3, 10, 4)));
  tests::outcomes results;
  for (int i = 0; i < 5; ++i) tests::collect(results, loop->step());
  loop->cancel(1);
  loop->cancel(2);
  loop->cancel(99);
  loop->cancel(1);
  BOOST_TEST(!loop->idle());
  tests::collect(results, loop->step());
  BOOST_TEST((results.at(1).finish == finish_reason::cancelled));
  BOOST_TEST(results.at(1).tokens.size() == 5U);
  BOOST_TEST((results.at(2).finish == finish_reason::cancelled));
  BOOST_TEST(results.at(2).tokens.empty());
  while (!loop->idle()) tests::collect(results, loop->step());
  BOOST_TEST((results.at(3).finish == finish_reason::length));
  BOOST_TEST(loop->stats().kv_blocks_used == 0U);
}

BOOST_AUTO_TEST_CASE(a_step_that_was_cancelled_from_outside_loses_nothing) {
  auto loop = make_loop();
  const auto request = request_of(1, 40, 10);
  BOOST_REQUIRE(loop->submit(request));
  const auto expected = run_until_idle(*loop).at(1).ids();
  BOOST_REQUIRE(loop->submit(request));
  tests::outcomes results;
  for (int i = 0; !loop->idle(); ++i) {
    if (i % 2 == 0) {
      loop->progress().cancel = true;
      BOOST_TEST(loop->step().empty());
      BOOST_TEST(!loop->progress().cancel.load());
    }
    tests::collect(results, loop->step());
  }
  BOOST_TEST(results.at(1).ids() == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(damaged_weights_fail_the_sequence_with_an_error) {
  auto model = tests::random_model(tests::small_config());
  model->weights->blocks[1].ffn_norm[5] = std::numeric_limits<float>::quiet_NaN();
  auto loop = make_loop({}, std::shared_ptr<const engine::model>(std::move(model)));
  BOOST_REQUIRE(loop->submit(request_of(1, 100, 10)));
  const auto results = run_until_idle(*loop);
  BOOST_TEST((results.at(1).finish == finish_reason::failed));
  BOOST_REQUIRE(results.at(1).failure.has_value());
  BOOST_TEST((results.at(1).failure->code == error_code::internal));
  BOOST_TEST(loop->stats().failed_sequences == 1U);
  BOOST_TEST(loop->stats().kv_blocks_used == 0U);
  check_refused(loop->probe_hash(), error_code::internal, "not numbers");
}

BOOST_AUTO_TEST_CASE(the_probe_gives_one_hash_and_disturbs_nobody) {
  auto loop = make_loop();
  const auto request = request_of(1, 70, 20, 0.9F);
  BOOST_REQUIRE(loop->submit(request));
  const auto expected = run_until_idle(*loop).at(1).ids();

  const auto hash = loop->probe_hash();
  BOOST_REQUIRE(hash.has_value());
  BOOST_REQUIRE(loop->submit(request));
  tests::outcomes results;
  while (!loop->idle()) {
    tests::collect(results, loop->step());
    BOOST_TEST(loop->probe_hash().value() == *hash);
  }
  BOOST_TEST(results.at(1).ids() == expected, boost::test_tools::per_element());
  BOOST_TEST(loop->stats().generated_tokens == 40U);

  // One weight changed, in the last layer: another hash.
  auto changed = tests::random_model(tests::small_config());
  changed->weights->blocks.back().ffn_norm[3] *= 1.5F;
  BOOST_TEST(make_loop({}, std::shared_ptr<const engine::model>(std::move(changed)))->probe_hash().value() !=
             *hash);
}

BOOST_AUTO_TEST_CASE(a_cancelled_probe_says_so) {
  auto loop = make_loop();
  loop->progress().cancel = true;
  check_refused(loop->probe_hash(), error_code::internal, "cancelled");
  BOOST_TEST(loop->probe_hash().has_value());
}

BOOST_AUTO_TEST_CASE(a_small_model_does_not_take_all_cpus) {
  const auto& weights = *tests::shared_random_model()->weights;
  BOOST_TEST(engine::thread_count(weights, 0) == 1U);
  BOOST_TEST(engine::thread_count(weights, 5) == 5U);
}

BOOST_AUTO_TEST_CASE(progress_can_live_elsewhere) {
  engine::progress elsewhere;
  engine::generation_options options;
  options.progress = &elsewhere;
  auto loop = make_loop(options);
  BOOST_TEST(&loop->progress() == &elsewhere);
  BOOST_REQUIRE(loop->submit(request_of(1, 3, 2)));
  run_until_idle(*loop);
  BOOST_TEST(elsewhere.step.load() == 2U);
  BOOST_TEST(elsewhere.delivered_tokens.load() == 2U);
  BOOST_TEST(elsewhere.step_started_ns.load() <= elsewhere.last_progress_ns.load());
}

BOOST_AUTO_TEST_CASE(logprobs_come_where_they_are_asked_for) {
  auto loop = make_loop();
  auto request = request_of(1, 12, 4);
  request.want_logprobs = true;
  request.top_logprobs = 3;
  BOOST_REQUIRE(loop->submit(request));
  const auto result = run_until_idle(*loop).at(1);
  for (const auto& token : result.tokens) {
    BOOST_REQUIRE(token.top.size() == 3U);
    BOOST_TEST(token.top[0].id == token.id);  // greedy
    BOOST_TEST(token.top[0].logprob == token.logprob);
    BOOST_TEST(token.top[0].logprob >= token.top[1].logprob);
    BOOST_TEST(token.logprob < 0.0F);
  }
}

BOOST_AUTO_TEST_SUITE_END()
