#include "engine/scheduler.hpp"

#include "tests/support/random_model.hpp"

#include <boost/test/unit_test.hpp>

#include <memory>
#include <vector>

namespace {

using namespace bitnet;
using engine::planned_chunk;
using engine::request_id;

struct urgency {
  std::int32_t priority = 0;
  std::uint64_t client = 0;
};

/// A scheduler over a few blocks. Nothing is computed: a step is its bookkeeping.
struct bench {
  explicit bench(std::size_t blocks, engine::scheduler::limits most = {.sequences = 8, .queued = 8})
      : cache(engine::kv_cache::create(tests::small_config(), blocks).value()), schedule(cache, most) {}

  void add(request_id id, std::size_t prompt_length, engine::token_id first = 0, urgency how = {}) {
    auto s = std::make_unique<engine::sequence>();
    s->request.id = id;
    s->request.priority = how.priority;
    s->request.client = how.client;
    for (std::size_t i = 0; i < prompt_length; ++i)
      s->request.prompt.push_back(first + static_cast<engine::token_id>(i));
    s->tokens = s->request.prompt;
    s->initial_length = prompt_length;
    schedule.enqueue(std::move(s));
  }

  /// One step: (id, count) of what ran; whoever reached its end got one more token.
  std::vector<std::pair<request_id, std::size_t>> step(std::size_t prefill_tokens = 64) {
    std::vector<std::pair<request_id, std::size_t>> ran;
    for (const auto& chunk : schedule.plan(prefill_tokens)) {
      ran.emplace_back(chunk.target->request.id, chunk.count);
      const bool completes = chunk.completes();
      schedule.mark_computed(chunk);
      if (completes) chunk.target->tokens.push_back(1);
    }
    return ran;
  }

  engine::kv_cache cache;
  engine::scheduler schedule;
};

using steps = std::vector<std::pair<request_id, std::size_t>>;

}  // namespace

BOOST_AUTO_TEST_SUITE(scheduler)

BOOST_AUTO_TEST_CASE(prompts_share_the_budget_of_a_step_in_the_order_they_came) {
  bench b(20);
  b.add(1, 100);
  b.add(2, 30, 200);
  b.add(3, 50, 100);
  BOOST_TEST((b.step() == steps{{1, 64}}));
  BOOST_TEST((b.step() == steps{{1, 36}, {2, 28}}));
  BOOST_TEST(b.schedule.decodes());
  BOOST_TEST((b.step() == steps{{1, 1}, {2, 2}, {3, 50}}));
  BOOST_TEST((b.step() == steps{{1, 1}, {2, 1}, {3, 1}}));
}

BOOST_AUTO_TEST_CASE(a_step_that_did_not_happen_is_planned_again) {
  bench b(20);
  b.add(1, 100);
  BOOST_TEST(b.schedule.plan(64).size() == 1U);
  BOOST_TEST(b.cache.used_blocks() == 1U);
  BOOST_TEST((b.step() == steps{{1, 64}}));
  BOOST_TEST(b.cache.used_blocks() == 1U);
}

BOOST_AUTO_TEST_CASE(the_first_in_the_queue_is_not_overtaken) {
  bench b(8);
  b.add(1, 300);
  b.add(2, 300, 1);
  b.add(3, 10, 2);
  BOOST_TEST((b.step(512) == steps{{1, 300}}));
  BOOST_TEST(b.schedule.queued() == 2U);
  b.schedule.remove(1);
  BOOST_TEST((b.step(512) == steps{{2, 300}, {3, 10}}));
}

BOOST_AUTO_TEST_CASE(not_more_run_together_than_allowed) {
  bench b(8, {.sequences = 2, .queued = 2});
  b.add(1, 5);
  b.add(2, 5);
  BOOST_TEST(b.schedule.queue_is_full());
  BOOST_TEST(b.step().size() == 2U);
  b.add(3, 5);
  BOOST_TEST(b.step().size() == 2U);
  BOOST_TEST(b.schedule.running() == 2U);
  BOOST_TEST(b.schedule.queued() == 1U);
  BOOST_TEST(b.schedule.contains(3));
  BOOST_TEST(!b.schedule.contains(4));
}

