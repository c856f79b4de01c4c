#include "actors/worker.hpp"

#include "actors/router.hpp"
#include "tests/unit/actors/fake_engine.hpp"
#include "tests/unit/actors/virtual_time.hpp"

#include <boost/test/unit_test.hpp>
#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

struct worker_fixture : virtual_time {
  std::shared_ptr<fake_control> control = std::make_shared<fake_control>();
  std::shared_ptr<worker_board> board;

  worker_actor start_worker(std::uint64_t id = 0, std::uint64_t incarnation = 1) {
    board = std::make_shared<worker_board>(id, incarnation);
    worker_options o;
    o.model = std::make_shared<engine::model>();
    o.backend = fake_backend(control);
    o.board = board;
    auto handle = system.spawn(worker, std::move(o));
    settle();  // it starts its engine before anybody can know of it
    return handle;
  }
  outcome<submit_receipt> submit(const worker_actor& to, engine::request_id id, const token_sink_actor& sink,
                                 std::uint32_t max_tokens = 3) {
    return request<submit_receipt>(to, submit_atom_v, request_of(id, max_tokens), std::uint32_t{1}, sink);
  }
  ~worker_fixture() { settle(); }
};

struct router_fixture : worker_fixture {
  /// Lets nobody wait: see router_resume_test.cpp for those that do.
  static router_options impatient() {
    router_options o;
    o.resume.new_request_wait = o.resume.resume_wait = 0ms;
    return o;
  }
  router_actor handle = system.spawn(router, impatient());

  void announce(const worker_actor& worker, std::uint64_t capacity = 100) {
    caf::anon_send(handle, announce_atom_v, announced_worker{worker, board, capacity});
    settle();
  }
  outcome<submit_receipt> route(engine::request_id id, const token_sink_actor& sink,
                                std::uint32_t max_tokens = 3) {
    return request<submit_receipt>(handle, submit_atom_v, std::uint64_t{0}, request_of(id, max_tokens),
                                   std::uint32_t{1}, sink);
  }
  ~router_fixture() {
    caf::anon_send_exit(handle, caf::exit_reason::kill);
    settle();
  }
};

std::vector<engine::token_id> tokens_of(const std::vector<token_frame>& frames) {
  std::vector<engine::token_id> ids;
  for (const auto& f : frames)
    for (const auto& t : f.tokens) ids.push_back(t.id);
  return ids;
}

template <class Handle>
void end(worker_fixture& f, const Handle& actor, caf::exit_reason reason = caf::exit_reason::kill) {
  caf::anon_send_exit(actor, reason);
  f.settle();
}

