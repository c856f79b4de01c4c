#include "actors/resumable_stream.hpp"
#include "actors/stream_table.hpp"

#include <boost/test/unit_test.hpp>

#include <map>
#include <utility>
#include <vector>

using namespace bitnet;
using namespace bitnet::actors;
using namespace std::chrono_literals;

namespace {

using meaning = resumable_stream::meaning;
using blame = resumable_stream::blame;

engine::generation_request request_with(engine::request_id id) {
  engine::generation_request r;
  r.id = id;
  r.prompt = {1, 2, 3};
  r.max_tokens = 8;
  r.sampling.seed = 42;
  r.stop_tokens = {7};
  return r;
}

token_frame frame(std::uint32_t attempt, std::uint32_t seq, std::vector<engine::token_id> ids,
                  engine::finish_reason finish = engine::finish_reason::none) {
  token_frame f;
  f.request = 1;
  f.attempt = attempt;
  f.seq = seq;
  for (const auto id : ids) f.tokens.push_back({id, 0.0F, {}});
  f.finish = finish;
  return f;
}

token_frame failed_frame(std::uint32_t attempt, std::uint32_t seq, error_code code) {
  auto f = frame(attempt, seq, {}, engine::finish_reason::failed);
  f.error = code;
  return f;
}

meaning take(resumable_stream& s, token_frame f) {
  return s.take(f);
}

/// A table whose streams are named by their keys, and a clock.
struct table_fixture {
  stream_table table;
  steady_time now{};
  worker_run worker{0, 1};

  stream_table::key add() { return table.add(request_with(table.size() + 1), 1, now); }
  /// Submits all that may go now; in order.
  std::vector<stream_table::key> dispatch() {
    std::vector<stream_table::key> order;
    while (const auto k = table.next(now)) {
      table.begin(*k, worker);
      table.find(*k)->accept(table.find(*k)->attempt());
      order.push_back(*k);
    }
    return order;
  }
  void token(stream_table::key k) {
    auto& s = *table.find(k);
    auto f = frame(s.attempt(), next_seq[{k, s.attempt()}]++, {100});
    BOOST_TEST((s.take(f) == meaning::forward));
  }
  std::vector<stream_table::key> die() {
    auto quarantined = table.lose_worker(worker, now);
    ++worker.incarnation;
    return quarantined;
  }
  std::map<std::pair<stream_table::key, std::uint32_t>, std::uint32_t> next_seq;
};

using keys = std::vector<stream_table::key>;

}  // namespace

BOOST_AUTO_TEST_SUITE(resumable_stream_rules)

BOOST_AUTO_TEST_CASE(the_next_attempt_carries_the_tokens_so_far_and_everything_else_unchanged) {
  resumable_stream s(request_with(9), 5);
  const auto first = s.begin_attempt();
  BOOST_TEST(first.emitted.empty());
  s.accept(1);
  take(s, frame(1, 0, {100, 101}));
  s.lose(blame::none);
  const auto second = s.begin_attempt();
  BOOST_TEST(s.attempt() == 2U);
  BOOST_TEST((second.emitted == std::vector<engine::token_id>{100, 101}));
  BOOST_TEST((second.prompt == first.prompt));
  BOOST_TEST((second.stop_tokens == first.stop_tokens));
  BOOST_TEST(second.sampling.seed == 42U);
  BOOST_TEST(second.max_tokens == 8U);
}

BOOST_AUTO_TEST_CASE(clients_see_one_sequence_of_frames_under_their_own_numbers) {
  resumable_stream s(request_with(9), 5);
  s.begin_attempt();
  auto a = frame(1, 0, {100});
  BOOST_TEST((s.take(a) == meaning::forward));
  BOOST_TEST(a.request == 9U);
  BOOST_TEST(a.attempt == 5U);
  BOOST_TEST(a.seq == 0U);
  s.lose(blame::none);
  s.begin_attempt();
  auto b = frame(2, 0, {101}, engine::finish_reason::stop);
  BOOST_TEST((s.take(b) == meaning::ended));
  BOOST_TEST(b.attempt == 5U);
  BOOST_TEST(b.seq == 1U);
}

BOOST_AUTO_TEST_CASE(stale_and_duplicate_frames_are_dropped) {
  resumable_stream s(request_with(9), 1);
  s.begin_attempt();
  BOOST_TEST((take(s, frame(1, 0, {100})) == meaning::forward));
  BOOST_TEST((take(s, frame(1, 0, {100})) == meaning::dropped));  // again
  s.lose(blame::none);
  BOOST_TEST((take(s, frame(1, 1, {101})) == meaning::dropped));  // of a worker given up
  s.begin_attempt();
  BOOST_TEST((take(s, frame(1, 1, {101})) == meaning::dropped));
  BOOST_TEST((take(s, failed_frame(1, 1, error_code::worker_lost)) == meaning::dropped));
  BOOST_TEST((take(s, frame(2, 0, {101})) == meaning::forward));
  BOOST_TEST((s.request().emitted == std::vector<engine::token_id>{100, 101}));
  BOOST_TEST((take(s, frame(2, 1, {}, engine::finish_reason::stop)) == meaning::ended));
  BOOST_TEST((take(s, frame(2, 2, {102})) == meaning::dropped));  // after the end
}