BOOST_AUTO_TEST_CASE(clients_that_wait_take_turns) {
  bench b(40, {.sequences = 1, .queued = 16});
  for (request_id id = 1; id <= 4; ++id) b.add(id, 8, 0, {.client = 1});
  b.add(11, 8, 0, {.client = 2});
  b.add(12, 8, 0, {.client = 2});
  b.add(21, 8, 0, {.client = 3});
  std::vector<request_id> order;
  while (b.schedule.running() + b.schedule.queued() > 0) {
    const auto ran = b.step();
    order.push_back(ran.front().first);
    b.schedule.remove(ran.front().first);
  }
  BOOST_TEST(order == (std::vector<request_id>{1, 11, 21, 2, 12, 3, 4}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(places_go_to_the_client_who_has_the_fewest) {
  bench b(40, {.sequences = 4, .queued = 16});
  for (request_id id = 1; id <= 6; ++id) b.add(id, 8, 0, {.client = 1});
  for (request_id id = 11; id <= 12; ++id) b.add(id, 8, 0, {.client = 2});
  std::vector<request_id> ran;
  for (const auto& [id, count] : b.step()) ran.push_back(id);
  BOOST_TEST(ran == (std::vector<request_id>{1, 11, 2, 12}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_more_urgent_comes_first_and_is_put_back_last) {
  bench b(40, {.sequences = 3, .queued = 16});
  b.add(1, 8, 0, {.priority = 5});
  b.add(2, 8, 0, {.priority = -5});
  b.add(3, 8);
  b.add(4, 8, 0, {.priority = -5});
  std::vector<request_id> ran;
  for (const auto& [id, count] : b.step()) ran.push_back(id);
  BOOST_TEST(ran == (std::vector<request_id>{2, 4, 3}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_youngest_makes_room_and_comes_back_first) {
  bench b(4);
  b.add(1, 64);
  b.add(2, 60, 100);
  BOOST_TEST((b.step(512) == steps{{1, 64}, {2, 60}}));
  b.add(3, 5, 50);
  // 1 needs a second block, 2 gets one at its 65th token, then 1 a third at its 129th.
  std::size_t most = 0;
  while (b.schedule.preemptions() == 0) {
    b.step(512);
    BOOST_REQUIRE(++most < 300);
  }
  BOOST_TEST(b.schedule.contains(1));
  const auto ran = b.step(512);
  BOOST_REQUIRE(!ran.empty());
  BOOST_TEST(ran.front().first == 1U);
  // Whoever was preempted stands in the queue in the order of arrival.
  b.schedule.remove(1);
  const auto next = b.step(512);
  BOOST_REQUIRE(next.size() == 2U);
  BOOST_TEST(next[0].first == 2U);
  BOOST_TEST(next[1].first == 3U);
}

BOOST_AUTO_TEST_CASE(blocks_come_back_when_sequences_end) {
  bench b(10);
  b.add(1, 200);
  b.add(2, 100, 7);
  b.step(512);
  BOOST_TEST(b.cache.used_blocks() == 6U);
  BOOST_TEST((b.schedule.remove(1) != nullptr));
  BOOST_TEST(b.cache.used_blocks() == 2U);
  BOOST_TEST((b.schedule.remove(1) == nullptr));
  b.schedule.remove(2);
  BOOST_TEST(b.cache.used_blocks() == 0U);
  BOOST_TEST(b.schedule.plan(64).empty());
}

BOOST_AUTO_TEST_CASE(a_prefix_is_shared_while_both_run) {
  bench b(10);
  b.add(1, 130);
  b.step(512);
  b.add(2, 130);
  BOOST_TEST((b.step(512) == steps{{1, 1}, {2, 2}}));
  BOOST_TEST(b.cache.used_blocks() == 4U);  // two shared, one each
  b.schedule.remove(1);
  BOOST_TEST(b.cache.used_blocks() == 3U);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_trusted_is_not_found_again) {
  bench b(10);
  b.add(1, 130);
  b.step(512);
  b.schedule.remove(1, false);
  b.add(2, 130);
  BOOST_TEST((b.step(512) == steps{{2, 130}}));
}

BOOST_AUTO_TEST_CASE(prompts_give_way_to_sequences_that_decode) {
  using engine::prefill_budget;
  BOOST_TEST(prefill_budget(256, false, 0.01, 0.25) == 256U);
  BOOST_TEST(prefill_budget(256, true, 0.0005, 0.25) == 256U);
  BOOST_TEST(prefill_budget(256, true, 0.005, 0.25) == 50U);
  BOOST_TEST(prefill_budget(256, true, 1.0, 0.25) == 16U);
  BOOST_TEST(prefill_budget(8, true, 1.0, 0.25) == 8U);
  BOOST_TEST(prefill_budget(256, true, 1.0, 0) == 256U);
  BOOST_TEST(prefill_budget(256, true, 0, 0.25) == 256U);
}

BOOST_AUTO_TEST_SUITE_END()
