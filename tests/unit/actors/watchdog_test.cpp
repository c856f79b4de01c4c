#include "actors/watchdog.hpp"

#include "tests/unit/actors/fake_engine.hpp"

#include <boost/test/unit_test.hpp>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

/// An engine in a process that does what the test says.
class fake_process final : public inference_engine {
 public:
  engine::result<void> submit(engine::generation_request) override { return {}; }
  void cancel(engine::request_id) override {}
  std::vector<engine::generation_event> step() override { return {}; }
  bool idle() const noexcept override { return true; }
  engine::generation_stats stats() const noexcept override { return {}; }
  engine::result<std::uint64_t> probe_hash() override { return 1; }
  engine::progress& progress() noexcept override { return progress_; }
  std::int64_t heartbeat_ns() const noexcept override { return heartbeat; }
  bool alive() const noexcept override { return lives; }
  void give_up() noexcept override { ++killed; }
  bool killable() const noexcept override { return can_be_killed; }
  bool stopped() const noexcept override { return is_stopped; }

  std::int64_t heartbeat = 0;
  bool lives = true;
  bool can_be_killed = true;
  bool is_stopped = false;
  int killed = 0;

 private:
  engine::progress progress_;
};

struct watch_fixture {
  steady_time now{1000s};
  std::shared_ptr<fake_process> engine = std::make_shared<fake_process>();
  std::shared_ptr<worker_board> board = std::make_shared<worker_board>(0, 1);
  int woken = 0;
  watch_round round{{}, 100ms};

  watch_fixture() {
    board->engine = engine;
    board->wake_worker = [this] { ++woken; };
    board->phase = worker_phase::idle;
    beat();
    round.add(board);
    round.look(now);
  }
  std::int64_t ns() const { return std::chrono::nanoseconds(now.time_since_epoch()).count(); }
  void beat() { engine->heartbeat = ns(); }
  /// Looks every 100 ms, as the thread does.
  void pass(std::chrono::milliseconds time, bool alive_too = false) {
    for (auto left = time; left.count() > 0; left -= 100ms) {
      now += 100ms;
      if (alive_too) beat();
      round.look(now);
    }
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(watchdog_rules, watch_fixture)

BOOST_AUTO_TEST_CASE(an_engine_that_gives_signs_of_life_is_left_alone_however_long_it_works) {
  pass(1h, true);
  BOOST_TEST(!board->suspect.load());
  BOOST_TEST(engine->killed == 0);
}

BOOST_AUTO_TEST_CASE(a_silent_process_gets_nothing_new_after_two_seconds_and_is_killed_once_after_three) {
  pass(2000ms);
  BOOST_TEST(!board->suspect.load());
  pass(100ms);
  BOOST_TEST(board->suspect.load());
  BOOST_TEST(engine->killed == 0);
  pass(900ms);
  BOOST_TEST(engine->killed == 0);
  pass(100ms);
  BOOST_TEST(engine->killed == 1);
  BOOST_TEST(board->hung.load());
  pass(10s);
  BOOST_TEST(engine->killed == 1);
}

BOOST_AUTO_TEST_CASE(a_stopped_process_is_killed_as_soon_as_it_is_suspect) {
  engine->is_stopped = true;
  pass(2000ms);
  BOOST_TEST(engine->killed == 0);
  pass(100ms);
  BOOST_TEST(engine->killed == 1);
  BOOST_TEST(!board->hung.load());
}

BOOST_AUTO_TEST_CASE(a_suspect_that_goes_on_takes_requests_again) {
  pass(2500ms);
  BOOST_TEST(board->suspect.load());
  pass(100ms, true);
  BOOST_TEST(!board->suspect.load());
  BOOST_TEST(engine->killed == 0);
}

BOOST_AUTO_TEST_CASE(progress_within_a_long_pass_is_a_sign_of_life) {
  for (int layer = 0; layer < 100; ++layer) {
    pass(1900ms);
    engine->progress().last_progress_ns = ns();
    BOOST_TEST(!board->suspect.load());
  }
}

BOOST_AUTO_TEST_CASE(steps_that_are_known_to_take_long_get_longer) {
  for (auto& duration : board->step_us) duration = 500'000;
  board->steps = worker_board::step_ring_size;
  pass(5s);
  BOOST_TEST(!board->suspect.load());
  pass(100ms);
  BOOST_TEST(board->suspect.load());
  pass(2400ms);
  BOOST_TEST(engine->killed == 0);
  pass(100ms);
  BOOST_TEST(engine->killed == 1);
}

BOOST_AUTO_TEST_CASE(what_earlier_incarnations_took_counts_until_there_are_steps_enough) {
  round.remove(*board);
  board->step_floor = 0.4;
  round.add(board);
  pass(4s);
  BOOST_TEST(!board->suspect.load());
  pass(100ms, true);
  board->steps = worker_board::step_ring_size;  // of 0 s each
  pass(2100ms);
  BOOST_TEST(board->suspect.load());
}

BOOST_AUTO_TEST_CASE(silence_while_the_watchdog_itself_did_not_run_proves_nothing) {
  now += 30s;  // the machine slept
  round.look(now);
  BOOST_TEST(!board->suspect.load());
  pass(2000ms);
  BOOST_TEST(!board->suspect.load());
  pass(1100ms);
  BOOST_TEST(engine->killed == 1);
}

BOOST_AUTO_TEST_CASE(a_process_that_ended_is_told_to_its_worker_once_and_gets_nothing_new) {
  engine->lives = false;
  pass(100ms);
  BOOST_TEST(board->suspect.load());
  BOOST_TEST(woken == 1);
  pass(5s);
  BOOST_TEST(woken == 1);
  BOOST_TEST(engine->killed == 0);
}

BOOST_AUTO_TEST_CASE(a_worker_that_is_still_starting_is_not_judged) {
  board->phase = worker_phase::starting;
  pass(1min);
  BOOST_TEST(!board->suspect.load());
  BOOST_TEST(engine->killed == 0);
}

BOOST_AUTO_TEST_CASE(a_thread_is_given_up_only_after_ten_seconds_of_work_without_progress) {
  engine->can_be_killed = false;
  engine->heartbeat = 0;
  pass(1min);  // idle: it owes no sign
  BOOST_TEST(!board->suspect.load());
  board->phase = worker_phase::stepping;
  board->busy_since_ns = ns();
  pass(2100ms);
  BOOST_TEST(board->suspect.load());
  pass(7900ms);
  BOOST_TEST(engine->killed == 0);
  pass(100ms);
  BOOST_TEST(engine->killed == 1);
}

BOOST_AUTO_TEST_CASE(a_worker_that_was_forgotten_is_not_looked_at) {
  round.remove(*board);
  pass(1min);
  BOOST_TEST(engine->killed == 0);
}

BOOST_AUTO_TEST_SUITE_END()