BOOST_AUTO_TEST_CASE(a_gap_in_the_frames_is_noticed_and_nothing_of_it_kept) {
  resumable_stream s(request_with(9), 1);
  s.begin_attempt();
  BOOST_TEST((take(s, frame(1, 0, {100})) == meaning::forward));
  BOOST_TEST((take(s, frame(1, 2, {102})) == meaning::frames_lost));
  BOOST_TEST((s.request().emitted == std::vector<engine::token_id>{100}));
}

BOOST_AUTO_TEST_CASE(usage_is_that_of_an_undisturbed_run) {
  resumable_stream s(request_with(9), 1);
  s.begin_attempt();
  auto a = frame(1, 0, {100});
  a.usage = {3, 1, 2};
  s.take(a);
  s.lose(blame::none);
  s.begin_attempt();
  auto b = frame(2, 0, {101}, engine::finish_reason::length);
  b.usage = {3, 2, 0};  // the new worker's cache is cold
  s.take(b);
  BOOST_TEST(b.usage.prompt_tokens == 3U);
  BOOST_TEST(b.usage.completion_tokens == 2U);
  BOOST_TEST(b.usage.cached_tokens == 2U);
}

BOOST_AUTO_TEST_CASE(a_failed_computation_is_tried_once_more_and_then_reported) {
  resumable_stream s(request_with(9), 1);
  s.begin_attempt();
  BOOST_TEST((take(s, failed_frame(1, 0, error_code::internal)) == meaning::computation_failed));
  s.lose(blame::none);
  s.begin_attempt();
  BOOST_TEST((take(s, failed_frame(2, 0, error_code::internal)) == meaning::ended));
}

BOOST_AUTO_TEST_CASE(only_workers_deaths_without_a_token_make_a_suspect_and_a_token_clears_it) {
  resumable_stream s(request_with(9), 1);
  s.begin_attempt();
  BOOST_TEST(!s.unproven());  // not accepted: it was not in the worker
  s.accept(1);
  BOOST_TEST(s.unproven());
  s.lose(blame::sole);
  BOOST_TEST(s.suspect());
  BOOST_TEST(s.sole_blames() == 1U);
  s.begin_attempt();
  s.accept(2);
  take(s, frame(2, 0, {100}));
  BOOST_TEST(!s.unproven());
  BOOST_TEST(!s.suspect());
  BOOST_TEST(s.sole_blames() == 0U);
}

