#include "actors/service.hpp"

#include "tests/unit/actors/fake_engine.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

service_options small_options() {
  service_options o;
  o.model_path = "/models/tiny.gguf";
  o.generation.max_sequences = 2;
  o.generation.max_queued = 2;
  o.startup_grace = 0ms;
  // The machine that runs the tests may be full.
  o.memory_degraded_percent = 100;
  o.memory_unhealthy_percent = 100;
  return o;
}

std::string get(const service& s, probe which) {
  std::string out;
  s.snapshots().append_answer(which, false, true, out);
  return out;
}

bool ok(const service& s, probe which) {
  return get(s, which).starts_with("HTTP/1.1 200");
}

/// The model file does not exist: with the fake backend it loads all the same, and shows as unlinked, that is
/// degraded. So these tests name a file that is there.
struct fixture {
  std::shared_ptr<fake_control> control = std::make_shared<fake_control>();
  service_options options = small_options();
  std::unique_ptr<service> server;

  fixture() { options.model_path = "/proc/self/exe"; }

  void start() {
    auto started = service::start(options, fake_backend(control));
    BOOST_REQUIRE_MESSAGE(started, (started ? "" : started.error()));
    server = std::move(*started);
  }
  bool wait_for(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }
  bool wait_ready() {
    return wait_for([this] { return ok(*server, probe::ready); });
  }
  /// Frames counted by a sink; `finish` of the last.
  struct received {
    std::atomic<int> frames{0};
    std::atomic<engine::finish_reason> finish{engine::finish_reason::none};
    std::atomic<error_code> error{error_code::none};
  };
  error_code submit(std::shared_ptr<received> into, std::uint32_t max_tokens) {
    auto sink = server->system().spawn([into](token_sink_actor::pointer) -> token_sink_actor::behavior_type {
      return {[into](const token_frame& f) {
        ++into->frames;
        into->error = f.error;
        into->finish = f.finish;
      }};
    });
    engine::generation_request r;
    r.id = 1;
    r.prompt = {1};
    r.max_tokens = max_tokens;
    caf::scoped_actor self{server->system()};
    auto code = error_code::none;
    self->request(server->router(), 30s, submit_atom_v, std::uint64_t{0}, r, std::uint32_t{1}, sink)
        .receive([](const submit_receipt&) {}, [&](const caf::error& e) { code = describe(e).code; });
    sinks.push_back(sink);
    return code;
  }
  std::vector<token_sink_actor> sinks;

  void release_sinks() {
    for (auto& s : sinks) caf::anon_send_exit(s, caf::exit_reason::user_shutdown);
    sinks.clear();
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(service_lifecycle, fixture)

BOOST_AUTO_TEST_CASE(every_probe_answers_as_soon_as_start_returns) {
  start();
  for (auto which : {probe::health, probe::live, probe::ready, probe::metrics}) {
    const auto text = get(*server, which);
    BOOST_TEST(text.find("aggregator stuck") == std::string::npos, text);
  }
  BOOST_TEST(server->stop(0ms, 10s));
}

BOOST_AUTO_TEST_CASE(service_serves_drains_and_stops) {
  start();
  BOOST_REQUIRE(wait_ready());
  BOOST_TEST(server->model() != nullptr);
  auto got = std::make_shared<received>();
  BOOST_TEST((submit(got, 5) == error_code::none));
  BOOST_TEST(wait_for([&] { return got->finish.load() != engine::finish_reason::none; }));
  BOOST_TEST(got->frames.load() == 5);
  BOOST_TEST((got->finish.load() == engine::finish_reason::length));

  server->drain();
  BOOST_TEST(!ok(*server, probe::ready));
  BOOST_TEST(ok(*server, probe::live));
  BOOST_TEST((submit(got, 5) == error_code::draining));
  release_sinks();
  BOOST_TEST(server->stop(10s, 10s));
}

BOOST_AUTO_TEST_CASE(requests_that_outlast_the_drain_deadline_are_cut_off_with_a_last_frame) {
  start();
  BOOST_REQUIRE(wait_ready());
  control->delivers = false;  // before any request, hence before the worker reads it
  auto got = std::make_shared<received>();
  BOOST_TEST((submit(got, 5) == error_code::none));
  BOOST_TEST(!server->idle());
  std::thread releaser([&] {
    wait_for([&] { return got->finish.load() != engine::finish_reason::none; });
    release_sinks();
  });
  BOOST_TEST(!server->stop(50ms, 20s));
  releaser.join();
  BOOST_TEST((got->error.load() == error_code::draining));
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_refused_with_a_sentence) {
  auto refused = [&](auto change) {
    auto o = small_options();
    change(o);
    const auto s = service::start(o, fake_backend(control));
    return s ? std::string() : s.error();
  };
  BOOST_TEST(refused([](auto& o) { o.model_path.clear(); }).find("--model") != std::string::npos);
  BOOST_TEST(refused([](auto& o) { o.scheduler_threads = 1; }).find("2 scheduler threads") !=
             std::string::npos);
  BOOST_TEST(refused([](auto& o) { o.startup_grace = -1ms; }).find("startup-grace") != std::string::npos);
  BOOST_TEST(refused([](auto& o) { o.memory_degraded_percent = 0; }).find("memory") != std::string::npos);
  BOOST_TEST(refused([](auto& o) { o.memory_unhealthy_percent = 101; }).find("memory") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
