#include "engine/kv_cache.hpp"
#include "tests/unit/engine/generation_fixture.hpp"

#include <algorithm>
#include <random>

// A sequence's tokens depend on the model, the prompt, the sampling parameters and the seed, and on nothing
// else.

namespace {

using namespace bitnet;
using tests::make_loop;
using tests::run_until_idle;

/// Requests of many lengths, greedy and sampled, some with a common beginning of more than a block.
std::vector<engine::generation_request> mixed_requests() {
  std::vector<engine::generation_request> requests;
  const std::size_t lengths[] = {1, 2, 63, 64, 65, 100, 128, 150, 200, 31};
  for (std::size_t i = 0; i < std::size(lengths); ++i) {
    auto request =
        tests::request_of(i + 1, lengths[i], 12 + static_cast<std::uint32_t>(i), i % 2 == 0 ? 0.0F : 1.0F);
    if (i % 3 == 0) request.prompt = tests::prompt_of(lengths[i], 77);
    if (i == 3) request.sampling.top_k = 20;
    if (i == 5) request.sampling.top_p = 0.8F;
    if (i == 7) request.sampling.repetition_penalty = 1.3F;
    requests.push_back(request);
  }
  return requests;
}

/// Each request alone in a loop of its own, on one thread, with the reference kernels.
const std::map<engine::request_id, std::vector<engine::token_id>>& expected_tokens() {
  static const auto expected = [] {
    std::map<engine::request_id, std::vector<engine::token_id>> all;
    engine::generation_options options;
    options.threads = 1;
    options.isa = kernels::instruction_set::scalar;
    options.prefix_cache = false;
    for (const auto& request : mixed_requests()) {
      auto loop = make_loop(options);
      BOOST_REQUIRE(loop->submit(request));
      all[request.id] = run_until_idle(*loop).at(request.id).ids();
      BOOST_REQUIRE(all[request.id].size() == request.max_tokens);
    }
    return all;
  }();
  return expected;
}

void check_expected(const tests::outcomes& results) {
  BOOST_TEST(results.size() == expected_tokens().size());
  for (const auto& [id, outcome] : results)
    BOOST_TEST(outcome.ids() == expected_tokens().at(id), "the tokens of request " << id << " differ");
}

void check_all_together(const engine::generation_options& options) {
  auto loop = make_loop(options);
  for (const auto& request : mixed_requests()) BOOST_REQUIRE(loop->submit(request));
  check_expected(run_until_idle(*loop));
  BOOST_TEST(loop->stats().kv_blocks_used == 0U);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(generation_determinism)

BOOST_AUTO_TEST_CASE(the_requests_of_these_tests_differ_from_each_other) {
  std::vector<std::vector<engine::token_id>> all;
  for (const auto& [id, tokens] : expected_tokens()) all.push_back({tokens.begin(), tokens.begin() + 12});
  std::sort(all.begin(), all.end());
  BOOST_TEST((std::adjacent_find(all.begin(), all.end()) == all.end()));
}

BOOST_AUTO_TEST_CASE(tokens_do_not_depend_on_threads_and_instruction_set) {
  for (const auto isa : kernels::supported_instruction_sets()) {
    for (const std::size_t threads : {1, 2, 3}) {
      BOOST_TEST_CONTEXT(kernels::to_string(isa) << ", " << threads << " threads") {
        engine::generation_options options;
        options.isa = isa;
        options.threads = threads;
        check_all_together(options);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(tokens_do_not_depend_on_the_prefill_chunk) {
  for (const std::size_t chunk : {1, 7, 64, 256}) {
    BOOST_TEST_CONTEXT("prefill chunk " << chunk) {
      engine::generation_options options;
      options.prefill_chunk = chunk;
      check_all_together(options);
    }
  }
}

BOOST_AUTO_TEST_CASE(tokens_do_not_depend_on_how_many_run_together) {
  for (const std::size_t sequences : {1, 2, 5}) {
    for (const bool prefix_cache : {false, true}) {
      BOOST_TEST_CONTEXT(sequences << " together, prefix cache " << prefix_cache) {
        engine::generation_options options;
        options.max_sequences = sequences;
        options.prefix_cache = prefix_cache;
        check_all_together(options);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(tokens_do_not_depend_on_when_others_come_and_go) {
  std::mt19937 random(5);
  for (int round = 0; round < 8; ++round) {
    engine::generation_options options;
    options.max_sequences = 1 + random() % 6;
    options.prefill_chunk = 1 + random() % 90;
    if (round == 0) options.threads = 2;
    auto loop = make_loop(options);
    auto requests = mixed_requests();
    tests::outcomes results;
    engine::request_id noise = 1000;
    while (!requests.empty() || !loop->idle()) {
      if (!requests.empty() && random() % 3 == 0) {
        const auto pick = requests.begin() + random() % requests.size();
        BOOST_REQUIRE(loop->submit(*pick));
        requests.erase(pick);
      }
      if (random() % 4 == 0 && !requests.empty())
        BOOST_REQUIRE(loop->submit(tests::request_of(++noise, 1 + random() % 90, 30, 1.0F)));
      if (random() % 4 == 0) loop->cancel(1001 + random() % 30);
      tests::collect(results, loop->step());
    }
    for (auto r = results.begin(); r != results.end();) r = r->first > 1000 ? results.erase(r) : std::next(r);
    check_expected(results);
    BOOST_TEST(loop->stats().kv_blocks_used == 0U);
  }
}

BOOST_AUTO_TEST_CASE(a_sequence_resumes_at_any_token) {
  auto loop = make_loop();
  for (const auto& request : mixed_requests()) {
    const auto& whole = expected_tokens().at(request.id);
    for (std::size_t emitted = 0; emitted < whole.size(); emitted += 1 + emitted / 4) {
      auto resumed = request;
      resumed.emitted.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(emitted));
      BOOST_REQUIRE(loop->submit(resumed));
      const auto result = run_until_idle(*loop).at(request.id);
      auto ids = resumed.emitted;
      for (const auto id : result.ids()) ids.push_back(id);
      BOOST_TEST(ids == whole, "request " << request.id << " resumed after " << emitted);
      BOOST_TEST(result.usage.completion_tokens == whole.size());
    }
  }
}

BOOST_AUTO_TEST_CASE(tokens_survive_preemption) {
  engine::generation_options options;
  options.max_sequences = 6;
  // The least there can be: one context of 8 blocks, and the probe's.
  options.kv_cache_bytes = 9 * engine::kv_cache_block_bytes(tests::small_config());
  for (const bool prefix_cache : {false, true}) {
    options.prefix_cache = prefix_cache;
    auto loop = make_loop(options);
    // Short prompts that grow over many blocks: they are admitted together and cannot stay together.
    std::vector<engine::generation_request> requests;
    for (engine::request_id id = 1; id <= 5; ++id)
      requests.push_back(tests::request_of(id, 40 + 5 * id, 150, 1.0F));
    tests::outcomes alone;
    for (const auto& request : requests) {
      auto single = make_loop();
      BOOST_REQUIRE(single->submit(request));
      alone[request.id] = run_until_idle(*single).at(request.id);
      BOOST_REQUIRE(loop->submit(request));
    }
    const auto results = run_until_idle(*loop);
    for (const auto& [id, outcome] : results)
      BOOST_TEST(outcome.ids() == alone.at(id).ids(), "request " << id);
    BOOST_TEST(loop->stats().preemptions > 0U);
    BOOST_TEST(loop->stats().kv_blocks_used == 0U);
  }
}

BOOST_AUTO_TEST_CASE(a_known_prefix_is_not_computed_again) {
  auto loop = make_loop();
  auto request = tests::request_of(1, 200, 80, 1.0F);
  BOOST_REQUIRE(loop->submit(request));
  const auto first = run_until_idle(*loop).at(1);
  BOOST_TEST(first.usage.cached_tokens == 0U);
  const auto prefilled = loop->stats().prompt_tokens;
  BOOST_REQUIRE(loop->submit(request));
  const auto second = run_until_idle(*loop).at(1);
  BOOST_TEST(second.usage.cached_tokens == 192U);
  BOOST_TEST(second.ids() == first.ids(), boost::test_tools::per_element());
  BOOST_TEST(loop->stats().prompt_tokens == prefilled + 8);
  BOOST_TEST(loop->stats().cached_tokens == 192U);

  // The next turn of a conversation: prompt and completion are known.
  auto next = tests::request_of(2, 0, 5);
  next.prompt = request.prompt;
  for (const auto id : first.ids()) next.prompt.push_back(id);
  next.prompt.push_back(3);
  BOOST_REQUIRE(loop->submit(next));
  BOOST_TEST(run_until_idle(*loop).at(2).usage.cached_tokens == 256U);

  // A prompt of whole blocks: the last one is computed, because its logits are needed.
  auto whole = tests::request_of(3, 0, 5);
  whole.prompt.assign(request.prompt.begin(), request.prompt.begin() + 128);
  BOOST_REQUIRE(loop->submit(whole));
  BOOST_TEST(run_until_idle(*loop).at(3).usage.cached_tokens == 64U);
}

BOOST_AUTO_TEST_CASE(no_block_is_lost_in_a_thousand_submits_and_cancels) {
  engine::generation_options options;
  options.max_sequences = 5;
  options.max_queued = 20;
  options.prefill_chunk = 100;
  options.kv_cache_bytes = 14 * engine::kv_cache_block_bytes(tests::small_config());
  auto loop = make_loop(options);
  std::mt19937 random(11);
  std::size_t finished = 0;
  const auto step = [&] {
    for (const auto& event : loop->step()) finished += event.finish != engine::finish_reason::none ? 1 : 0;
  };
  for (engine::request_id id = 1; id <= 1000; ++id) {
    while (loop->stats().queued == options.max_queued) step();
    BOOST_REQUIRE(loop->submit(tests::request_of(id, 1 + random() % 140, random() % 20, 1.0F)));
    if (random() % 4 != 0) loop->cancel(id - std::min<engine::request_id>(id, random() % 9));
    if (random() % 2 == 0) step();
    const auto stats = loop->stats();
    BOOST_REQUIRE(stats.kv_blocks_used <= stats.kv_blocks_total);
    BOOST_REQUIRE(stats.queued <= options.max_queued);
    BOOST_REQUIRE(stats.running <= options.max_sequences);
  }
  while (!loop->idle()) step();
  BOOST_TEST(finished == 1000U);
  BOOST_TEST(loop->stats().generated_tokens > 1000U);
  BOOST_TEST(loop->stats().kv_blocks_used == 0U);
  BOOST_TEST(loop->stats().running == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
