#include "actors/router.hpp"
#include "actors/worker.hpp"
#include "tests/unit/actors/fake_engine.hpp"
#include "tests/unit/actors/virtual_time.hpp"

#include <boost/test/unit_test.hpp>
#include <caf/detail/simple_actor_clock.hpp>

#include <algorithm>
#include <utility>
#include <vector>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

/// A router and one worker that can be killed and replaced.
struct resume_fixture : virtual_time {
  std::shared_ptr<fake_control> control = std::make_shared<fake_control>();
  std::shared_ptr<stream_counters> counters = std::make_shared<stream_counters>();
  router_actor handle;
  worker_actor current;
  std::uint64_t incarnation = 0;

  resume_fixture() {
    control->max_running = 100;
    router_options o;
    o.counters = counters;
    handle = system.spawn(router, std::move(o));
  }

  void start_worker(std::uint64_t capacity = 100, std::uint64_t model = 0) {
    worker_options o;
    o.model = std::make_shared<engine::model>();
    o.backend = fake_backend(control);
    o.board = std::make_shared<worker_board>(model, ++incarnation);
    const auto board = o.board;
    current = system.spawn(worker, std::move(o));
    caf::anon_send(handle, announce_atom_v, announced_worker{current, board, capacity, 0, model});
  }
  void kill_worker() { kill(caf::actor_cast<caf::actor>(current)); }

  struct client {
    token_sink_actor sink;
    frame_log frames;
    std::shared_ptr<error_code> refused = std::make_shared<error_code>(error_code::none);

    std::vector<engine::token_id> tokens() const {
      std::vector<engine::token_id> ids;
      for (const auto& f : *frames)
        for (const auto& t : f.tokens) ids.push_back(t.id);
      return ids;
    }
    bool ended() const { return !frames->empty() && frames->back().finish != engine::finish_reason::none; }
  };

  client submit(engine::request_id id, std::uint32_t max_tokens, std::uint64_t model = 0) {
    client c;
    std::tie(c.sink, c.frames) = make_sink();
    system.spawn([=, refused = c.refused, sink = c.sink, to = handle](caf::event_based_actor* self) {
      self->request(to, 300s, submit_atom_v, model, request_of(id, max_tokens), std::uint32_t{3}, sink)
          .then([](const submit_receipt&) {}, [=](const caf::error& e) { *refused = describe(e).code; });
    });
    return c;
  }
  /// Time-outs of requests that the router has sent.
  std::ptrdiff_t timeouts() {
    using clock = caf::detail::simple_actor_clock;
    const auto& schedule = dynamic_cast<clock&>(system.clock()).schedule();
    return std::count_if(schedule.begin(), schedule.end(), [this](const auto& entry) {
      const auto& event = *entry.second;
      return event.subtype == clock::request_timeout_type &&
             static_cast<const clock::request_timeout&>(event).self ==
                 caf::actor_cast<caf::strong_actor_ptr>(handle);
    });
  }
  /// As many steps of the engine as are taken before it is killed; then it is replaced.
  void run_and_kill_after(int steps) {
    control->during_step = [this, left = steps]() mutable {
      if (left-- == 0) kill_worker();
    };
    settle();
    control->during_step = nullptr;
  }

  ~resume_fixture() {
    control->during_step = nullptr;
    if (current) kill_worker();
    kill(caf::actor_cast<caf::actor>(handle));
    settle();
  }
};

