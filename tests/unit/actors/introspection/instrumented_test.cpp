#include "actors/introspection/instrumented.hpp"

#include "tests/unit/actors/virtual_time.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

using echo_actor = caf::typed_actor<caf::replies_to<std::string>::with<std::string>,
                                    caf::reacts_to<tick_atom>, caf::reacts_to<drain_atom, std::string>>;

struct echo_state {
  static inline const char* name = "echo";
};

echo_actor::behavior_type echo(instrumented_pointer<echo_actor, echo_state> self) {
  return {[](std::string& text) { return text; },
          [self](tick_atom) { self->delayed_send(self, 100ms, tick_atom_v); },
          [](drain_atom, const std::string& why) { throw std::runtime_error(why); }};
}

struct fixture : virtual_time {
  introspection& inspected;

  fixture()
      : inspected((config.inspected = std::make_shared<introspection>([this] {
                     return std::chrono::nanoseconds(scheduler.clock().now().time_since_epoch()).count();
                   }),
                   *config.inspected)) {
    scheduler.clock().current_time += 1h;  // as a real steady clock: not at zero
  }

  /// Lets the actors that were told to end do so: the system waits for them.
  ~fixture() { settle(); }

  process_record only(const std::string& name) {
    for (auto& r : inspected.table.read())
      if (r.name == name) return r;
    BOOST_FAIL("no actor " + name + " in the table");
    return {};
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(instrumented_actors, fixture)

BOOST_AUTO_TEST_CASE(a_typed_actor_shows_name_messages_and_rate) {
  const auto handle = system.spawn(echo);
  settle();
  BOOST_TEST((request<std::string>(handle, std::string("hello")).value == std::string("hello")));
  caf::anon_send(handle, tick_atom_v);
  advance(20s);
  const auto r = only("echo");
  BOOST_TEST(r.id == handle.id());
  BOOST_TEST(r.parent == 0U);
  BOOST_TEST(r.enqueued == r.done);
  BOOST_TEST(r.done > 190U);
  BOOST_TEST(r.depth == 0U);
  BOOST_TEST(r.high_water >= 1U);
  BOOST_TEST(r.rate > 9.0);
  BOOST_TEST(r.rate < 11.0);
  BOOST_TEST(to_string(r.last.at(0).kind) == "tick");
  caf::anon_send_exit(handle, caf::exit_reason::user_shutdown);
}

BOOST_AUTO_TEST_CASE(messages_that_are_not_handled_yet_are_seen_waiting) {
  const auto handle = system.spawn(echo);
  settle();
  for (int i = 0; i < 3; ++i) caf::anon_send(handle, tick_atom_v);
  scheduler.clock().current_time += 5s;
  const auto r = only("echo");
  BOOST_TEST(r.depth == 3U);
  BOOST_TEST(r.oldest_wait_ns >= std::chrono::nanoseconds(5s).count() - 256);
  BOOST_TEST(r.suspect());
  settle();
  BOOST_TEST(only("echo").depth == 0U);
  BOOST_TEST(!only("echo").suspect());
  caf::anon_send_exit(handle, caf::exit_reason::user_shutdown);
}

BOOST_AUTO_TEST_CASE(an_actor_that_ends_leaves_the_table_while_its_handle_lives) {
  const auto handle = system.spawn(echo);
  settle();
  caf::anon_send_exit(handle, caf::exit_reason::user_shutdown);
  settle();
  BOOST_TEST(inspected.table.read().empty());
  BOOST_TEST(inspected.table.failures().empty());
  caf::anon_send(handle, tick_atom_v);  // goes nowhere, and into nobody's figures
  settle();
}

BOOST_AUTO_TEST_CASE(an_exception_in_a_handler_is_a_failure_with_a_reason) {
  const auto handle = system.spawn(echo);
  settle();
  caf::anon_send(handle, drain_atom_v, std::string("out of luck"));
  settle();
  BOOST_REQUIRE(inspected.table.failures().size() == 1U);
  BOOST_TEST(inspected.table.failures()[0].name == "echo");
  BOOST_TEST(!inspected.table.failures()[0].reason.empty());
}

BOOST_AUTO_TEST_CASE(spawned_actors_know_their_parent_and_incarnation) {
  std::vector<caf::actor> kept;  // CAF ends whom nobody knows
  const auto root = system.spawn([&kept](instrumented_actor* self) -> caf::behavior {
    self->set_process_name("root");
    return {[self, &kept](start_atom) {
      const supervised_spawn mark(3);
      kept.push_back(caf::actor_cast<caf::actor>(self->spawn(echo)));
      kept.push_back(self->system().spawn([](instrumented_actor* child) -> caf::behavior {
        child->set_process_name("child");
        return {[](tick_atom) {}};
      }));
    }};
  });
  caf::anon_send(root, start_atom_v);
  settle();
  BOOST_TEST(only("root").parent == 0U);
  BOOST_TEST(only("echo").parent == root.id());
  BOOST_TEST(only("echo").incarnation == 3U);
  BOOST_TEST(only("echo").supervised);
  BOOST_TEST(only("child").parent == root.id());
  BOOST_TEST(only("child").incarnation == 1U);
  BOOST_TEST(!only("child").supervised);
  for (const auto& r : inspected.table.read())
    kill(caf::actor_cast<caf::actor>(inspected.directory.find(r.id)));
  settle();
  BOOST_TEST(inspected.table.read().empty());
}

BOOST_AUTO_TEST_CASE(responses_and_system_messages_have_names) {
  const auto handle = system.spawn(echo);
  const auto asker = system.spawn([handle](instrumented_actor* self) -> caf::behavior {
    self->set_process_name("asker");
    self->set_down_handler([](caf::down_msg&) {});
    self->monitor(handle);
    return {[self, handle](tick_atom) {
      self->request(handle, 1s, std::string("x")).then([](const std::string&) {});
    }};
  });
  caf::anon_send(asker, tick_atom_v);
  settle();
  BOOST_TEST(to_string(only("asker").last.at(0).kind) == "answer str");
  caf::anon_send_exit(handle, caf::exit_reason::user_shutdown);
  settle();
  BOOST_TEST(to_string(only("asker").last.at(0).kind) == "down");
  kill(asker);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(hung_actors)

// A detached actor on a real thread: a real hang, seen from outside while it lasts.
BOOST_AUTO_TEST_CASE(a_hung_actor_shows_the_message_it_hangs_in_and_what_waits_behind_it) {
  std::promise<void> entered;
  std::promise<void> release;
  introspected_config config;
  config.config_file_path.clear();
  config.add_message_types<caf::id_block::bitnet>();
  const auto inspected = config.inspected;
  {
    caf::actor_system system{config};
    const auto hung = system.spawn<caf::detached>([&](instrumented_actor* self) -> caf::behavior {
      self->set_process_name("stuck");
      self->set_patience(0ns);
      return {[&](step_atom) {
                entered.set_value();
                release.get_future().wait();
              },
              [](tick_atom) {}};
    });
    caf::anon_send(hung, step_atom_v);
    entered.get_future().wait();
    caf::anon_send(hung, tick_atom_v);
    caf::anon_send(hung, tick_atom_v);
    const auto records = inspected->table.read();
    BOOST_REQUIRE_EQUAL(records.size(), 1U);
    BOOST_TEST(records[0].name == "stuck");
    BOOST_TEST(to_string(records[0].current) == "step");
    BOOST_TEST(records[0].running_ns > 0);
    BOOST_TEST(records[0].suspect());
    BOOST_TEST(records[0].depth == 2U);
    release.set_value();
    caf::anon_send_exit(hung, caf::exit_reason::user_shutdown);
  }
  BOOST_TEST(inspected->table.read().empty());
}

BOOST_AUTO_TEST_SUITE_END()
