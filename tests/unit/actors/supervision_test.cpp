#include "actors/supervision.hpp"

#include "tests/unit/actors/virtual_time.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

struct fixture : virtual_time {
  std::vector<std::string> log;  ///< "+a1": a started as incarnation 1; "-a": a ended
  std::map<std::string, caf::actor> running;
  std::vector<std::string> escalations;
  supervisor_options options;
  caf::actor root;

  child_spec child(std::string name) {
    return {name, [this, name](caf::event_based_actor* parent, std::uint64_t incarnation) {
              log.push_back("+" + name + std::to_string(incarnation));
              auto handle = parent->spawn([this, name](caf::event_based_actor* self) -> caf::behavior {
                self->attach_functor([this, name](const caf::error&) { log.push_back("-" + name); });
                return {[](tick_atom) {}};
              });
              running[name] = handle;
              return handle;
            }};
  }

  void start(restart_strategy strategy) {
    options.strategy = strategy;
    options.children = {child("a"), child("b"), child("c")};
    options.limits = {.max_restarts = 3, .period = 60s, .min_delay = 200ms, .max_delay = 30000ms};
    options.escalate = [this](const std::string& why) { escalations.push_back(why); };
    root = system.spawn(supervisor, options);
    settle();
    BOOST_TEST((log == std::vector<std::string>{"+a1", "+b1", "+c1"}));
    log.clear();
  }

  void crash(const std::string& name) {
    kill(running[name]);
    settle();
  }

  ~fixture() {
    if (root) caf::anon_send_exit(root, caf::exit_reason::user_shutdown);
    advance(1s);
    running.clear();
  }
};

using events = std::vector<std::string>;

}  // namespace

BOOST_FIXTURE_TEST_SUITE(supervision, fixture)

BOOST_AUTO_TEST_CASE(one_for_one_restarts_the_failed_child_only) {
  start(restart_strategy::one_for_one);
  crash("b");
  advance(300ms);
  BOOST_TEST((log == events{"-b", "+b2"}));
}

BOOST_AUTO_TEST_CASE(rest_for_one_restarts_the_failed_child_and_the_later_ones_in_order) {
  start(restart_strategy::rest_for_one);
  crash("b");
  BOOST_TEST((log == events{"-b", "-c"}));
  advance(300ms);
  BOOST_TEST((log == events{"-b", "-c", "+b2", "+c2"}));
}

BOOST_AUTO_TEST_CASE(rest_for_one_stops_later_children_in_reverse_order) {
  start(restart_strategy::rest_for_one);
  crash("a");
  advance(300ms);
  BOOST_TEST((log == events{"-a", "-c", "-b", "+a2", "+b2", "+c2"}));
}

BOOST_AUTO_TEST_CASE(one_for_all_restarts_all) {
  start(restart_strategy::one_for_all);
  crash("c");
  advance(300ms);
  BOOST_TEST((log == events{"-c", "-b", "-a", "+a2", "+b2", "+c2"}));
}

BOOST_AUTO_TEST_CASE(a_restart_waits_for_its_delay) {
  start(restart_strategy::one_for_one);
  crash("a");
  advance(150ms);
  BOOST_TEST((log == events{"-a"}));
  advance(150ms);
  BOOST_TEST((log == events{"-a", "+a2"}));
}

BOOST_AUTO_TEST_CASE(too_many_failures_stop_all_children_and_escalate_once) {
  start(restart_strategy::rest_for_one);
  for (int i = 0; i < 3; ++i) {
    crash("c");
    advance(2s);
  }
  BOOST_TEST(escalations.empty());
  log.clear();
  crash("c");
  advance(10s);
  BOOST_TEST((log == events{"-c", "-b", "-a"}));
  BOOST_REQUIRE(escalations.size() == 1U);
  BOOST_TEST(escalations[0].find("3 restarts within 60 s did not help: c ended") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(rare_failures_never_escalate) {
  start(restart_strategy::one_for_one);
  for (int i = 0; i < 10; ++i) {
    crash("a");
    advance(25s);
  }
  BOOST_TEST(escalations.empty());
  BOOST_TEST(std::count(log.begin(), log.end(), "-a") == 10);
  BOOST_TEST(log.back() == "+a11");
}

BOOST_AUTO_TEST_CASE(a_child_that_fails_while_others_are_stopped_is_restarted_with_them) {
  start(restart_strategy::rest_for_one);
  kill(running["c"]);
  kill(running["a"]);
  settle();
  advance(2s);
  for (const auto* name : {"+a2", "+b2", "+c2"})
    BOOST_TEST(std::count(log.begin(), log.end(), std::string(name)) == 1, name);
}

BOOST_AUTO_TEST_CASE(an_exit_request_stops_children_in_reverse_order) {
  start(restart_strategy::rest_for_one);
  caf::anon_send_exit(root, caf::exit_reason::user_shutdown);
  advance(100ms);
  BOOST_TEST((log == events{"-c", "-b", "-a"}));
  BOOST_TEST(escalations.empty());
}

BOOST_AUTO_TEST_SUITE_END()