template <class T>
T round_trip(virtual_time& v, const T& value) {
  std::vector<char> buffer;
  caf::binary_serializer sink(v.system, buffer);
  auto copy = value;
  BOOST_REQUIRE(!sink(copy));
  T result;
  caf::binary_deserializer source(v.system, buffer);
  BOOST_REQUIRE(!source(result));
  return result;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(worker_rules, worker_fixture)

BOOST_AUTO_TEST_CASE(worker_streams_tokens_in_numbered_frames_with_one_last) {
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  const auto receipt = submit(w, 7, sink);
  BOOST_REQUIRE(receipt.value);
  BOOST_TEST(receipt.value->request == 7U);
  BOOST_TEST(receipt.value->attempt == 1U);
  BOOST_REQUIRE(frames->size() == 3U);
  for (std::uint32_t i = 0; i < 3; ++i) {
    BOOST_TEST((*frames)[i].request == 7U);
    BOOST_TEST((*frames)[i].seq == i);
    BOOST_TEST(
        ((*frames)[i].finish == (i == 2 ? engine::finish_reason::length : engine::finish_reason::none)));
  }
  BOOST_TEST((tokens_of(*frames) == std::vector<engine::token_id>{100, 101, 102}));
  BOOST_TEST(frames->back().usage.completion_tokens == 3U);
  BOOST_TEST(board->streams.load() == 0U);
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(worker_proves_itself_with_a_canary_before_the_first_request) {
  const auto w = start_worker();
  settle();
  BOOST_TEST(board->canary_runs.load() == 1U);
  BOOST_TEST(board->canary_hash.load() == 0x1234U);
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(idle_worker_repeats_the_canary_every_ten_seconds) {
  const auto w = start_worker();
  advance(61s);
  BOOST_TEST(board->canary_runs.load() >= 6U);
  BOOST_TEST(board->canary_runs.load() <= 7U);
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(a_failed_computation_is_reported_and_followed_by_a_canary) {
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  settle();
  control->computation_fails = true;
  submit(w, 1, sink);
  BOOST_REQUIRE(frames->size() == 1U);
  BOOST_TEST((frames->front().finish == engine::finish_reason::failed));
  BOOST_TEST((frames->front().error == error_code::internal));
  BOOST_TEST(board->failed_sequences.load() == 1U);
  BOOST_TEST(board->canary_runs.load() == 2U);
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(refusals_of_the_engine_reach_the_client_as_values) {
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  engine::generation_request empty;
  const auto r = request<submit_receipt>(w, submit_atom_v, empty, std::uint32_t{1}, sink);
  BOOST_TEST(!r.value);
  BOOST_TEST((describe(r.error).code == error_code::invalid_request));
  BOOST_TEST(describe(r.error).message == "The prompt is empty.");
  BOOST_TEST(frames->empty());
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(worker_without_an_engine_refuses_and_says_why_on_its_board) {
  control->create_fails = true;
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  BOOST_TEST((describe(submit(w, 1, sink).error).code == error_code::no_worker));
  BOOST_TEST((board->phase.load() == worker_phase::refused));
  BOOST_TEST(board->refusal == "The KV cache does not fit.");
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(draining_worker_refuses_new_requests) {
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  caf::anon_send(w, drain_atom_v);
  BOOST_TEST((describe(submit(w, 1, sink).error).code == error_code::draining));
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(cancelled_request_gets_one_last_frame) {
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  control->during_step = [&, worker_handle = w] {
    if (frames->empty()) caf::anon_send(worker_handle, cancel_atom_v, engine::request_id{5});
  };
  submit(w, 5, sink, 1000);
  BOOST_REQUIRE(!frames->empty());
  BOOST_TEST((frames->back().finish == engine::finish_reason::cancelled));
  BOOST_TEST(frames->size() <= 3U);
  BOOST_TEST(board->streams.load() == 0U);
  control->during_step = nullptr;
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(a_sink_that_ends_cancels_all_its_requests) {
  const auto w = start_worker();
  const auto [gone, gone_frames] = make_sink();
  const auto [stays, stays_frames] = make_sink();
  control->delivers = false;
  control->during_step = [this, steps = 0, sink = gone]() mutable {
    if (++steps == 3) caf::anon_send_exit(sink, caf::exit_reason::kill);
    if (steps == 6) control->delivers = true;
  };
  caf::anon_send(w, submit_atom_v, request_of(1, 50), std::uint32_t{1}, gone);
  caf::anon_send(w, submit_atom_v, request_of(2, 50), std::uint32_t{1}, gone);
  caf::anon_send(w, submit_atom_v, request_of(3, 2), std::uint32_t{1}, stays);
  settle();
  BOOST_TEST(control->cancelled.size() == 2U);
  BOOST_TEST(board->streams.load() == 0U);
  BOOST_TEST((tokens_of(*stays_frames) == std::vector<engine::token_id>{100, 101}));
  control->during_step = nullptr;
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(two_attempts_of_one_request_do_not_collide) {
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  auto resumed = request_of(9, 4);
  resumed.emitted = {100, 101};
  caf::anon_send(w, submit_atom_v, request_of(9, 4), std::uint32_t{1}, sink);
  caf::anon_send(w, submit_atom_v, resumed, std::uint32_t{2}, sink);
  settle();
  std::vector<token_frame> second;
  std::copy_if(frames->begin(), frames->end(), std::back_inserter(second),
               [](const token_frame& f) { return f.attempt == 2; });
  BOOST_TEST((tokens_of(second) == std::vector<engine::token_id>{102, 103}));
  BOOST_TEST(frames->size() == 6U);
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(a_worker_that_dies_gives_every_stream_its_last_frame) {
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  int steps = 0;
  control->during_step = [&] { control->step_throws = ++steps == 3; };
  submit(w, 1, sink, 1000);
  BOOST_REQUIRE(frames->size() == 3U);
  BOOST_TEST((frames->back().finish == engine::finish_reason::failed));
  BOOST_TEST((frames->back().error == error_code::worker_lost));
  BOOST_TEST(frames->back().seq == 2U);
}

BOOST_AUTO_TEST_CASE(a_killed_worker_gives_every_stream_its_last_frame) {
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  int steps = 0;
  control->during_step = [&, handle = w] {
    if (++steps == 2) caf::anon_send_exit(handle, caf::exit_reason::kill);
  };
  submit(w, 1, sink, 1000);
  BOOST_REQUIRE(!frames->empty());
  BOOST_TEST((frames->back().error == error_code::worker_lost));
}

BOOST_AUTO_TEST_CASE(board_follows_load_and_work) {
  const auto w = start_worker();
  const auto [sink, frames] = make_sink();
  std::uint64_t running = 0;
  std::uint64_t queued = 0;
  control->during_step = [&] {
    running = std::max(running, board->running.load());
    queued = std::max(queued, board->queued.load());
    BOOST_TEST((board->phase.load() == worker_phase::stepping));
    BOOST_TEST(board->busy_since_ns.load() != 0);
  };
  for (engine::request_id id = 1; id <= 3; ++id)
    caf::anon_send(w, submit_atom_v, request_of(id), std::uint32_t{1}, sink);
  settle();
  BOOST_TEST(running == 2U);
  BOOST_TEST(queued == 1U);
  BOOST_TEST(board->busy_since_ns.load() == 0);
  BOOST_TEST(board->generated_tokens.load() == 9U);
  BOOST_TEST(board->finished_sequences.load() == 3U);
  BOOST_TEST(board->streams.load() == 0U);
  control->during_step = nullptr;
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(messages_survive_the_wire) {
  auto r = request_of(11, 5);
  r.emitted = {4, 5};
  r.sampling.temperature = 0.5F;
  r.sampling.seed = 99;
  r.sampling.logit_bias = {{3, -1.5F}, {8, 2.0F}};
  r.stop_tokens = {2};
  r.top_logprobs = 4;
  r.want_logprobs = true;
  const auto copy = round_trip(*this, r);
  BOOST_TEST(copy.id == 11U);
  BOOST_TEST((copy.prompt == r.prompt));
  BOOST_TEST((copy.emitted == r.emitted));
  BOOST_TEST(copy.sampling.temperature == 0.5F);
  BOOST_TEST(copy.sampling.seed == 99U);
  BOOST_TEST((copy.sampling.logit_bias == r.sampling.logit_bias));
  BOOST_TEST((copy.stop_tokens == r.stop_tokens));
  BOOST_TEST(copy.top_logprobs == 4U);
  BOOST_TEST(copy.want_logprobs);

  token_frame f;
  f.request = 1;
  f.attempt = 2;
  f.seq = 3;
  f.tokens = {{42, -0.5F, {{42, -0.5F}, {43, -2.0F}}}};
  f.finish = engine::finish_reason::failed;
  f.usage = {1, 2, 3};
  f.error = error_code::worker_lost;
  f.error_message = "why";
  const auto g = round_trip(*this, f);
  BOOST_TEST(g.seq == 3U);
  BOOST_REQUIRE(g.tokens.size() == 1U);
  BOOST_TEST(g.tokens[0].id == 42U);
  BOOST_TEST(g.tokens[0].top[1].logprob == -2.0F);
  BOOST_TEST((g.finish == engine::finish_reason::failed));
  BOOST_TEST(g.usage.cached_tokens == 3U);
  BOOST_TEST((g.error == error_code::worker_lost));
  BOOST_TEST(g.error_message == "why");
}

BOOST_AUTO_TEST_CASE(errors_render_their_code_and_sentence) {
  BOOST_TEST(system.render(make_error(error_code::draining, "Going.")).find("draining: Going.") !=
             std::string::npos);
  for (int c = 1; c <= static_cast<int>(engine::error_code::internal); ++c) {
    const auto engine_code = static_cast<engine::error_code>(c);
    BOOST_TEST(static_cast<int>(from_engine(engine_code)) == c);
    BOOST_TEST(to_string(from_engine(engine_code)) != "unknown");
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(router_rules, router_fixture)

BOOST_AUTO_TEST_CASE(router_without_workers_refuses_at_once) {
  const auto [sink, frames] = make_sink();
  BOOST_TEST((describe(route(1, sink).error).code == error_code::no_worker));
}

BOOST_AUTO_TEST_CASE(router_hands_requests_to_the_announced_worker) {
  const auto w = start_worker(0, 3);
  announce(w);
  const auto [sink, frames] = make_sink();
  const auto r = route(1, sink);
  BOOST_REQUIRE(r.value);
  BOOST_TEST(r.value->incarnation == 3U);
  BOOST_TEST(frames->size() == 3U);
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(draining_router_refuses) {
  const auto w = start_worker();
  announce(w);
  BOOST_TEST(request<bool>(handle, drain_atom_v).value.value());
  const auto [sink, frames] = make_sink();
  BOOST_TEST((describe(route(1, sink).error).code == error_code::draining));
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(withdrawn_worker_gets_nothing_new_but_hears_of_cancellations) {
  const auto w = start_worker();
  announce(w);
  const auto [sink, frames] = make_sink();
  control->delivers = false;
  control->during_step = [this, steps = 0]() mutable {
    if (++steps == 2) caf::anon_send(handle, withdraw_atom_v, std::uint64_t{0}, std::uint64_t{1});
    if (steps == 5) caf::anon_send(handle, cancel_atom_v, engine::request_id{1});
  };
  route(1, sink, 1000);
  BOOST_REQUIRE(!frames->empty());
  BOOST_TEST((frames->back().finish == engine::finish_reason::cancelled));
  BOOST_TEST((describe(route(2, sink).error).code == error_code::no_worker));
  control->during_step = nullptr;
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(withdrawal_of_an_older_incarnation_is_ignored) {
  const auto w = start_worker(0, 2);
  announce(w);
  caf::anon_send(handle, withdraw_atom_v, std::uint64_t{0}, std::uint64_t{1});
  const auto [sink, frames] = make_sink();
  BOOST_TEST(route(1, sink).value.has_value());
  end(*this, w);
}

BOOST_AUTO_TEST_CASE(router_forgets_a_worker_that_ended) {
  const auto w = start_worker();
  announce(w);
  end(*this, w);
  const auto [sink, frames] = make_sink();
  BOOST_TEST((describe(route(1, sink).error).code == error_code::no_worker));
}

BOOST_AUTO_TEST_CASE(full_workers_are_known_without_asking_them) {
  const auto w = start_worker();
  announce(w, 1);
  board->streams = 1;
  const auto [sink, frames] = make_sink();
  BOOST_TEST((describe(route(1, sink).error).code == error_code::overloaded));
  end(*this, w);
}

BOOST_AUTO_TEST_SUITE_END()
