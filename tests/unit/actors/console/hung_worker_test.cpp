#include "actors/console/commands.hpp"
#include "actors/service.hpp"
#include "tests/unit/actors/fake_engine.hpp"
#include "tests/unit/actors/virtual_time.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <string>
#include <thread>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;
namespace json = boost::json;

namespace {

class one_node : public cluster_view {
 public:
  std::string self() const override { return "here"; }
  json::array members() const override { return {}; }
  json::array routes() const override { return {}; }
  std::optional<double> round_trip_us(const std::string&) const override { return std::nullopt; }
};

bool wait_for(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

/// A whole service whose engine hangs in its first step.
struct hanging_service {
  std::shared_ptr<fake_control> control = std::make_shared<fake_control>();
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  std::unique_ptr<service> server;
  std::optional<command_dispatcher> console;

  hanging_service() {
    control->during_step = [this] { released.wait(); };
    service_options o;
    o.model_path = "/proc/self/exe";
    o.generation.max_sequences = 2;
    o.generation.max_queued = 2;
    o.startup_grace = 0ms;
    o.memory_degraded_percent = o.memory_unhealthy_percent = 100;
    auto started = service::start(o, fake_backend(control));
    BOOST_REQUIRE_MESSAGE(started, (started ? "" : started.error()));
    server = std::move(*started);
    console_sources s;
    s.actors = server->inspected();
    s.facts = [this] { return server->snapshots().facts(); };
    s.cluster = std::make_shared<one_node>();
    console.emplace(std::move(s));
  }
  ~hanging_service() { server->stop(0ms, 30s); }

  json::array ask(const char* command, const char* list, const char* over = nullptr) {
    json::object request{{"command", command}};
    if (over != nullptr) request["options"] = {{"over", over}};
    return console->answer(request, {}).now.at("result").at(list).as_array();
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(console_on_a_hung_worker, hanging_service)

BOOST_AUTO_TEST_CASE(the_worker_is_shown_with_the_message_it_hangs_in_and_recovers) {
  BOOST_REQUIRE(wait_for([&] { return server->snapshots().facts().facts->engine.workers == 1; }));
  BOOST_TEST(ask("hung", "hung", "1").empty());
  const auto sink = server->system().spawn([](token_sink_actor::pointer) -> token_sink_actor::behavior_type {
    return {[](const token_frame&) {}};
  });
  caf::anon_send(server->router(), submit_atom_v, std::uint64_t{0}, request_of(1), std::uint32_t{0}, sink);
  BOOST_REQUIRE(wait_for([&] { return !ask("hung", "hung", "0.05").empty(); }));
  const auto rows = ask("hung", "hung", "0.05");
  BOOST_TEST((rows[0].at("name") == "worker"), json::serialize(rows));
  BOOST_TEST((rows[0].at("now") == "step"), json::serialize(rows));
  const std::string why(rows[0].at("why").as_string());
  BOOST_TEST(why.starts_with("in step for "), why);
  BOOST_TEST(why.find("(sleeping)") != std::string::npos, why);

  release.set_value();
  BOOST_TEST(wait_for([&] { return ask("hung", "hung", "0.05").empty(); }));
  caf::anon_send_exit(sink, caf::exit_reason::user_shutdown);
}

BOOST_AUTO_TEST_SUITE_END()