BOOST_AUTO_TEST_CASE(the_last_frame_of_a_failed_stream_continues_its_numbers) {
  resumable_stream s(request_with(9), 4);
  s.begin_attempt();
  take(s, frame(1, 0, {100}));
  const auto last = s.fail(error_code::no_worker, "why");
  BOOST_TEST(last.seq == 1U);
  BOOST_TEST(last.attempt == 4U);
  BOOST_TEST((last.finish == engine::finish_reason::failed));
  BOOST_TEST((last.error == error_code::no_worker));
  BOOST_TEST((take(s, frame(1, 1, {101})) == meaning::dropped));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(stream_table_rules, table_fixture)

BOOST_AUTO_TEST_CASE(a_poison_alone_is_given_up_after_two_deaths) {
  const auto poison = add();
  BOOST_TEST((dispatch() == keys{poison}));
  BOOST_TEST(die().empty());
  BOOST_TEST((dispatch() == keys{poison}));
  BOOST_TEST((die() == keys{poison}));
}

BOOST_AUTO_TEST_CASE(innocents_batched_with_a_poison_are_cleared_and_the_poison_is_found) {
  const auto a = add();
  const auto poison = add();
  const auto b = add();
  BOOST_TEST(dispatch().size() == 3U);
  BOOST_TEST(die().empty());            // all three are suspects
  BOOST_TEST((dispatch() == keys{a}));  // one at a time
  token(a);
  BOOST_TEST((dispatch() == keys{poison}));
  BOOST_TEST(die().empty());            // its first: a had its token
  BOOST_TEST((dispatch() == keys{a}));  // no suspect any more: goes first
  token(a);
  BOOST_TEST((dispatch() == keys{poison}));
  BOOST_TEST((die() == keys{poison}));
  table.erase(poison);
  BOOST_TEST((dispatch() == keys{a}));
  token(a);
  BOOST_TEST((dispatch() == keys{b}));
  token(b);
  BOOST_TEST(table.waiting() == 0U);
}

BOOST_AUTO_TEST_CASE(streams_that_progress_survive_any_number_of_deaths) {
  const auto a = add();
  const auto b = add();
  for (int i = 0; i < 1000; ++i) {
    dispatch();
    token(a);
    dispatch();
    token(b);
    dispatch();
    BOOST_REQUIRE(die().empty());
  }
  BOOST_TEST(!table.find(a)->suspect());
}

BOOST_AUTO_TEST_CASE(a_request_that_the_worker_had_not_accepted_is_not_blamed) {
  const auto a = add();
  for (int i = 0; i < 10; ++i) {
    BOOST_REQUIRE(table.next(now).has_value());
    table.begin(a, worker);
    BOOST_TEST(die().empty());
  }
  BOOST_TEST(!table.find(a)->suspect());
}

BOOST_AUTO_TEST_CASE(requests_that_only_waited_in_the_workers_queue_are_not_blamed) {
  const auto a = add();
  const auto b = add();
  const auto queued = add();
  for (int i = 0; i < 100; ++i) {
    dispatch();
    token(a);
    token(b);
    BOOST_REQUIRE(table.lose_worker(worker, now, 2).empty());
    ++worker.incarnation;
  }
  BOOST_TEST(!table.find(queued)->suspect());
  // With a place in the batch it may have been at work.
  dispatch();
  token(a);
  token(b);
  table.lose_worker(worker, now, 3);
  BOOST_TEST(table.find(queued)->sole_blames() == 1U);
}

BOOST_AUTO_TEST_CASE(suspects_wait_for_the_first_tokens_of_others_but_not_for_long) {
  const auto healthy = add();
  dispatch();
  token(healthy);
  const auto suspect = add();
  dispatch();
  die();
  BOOST_TEST((dispatch() == keys{healthy}));
  now += 1s;
  BOOST_TEST(dispatch().empty());
  now += 1s;
  BOOST_TEST((dispatch() == keys{suspect}));
  // Now both are without a token: the death has two explanations.
  BOOST_TEST(die().empty());
  BOOST_TEST(table.find(suspect)->sole_blames() == 1U);  // of the first death
  BOOST_TEST(table.find(healthy)->suspect());
}

BOOST_AUTO_TEST_CASE(new_requests_wait_behind_a_trial_but_not_for_long) {
  const auto suspect = add();
  dispatch();
  die();
  BOOST_TEST((dispatch() == keys{suspect}));
  const auto fresh = add();
  BOOST_TEST(dispatch().empty());
  now += 4999ms;
  BOOST_TEST(dispatch().empty());
  now += 1ms;
  BOOST_TEST((dispatch() == keys{fresh}));
}

BOOST_AUTO_TEST_CASE(a_trial_that_succeeds_lets_new_requests_go) {
  const auto suspect = add();
  dispatch();
  die();
  dispatch();
  const auto fresh = add();
  BOOST_TEST(dispatch().empty());
  token(suspect);
  BOOST_TEST((dispatch() == keys{fresh}));
}

BOOST_AUTO_TEST_CASE(resumed_streams_go_before_new_requests) {
  const auto old = add();
  dispatch();
  token(old);
  die();
  const auto fresh = add();
  BOOST_TEST((dispatch() == keys{old, fresh}));
}

BOOST_AUTO_TEST_CASE(other_workers_streams_are_untouched_by_a_death) {
  const auto a = add();
  table.begin(a, {1, 1});
  table.find(a)->accept(1);
  const auto b = add();
  dispatch();
  die();
  BOOST_TEST((table.find(a)->current() == resumable_stream::phase::running));
  BOOST_TEST((table.find(b)->current() == resumable_stream::phase::waiting));
  BOOST_TEST(table.find(b)->sole_blames() == 1U);
}

BOOST_AUTO_TEST_CASE(waits_end_new_requests_sooner_than_resumed_ones) {
  now += 1h;
  const auto old = add();
  dispatch();
  token(old);
  now += 1h;
  die();
  const auto lost_at = now;
  const auto fresh = add();
  now += 4999ms;
  BOOST_TEST(table.expired(now, lost_at).empty());
  now += 1ms;
  BOOST_TEST((table.expired(now, lost_at) == keys{fresh}));
  now += 55s;
  BOOST_TEST((table.expired(now, lost_at) == keys{old, fresh}));
}

BOOST_AUTO_TEST_CASE(a_postponed_stream_comes_again_after_the_delay) {
  const auto a = add();
  table.begin(a, worker);
  table.postpone(a, now);
  BOOST_TEST(!table.next(now).has_value());
  now += table.options().retry_delay;
  BOOST_TEST(table.next(now).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
