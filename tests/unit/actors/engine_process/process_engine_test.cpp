#include "actors/engine_process/process_engine.hpp"

#include "actors/engine_process/engine_loop.hpp"
#include "actors/engine_process/pidfd.hpp"
#include "tests/unit/actors/fake_engine.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

/// A process that only exists: something to hold, to kill and to be told of.
struct bystander {
  pid_t pid = fork();
  bystander() {
    if (pid == 0)
      for (;;) pause();
  }
  ~bystander() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
};

std::shared_ptr<const engine::model> small_model() {
  auto m = std::make_shared<engine::model>();
  m->described.vocabulary_size = 1000;
  m->described.context_length = 4096;
  return m;
}

/// A process_engine whose other end the test plays, or lets serve_engine play on a thread.
struct engine_fixture {
  std::shared_ptr<fake_control> control = std::make_shared<fake_control>();
  bystander process;
  std::pair<descriptor, descriptor> ends = *frame_channel::make_pair();
  shared_object<engine_signs> signs = *shared_object<engine_signs>::create();
  std::thread server;
  std::unique_ptr<process_engine> engine;

  void serve() {
    server = std::thread([this, socket = std::make_shared<descriptor>(std::move(ends.second))] {
      frame_channel channel(std::move(*socket));
      fake_engine computing(control);
      serve_engine(channel, *signs, computing);
    });
    connect();
  }
  void connect(std::size_t max_sequences = 2, std::size_t max_queued = 2) {
    engine::generation_options options;
    options.max_sequences = max_sequences;
    options.max_queued = max_queued;
    auto made = process_engine::connect(
        {std::move(ends.first), *shared_object<engine_signs>::open(descriptor(dup(signs.file()))),
         descriptor(pidfd_open(process.pid, 0)), process.pid,
         [] { return std::string("was killed by the test"); }},
        small_model(), options, 10s);
    BOOST_REQUIRE_MESSAGE(made, (made ? "" : made.error().message));
    engine = std::move(*made);
  }
  /// The other end, played by the test: says hello first.
  std::unique_ptr<frame_channel> play() {
    auto channel = std::make_unique<frame_channel>(std::move(ends.second));
    byte_writer out;
    write(out, engine::generation_stats{});
    channel->send(frame_kind::hello, out.bytes());
    connect();
    return channel;
  }
  engine::generation_request request(engine::request_id id, std::uint32_t max_tokens = 3) {
    engine::generation_request r;
    r.id = id;
    r.prompt = {1, 2, 3};
    r.max_tokens = max_tokens;
    return r;
  }
  std::vector<engine::generation_event> run_until_idle() {
    std::vector<engine::generation_event> all;
    while (!engine->idle())
      for (auto& e : engine->step()) all.push_back(std::move(e));
    return all;
  }
  ~engine_fixture() {
    engine.reset();  // closes the socket, which ends the server
    if (server.joinable()) server.join();
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(process_engine_rules, engine_fixture)

BOOST_AUTO_TEST_CASE(sequences_run_to_their_end_token_by_token) {
  serve();
  BOOST_REQUIRE(engine->submit(request(1, 5)));
  BOOST_REQUIRE(engine->submit(request(2, 3)));
  BOOST_TEST(!engine->idle());
  std::map<engine::request_id, std::vector<engine::token_id>> tokens;
  std::map<engine::request_id, engine::finish_reason> finish;
  for (const auto& e : run_until_idle()) {
    for (const auto& t : e.tokens) tokens[e.id].push_back(t.id);
    finish[e.id] = e.finish;
  }
  BOOST_TEST((tokens[1] == std::vector<engine::token_id>{100, 101, 102, 103, 104}));
  BOOST_TEST((tokens[2] == std::vector<engine::token_id>{100, 101, 102}));
  BOOST_TEST((finish[1] == engine::finish_reason::length));
  BOOST_TEST(engine->stats().generated_tokens == 8U);
  BOOST_TEST(engine->stats().queued == 0U);
  BOOST_TEST(engine->stats().kv_blocks_used == 0U);  // as soon as the end is known
  BOOST_TEST(!engine->lost());
}

BOOST_AUTO_TEST_CASE(
    the_probe_answers_between_the_steps_of_running_sequences_and_loses_none_of_their_events) {
  serve();
  BOOST_REQUIRE(engine->submit(request(1, 50)));
  const auto hash = engine->probe_hash();
  BOOST_REQUIRE(hash);
  BOOST_TEST(*hash == 0x1234U);
  std::size_t tokens = 0;
  for (const auto& e : run_until_idle()) tokens += e.tokens.size();
  BOOST_TEST(tokens == 50U);
}

BOOST_AUTO_TEST_CASE(a_failed_probe_is_a_value_and_no_loss) {
  control->probe_fails = true;
  serve();
  const auto hash = engine->probe_hash();
  BOOST_REQUIRE(!hash);
  BOOST_TEST(hash.error().message == "NaN logits");
  BOOST_TEST(!engine->lost());
}

BOOST_AUTO_TEST_CASE(a_cancelled_sequence_ends_with_its_last_event) {
  control->max_running = 1;
  // The first step lasts until the command is on its way, and longer than the engine goes without looking for
  // commands: however quick the machine, the sequence does not end by itself.
  const auto commanded = std::make_shared<std::atomic<bool>>(false);
  control->during_step = [commanded,
                          begun = std::optional<std::chrono::steady_clock::time_point>()]() mutable {
    const auto now = [] { return std::chrono::steady_clock::now(); };
    if (!begun) begun = now();
    while (!*commanded || now() - *begun < 5ms) std::this_thread::yield();
  };
  serve();
  BOOST_REQUIRE(engine->submit(request(1, 2000)));
  engine->cancel(1);
  *commanded = true;
  const auto events = run_until_idle();
  BOOST_REQUIRE(!events.empty());
  BOOST_TEST((events.back().finish == engine::finish_reason::cancelled));
}

BOOST_AUTO_TEST_CASE(bad_requests_are_refused_at_once_and_full_queues_too) {
  auto other = play();
  auto empty = request(1);
  empty.prompt.clear();
  BOOST_TEST((engine->submit(empty).error().code == engine::error_code::invalid_request));
  auto unknown = request(1);
  unknown.prompt = {1000};
  BOOST_TEST((engine->submit(unknown).error().code == engine::error_code::invalid_request));
  for (engine::request_id id = 1; id <= 4; ++id) BOOST_TEST(engine->submit(request(id)).has_value());
  BOOST_TEST((engine->submit(request(4)).error().code == engine::error_code::invalid_request));
  BOOST_TEST((engine->submit(request(5)).error().code == engine::error_code::queue_full));
  BOOST_TEST(engine->stats().queued == 4U);
}

BOOST_AUTO_TEST_CASE(what_only_the_process_refuses_comes_as_the_last_event) {
  control->max_running = 0;
  control->max_queued = 1;
  serve();
  BOOST_REQUIRE(engine->submit(request(1)));
  BOOST_REQUIRE(engine->submit(request(2)));
  std::vector<engine::generation_event> events;
  while (events.empty()) events = engine->step();
  BOOST_TEST(events.front().id == 2U);
  BOOST_REQUIRE(events.front().failure);
  BOOST_TEST((events.front().failure->code == engine::error_code::queue_full));
}

BOOST_AUTO_TEST_CASE(the_end_of_the_process_is_a_loss_with_its_reason) {
  auto other = play();
  BOOST_REQUIRE(engine->submit(request(1)));
  other.reset();
  BOOST_TEST(engine->step().empty());
  BOOST_REQUIRE(engine->lost());
  BOOST_TEST(engine->lost()->find("was killed by the test") != std::string::npos);
  BOOST_TEST(engine->idle());
  BOOST_TEST(!engine->submit(request(2)).has_value());
}

BOOST_AUTO_TEST_CASE(a_process_that_is_killed_while_idle_is_noticed) {
  auto other = play();
  BOOST_TEST(engine->alive());
  BOOST_TEST(!engine->lost());
  kill(process.pid, SIGKILL);
  while (engine->alive()) std::this_thread::yield();
  BOOST_TEST(engine->lost().has_value());
}

BOOST_AUTO_TEST_CASE(giving_up_releases_whoever_waits_for_the_engine_and_kills_it) {
  auto other = play();
  BOOST_REQUIRE(engine->submit(request(1)));
  std::atomic<bool> returned{false};
  std::thread waiting([&] {
    engine->step();  // nobody answers
    returned = true;
  });
  BOOST_TEST(!returned.load());
  engine->give_up();
  waiting.join();
  BOOST_TEST(engine->lost().has_value());
  int status = 0;
  BOOST_TEST(waitpid(process.pid, &status, 0) == process.pid);
  BOOST_TEST(WTERMSIG(status) == SIGKILL);
}

BOOST_AUTO_TEST_CASE(nonsense_from_the_process_is_a_loss) {
  for (const auto kind : {frame_kind::events, frame_kind::hello, frame_kind::probed}) {
    engine_fixture f;
    auto other = f.play();
    BOOST_REQUIRE(f.engine->submit(f.request(1)));
    const std::array<std::byte, 5> nonsense{};
    other->send(kind, nonsense);
    BOOST_TEST(f.engine->step().empty());
    BOOST_TEST(f.engine->lost().has_value());
  }
}

BOOST_AUTO_TEST_CASE(a_process_that_forgets_a_sequence_is_found_out) {
  auto other = play();
  BOOST_REQUIRE(engine->submit(request(1)));
  event_batch nothing_to_do;
  nothing_to_do.submissions_seen = 1;
  nothing_to_do.idle = true;
  byte_writer out;
  write(out, nothing_to_do);
  other->send(frame_kind::events, out.bytes());
  engine->step();
  BOOST_REQUIRE(engine->lost());
  BOOST_TEST(engine->lost()->find("lost track of 1 sequences") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(an_engine_that_could_not_be_built_says_why) {
  frame_channel other(std::move(ends.second));
  byte_writer out;
  write(out, engine::error{engine::error_code::out_of_memory, "The KV cache does not fit."});
  other.send(frame_kind::refused, out.bytes());
  const auto made = process_engine::connect(
      {std::move(ends.first), std::move(signs), descriptor(pidfd_open(process.pid, 0)), process.pid, {}},
      small_model(), {}, 10s);
  BOOST_REQUIRE(!made);
  BOOST_TEST(made.error().message == "The KV cache does not fit.");
}

BOOST_AUTO_TEST_CASE(faults_are_passed_on_and_their_outcome_comes_back) {
  serve();
  const auto done = engine->cause_fault({"hang", {}});
  BOOST_REQUIRE(!done);
  BOOST_TEST(done.error() == "this engine causes no faults");
}

BOOST_AUTO_TEST_CASE(an_idle_engine_gives_signs_of_life) {
  serve();
  const auto first = engine->heartbeat_ns();
  BOOST_TEST(first != 0);
  while (engine->heartbeat_ns() == first) std::this_thread::yield();
}

BOOST_AUTO_TEST_CASE(blocks_that_an_idle_engine_holds_are_seen_without_a_frame) {
  const auto channel = play();
  BOOST_TEST(engine->stats().kv_blocks_used == 0U);
  signs->kv_blocks_used = 3;
  BOOST_TEST(engine->stats().kv_blocks_used == 3U);
  BOOST_REQUIRE(engine->submit(request(1)));
  BOOST_TEST(engine->stats().kv_blocks_used == 0U);  // as of the last batch: the two go together
}

BOOST_AUTO_TEST_CASE(a_stopped_process_is_known_from_a_running_one) {
  serve();
  const auto comes_to_be = [&](bool stopped) {
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (engine->stopped() != stopped && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(1ms);
    return engine->stopped() == stopped;
  };
  BOOST_TEST(!engine->stopped());
  kill(process.pid, SIGSTOP);
  BOOST_TEST(comes_to_be(true));
  kill(process.pid, SIGCONT);
  BOOST_TEST(comes_to_be(false));
}

BOOST_AUTO_TEST_SUITE_END()