std::vector<engine::token_id> counting(std::uint32_t n) {
  std::vector<engine::token_id> ids;
  for (std::uint32_t i = 0; i < n; ++i) ids.push_back(100 + i);
  return ids;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(router_resume, resume_fixture)

BOOST_AUTO_TEST_CASE(requests_that_a_worker_has_answered_leave_no_timeout_behind) {
  control->max_running = 1;
  control->max_queued = 0;
  start_worker();
  settle();
  const auto accepted = submit(1, 3);
  const auto another = submit(2, 3);
  BOOST_TEST(timeouts() == 0);
  settle();
  BOOST_TEST(control->submitted >= 1);
  BOOST_TEST(accepted.ended());
  BOOST_TEST(timeouts() == 0);
}

BOOST_AUTO_TEST_CASE(a_stream_goes_on_after_its_worker_was_killed_as_if_nothing_had_happened) {
  start_worker();
  const auto c = submit(7, 20);
  run_and_kill_after(5);
  BOOST_TEST(!c.ended());
  BOOST_TEST(counters->waiting.load() == 1U);
  advance(1s);
  start_worker();
  settle();
  BOOST_TEST((c.tokens() == counting(20)));
  BOOST_TEST((c.frames->back().finish == engine::finish_reason::length));
  BOOST_TEST(c.frames->back().usage.completion_tokens == 20U);
  for (std::uint32_t i = 0; i < c.frames->size(); ++i) {
    BOOST_TEST((*c.frames)[i].seq == i);
    BOOST_TEST((*c.frames)[i].request == 7U);
    BOOST_TEST((*c.frames)[i].attempt == 3U);
  }
  BOOST_TEST(counters->resumed.load() == 1U);
  BOOST_TEST(counters->active.load() == 0U);
}

BOOST_AUTO_TEST_CASE(a_hundred_kills_in_a_row_lose_no_stream) {
  start_worker();
  std::vector<client> clients;
  for (engine::request_id id = 1; id <= 8; ++id) clients.push_back(submit(id, 2500));
  for (int kills = 0; kills < 100; ++kills) {
    run_and_kill_after(kills % 5 == 0 ? 0 : 10 + kills % 9);  // also before anything came
    advance(200ms);
    start_worker();
  }
  settle();
  for (const auto& c : clients) {
    BOOST_TEST((c.tokens() == counting(2500)));
    BOOST_TEST((*c.refused == error_code::none));
    BOOST_TEST((c.frames->back().finish == engine::finish_reason::length));
  }
  BOOST_TEST(counters->quarantined.load() == 0U);
}

BOOST_AUTO_TEST_CASE(a_request_that_kills_its_workers_is_refused_and_its_neighbours_live) {
  start_worker();
  const auto before = submit(1, 400);
  int deaths = 0;
  int seen = 0;
  // Throws whenever the request for 999 tokens is in the batch.
  control->during_step = [&] {
    const bool poisoned = control->longest_running == 999;
    control->step_throws = poisoned;
    deaths += poisoned ? 1 : 0;
  };
  const auto poison = submit(2, 999);
  const auto beside = submit(3, 50);
  for (int i = 0; i < 10 && !(before.ended() && beside.ended()); ++i) {
    settle();
    advance(300ms);
    if (std::exchange(seen, deaths) != deaths) start_worker();
  }
  settle();
  BOOST_TEST((before.tokens() == counting(400)));
  BOOST_TEST((beside.tokens() == counting(50)));
  BOOST_TEST(poison.tokens().empty());
  BOOST_REQUIRE(poison.ended());
  BOOST_TEST((poison.frames->back().error == error_code::request_quarantined));
  BOOST_TEST(deaths <= 4);
  BOOST_TEST(counters->quarantined.load() == 1U);
}

BOOST_AUTO_TEST_CASE(a_new_request_waits_while_a_worker_is_being_replaced) {
  start_worker();
  settle();
  kill_worker();
  settle();
  const auto c = submit(1, 3);
  advance(3s);
  BOOST_TEST((*c.refused == error_code::none));
  start_worker();
  settle();
  BOOST_TEST((c.tokens() == counting(3)));
}

BOOST_AUTO_TEST_CASE(a_new_request_does_not_wait_for_ever) {
  start_worker();
  settle();
  kill_worker();
  settle();
  const auto c = submit(1, 3);
  advance(4900ms);
  BOOST_TEST((*c.refused == error_code::none));
  advance(200ms);
  BOOST_TEST((*c.refused == error_code::no_worker));
  BOOST_TEST(counters->active.load() == 0U);
}

BOOST_AUTO_TEST_CASE(a_stream_without_a_worker_ends_with_an_error_after_the_resume_wait) {
  start_worker();
  const auto c = submit(1, 20);
  run_and_kill_after(5);
  advance(59900ms);
  BOOST_TEST(!c.ended());
  advance(200ms);
  BOOST_REQUIRE(c.ended());
  BOOST_TEST((c.frames->back().error == error_code::worker_lost));
  BOOST_TEST(counters->abandoned.load() == 1U);
  // Whoever comes now need not wait.
  const auto late = submit(2, 3);
  settle();
  BOOST_TEST((*late.refused == error_code::no_worker));
}

BOOST_AUTO_TEST_CASE(waiting_streams_can_be_cancelled) {
  start_worker();
  const auto c = submit(1, 20);
  run_and_kill_after(5);
  const auto fresh = submit(2, 20);
  settle();
  caf::anon_send(handle, cancel_atom_v, engine::request_id{1});
  caf::anon_send(handle, cancel_atom_v, engine::request_id{2});
  settle();
  BOOST_REQUIRE(c.ended());
  BOOST_TEST((c.frames->back().finish == engine::finish_reason::cancelled));
  BOOST_TEST((*fresh.refused == error_code::no_worker));
  BOOST_TEST(fresh.frames->empty());
  start_worker();
  settle();
  BOOST_TEST(c.frames->size() == 7U);  // nothing more
}

BOOST_AUTO_TEST_CASE(a_client_that_leaves_while_its_stream_waits_is_forgotten) {
  start_worker();
  const auto c = submit(1, 20);
  run_and_kill_after(5);
  kill(caf::actor_cast<caf::actor>(c.sink));
  settle();
  BOOST_TEST(counters->active.load() == 0U);
  const auto submitted = control->submitted;
  start_worker();
  settle();
  BOOST_TEST(control->submitted == submitted);
}

BOOST_AUTO_TEST_CASE(a_client_that_leaves_ends_its_stream_at_the_worker) {
  start_worker();
  const auto c = submit(1, 1000);
  control->during_step = [&, steps = 0]() mutable {
    if (++steps == 5) kill(caf::actor_cast<caf::actor>(c.sink));
  };
  settle();
  BOOST_TEST(control->cancelled.size() == 1U);
  BOOST_TEST(counters->active.load() == 0U);
}

BOOST_AUTO_TEST_CASE(a_failed_computation_is_tried_once_more) {
  start_worker();
  control->computation_fails = true;
  const auto c = submit(1, 5);
  settle();
  BOOST_TEST(!c.ended());
  control->computation_fails = false;
  advance(2100ms);
  BOOST_TEST((c.tokens() == counting(5)));

  control->computation_fails = true;
  const auto d = submit(2, 5);
  advance(5s);
  BOOST_REQUIRE(d.ended());
  BOOST_TEST((d.frames->back().error == error_code::internal));
}

BOOST_AUTO_TEST_CASE(a_full_worker_takes_the_rest_of_its_predecessors_streams_later) {
  start_worker();
  std::vector<client> clients;
  for (engine::request_id id = 1; id <= 6; ++id) clients.push_back(submit(id, 30));
  run_and_kill_after(5);
  control->max_running = 2;
  control->max_queued = 1;
  start_worker(3);
  advance(10s);
  for (const auto& c : clients) BOOST_TEST((c.tokens() == counting(30)));
}

BOOST_AUTO_TEST_CASE(a_router_that_ends_gives_every_stream_its_last_frame) {
  start_worker();
  const auto c = submit(1, 20);
  run_and_kill_after(5);
  const auto fresh = submit(2, 5);
  settle();
  kill(caf::actor_cast<caf::actor>(handle));
  settle();
  BOOST_REQUIRE(c.ended());
  BOOST_TEST((c.frames->back().error == error_code::internal));
  BOOST_TEST((*fresh.refused == error_code::internal));
}

BOOST_AUTO_TEST_CASE(two_clients_may_use_the_same_request_id) {
  start_worker();
  const auto a = submit(1, 10);
  const auto b = submit(1, 12);
  settle();
  BOOST_TEST((a.tokens() == counting(10)));
  BOOST_TEST((b.tokens() == counting(12)));
}

BOOST_AUTO_TEST_CASE(streams_wait_for_a_worker_of_their_own_model_and_hold_up_no_other) {
  start_worker(100, 0);
  const auto c = submit(1, 20, 0);
  run_and_kill_after(5);
  start_worker(100, 1);
  const auto other = submit(2, 8, 1);
  advance(10s);
  BOOST_TEST(!c.ended());
  BOOST_TEST((other.tokens() == counting(8)));
  const auto other_worker = current;
  start_worker(100, 0);
  advance(1s);
  BOOST_TEST((c.tokens() == counting(20)));
  kill(caf::actor_cast<caf::actor>(other_worker));
}

BOOST_AUTO_TEST_CASE(a_stream_whose_model_has_no_worker_is_given_up_in_its_time_although_another_has_one) {
  start_worker(100, 0);
  const auto c = submit(1, 20, 0);
  run_and_kill_after(5);
  start_worker(100, 1);
  advance(59s);
  BOOST_TEST(!c.ended());
  advance(2s);
  BOOST_REQUIRE(c.ended());
  BOOST_TEST((c.frames->back().error == error_code::worker_lost));
}

BOOST_AUTO_TEST_CASE(streams_of_a_released_model_end_and_new_ones_are_refused) {
  start_worker(100, 0);
  const auto c = submit(1, 20, 0);
  run_and_kill_after(5);
  caf::anon_send(handle, release_atom_v, std::uint64_t{0});
  settle();
  BOOST_REQUIRE(c.ended());
  BOOST_TEST((c.frames->back().error == error_code::worker_lost));
  BOOST_TEST(counters->active.load() == 0U);
  const auto late = submit(2, 3, 0);
  settle();
  BOOST_TEST((*late.refused == error_code::no_worker));
}

BOOST_AUTO_TEST_SUITE_END()
