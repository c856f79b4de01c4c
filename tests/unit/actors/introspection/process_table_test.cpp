#include "actors/introspection/process_table.hpp"

#include "actors/introspection/latency_window.hpp"
#include "actors/introspection/process_slot.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

using namespace bitnet::actors;
using namespace std::chrono_literals;

namespace {

constexpr std::int64_t ms = 1'000'000;

message_kind some_message() {
  return {message_kind::origin::message, 0, 0, &typeid(int)};
}

/// A table whose clock the test moves. Times are multiples of 256 ns, the resolution of arrivals.
struct table_fixture {
  std::int64_t now = 4000 * 256 * ms;
  process_table table{4, [this] { return now; }};

  process_slot& add(std::uint64_t id, const char* name = "actor", std::uint64_t incarnation = 1) {
    auto* slot = table.add({id, 0, name, incarnation, incarnation > 1});
    BOOST_REQUIRE(slot != nullptr);
    return *slot;
  }
  process_record only() {
    const auto records = table.read();
    BOOST_REQUIRE_EQUAL(records.size(), 1U);
    return records.front();
  }
  void handle(process_slot& slot, std::int64_t took) {
    table.begin(slot, some_message());
    now += took;
    table.end(slot, true);
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(process_table_figures, table_fixture)

BOOST_AUTO_TEST_CASE(an_idle_actor_has_its_identity_and_no_load) {
  table.add({7, 3, "worker", 2, true});
  now += 1500 * ms;
  const auto r = only();
  BOOST_TEST(r.id == 7U);
  BOOST_TEST(r.parent == 3U);
  BOOST_TEST(r.name == "worker");
  BOOST_TEST(r.incarnation == 2U);
  BOOST_TEST(r.supervised);
  BOOST_TEST(r.age_ns == 1500 * ms);
  BOOST_TEST(r.depth == 0U);
  BOOST_TEST(r.running_ns == 0);
  BOOST_TEST(r.busy_percent == 0.0);
  BOOST_TEST(!r.suspect());
}

BOOST_AUTO_TEST_CASE(messages_wait_are_taken_in_hand_and_done) {
  auto& slot = add(1);
  for (int i = 0; i < 3; ++i) table.arrived(slot);
  now += 256 * ms;
  BOOST_TEST(only().depth == 3U);
  BOOST_TEST(only().high_water == 3U);
  BOOST_TEST(only().oldest_wait_ns == 256 * ms);

  table.begin(slot, some_message());
  now += 512 * ms;
  auto r = only();
  BOOST_TEST(r.depth == 2U);
  BOOST_TEST(r.done == 0U);
  BOOST_TEST(r.running_ns == 512 * ms);
  BOOST_TEST(to_string(r.current) == "int");
  BOOST_TEST(r.thread != 0);

  table.end(slot, true);
  r = only();
  BOOST_TEST(r.done == 1U);
  BOOST_TEST(r.running_ns == 0);
  BOOST_TEST(r.depth == 2U);
  BOOST_TEST(r.high_water == 3U);
  BOOST_REQUIRE(r.last.size() == 1U);
  BOOST_TEST(r.last[0].took_ns == 512 * ms);
  // A percentile is the upper end of its class, at most a quarter above.
  BOOST_TEST(r.handling_p99_ns >= 512 * ms);
  BOOST_TEST(r.handling_p99_ns <= 640 * ms);
  BOOST_TEST(r.waiting_p50_ns >= 256 * ms);
  BOOST_TEST(r.waiting_p50_ns <= 320 * ms);
}

BOOST_AUTO_TEST_CASE(a_message_that_stays_in_the_mailbox_is_not_done) {
  auto& slot = add(1);
  table.arrived(slot);
  table.begin(slot, some_message());
  table.end(slot, false);
  BOOST_TEST(only().done == 0U);
  BOOST_TEST(only().depth == 1U);
}

BOOST_AUTO_TEST_CASE(an_actor_in_one_handler_for_longer_than_its_patience_is_suspect) {
  auto& slot = add(1);
  table.arrived(slot);
  table.begin(slot, some_message());
  now += 2000 * ms;
  BOOST_TEST(!only().suspect());
  now += 1 * ms;
  BOOST_TEST(only().suspect());
  BOOST_TEST(only().busy_percent > 99.0);
  table.set_patience(slot, 60s);
  BOOST_TEST(!only().suspect());
}

BOOST_AUTO_TEST_CASE(an_idle_actor_whose_message_nobody_takes_is_suspect) {
  auto& slot = add(1);
  table.arrived(slot);
  now += 2001 * ms;
  BOOST_TEST(only().running_ns == 0);
  BOOST_TEST(only().suspect());
}

BOOST_AUTO_TEST_CASE(the_actor_that_is_stuck_for_longest_is_found) {
  auto& idle = add(1, "idle");
  auto& busy = add(2, "busy");
  auto& worker = add(3, "worker");
  handle(idle, 100 * ms);
  table.arrived(worker);
  table.begin(worker, some_message());
  now += 256 * ms;
  table.arrived(busy);
  now += 512 * ms;
  table.arrived(idle);  // 1 handled, 1 waits
  table.arrived(idle);
  BOOST_TEST(!table.longest_stuck(1s).has_value());
  now += 9 * 1024 * ms;
  const auto found = table.longest_stuck(9s, {"worker"});
  BOOST_REQUIRE(found.has_value());
  BOOST_TEST(found->id == 2U);
  BOOST_TEST(found->name == "busy");
  BOOST_TEST(found->time_ns == (9 * 1024 + 512) * ms);
  BOOST_TEST(table.longest_stuck(9s)->name == "worker");
  table.begin(busy, some_message());
  BOOST_TEST(table.longest_stuck(9s, {"worker"})->name == "idle");
}

BOOST_AUTO_TEST_CASE(waits_behind_a_deep_mailbox_are_never_overstated) {
  auto& slot = add(1);
  const auto first = now;
  constexpr int many = 200;
  for (int i = 0; i < many; ++i) {
    table.arrived(slot);
    now += 256 * ms;
  }
  // The stamp of message 0 was overwritten by that of message 192.
  BOOST_TEST(only().oldest_wait_ns == now - (first + 192 * 256 * ms));
  BOOST_TEST(only().high_water == std::uint64_t{many});
  for (int i = 0; i < many; ++i) handle(slot, 0);
  BOOST_TEST(only().depth == 0U);
  BOOST_TEST(only().oldest_wait_ns == 0);
  BOOST_TEST(only().done == std::uint64_t{many});
}

BOOST_AUTO_TEST_CASE(rate_and_busy_share_are_of_the_last_windows_and_fade) {
  auto& slot = add(1);
  now += 60'000 * ms;
  for (int i = 0; i < 100; ++i) {
    table.arrived(slot);
    handle(slot, 50 * ms);
    now += 50 * ms;
  }
  BOOST_TEST(only().rate > 4.0);
  BOOST_TEST(only().rate < 11.0);
  BOOST_TEST(only().busy_percent > 20.0);
  BOOST_TEST(only().busy_percent < 51.0);
  now += 30'000 * ms;
  BOOST_TEST(only().rate == 0.0);
  BOOST_TEST(only().handling_p99_ns == 0);
}

BOOST_AUTO_TEST_CASE(the_last_messages_are_kept_newest_first) {
  auto& slot = add(1);
  for (int i = 0; i < 20; ++i) {
    table.arrived(slot);
    handle(slot, i * ms);
  }
  const auto r = only();
  BOOST_REQUIRE_EQUAL(r.last.size(), process_slot::kept_messages);
  BOOST_TEST(r.last.front().took_ns == 19 * ms);
  BOOST_TEST(r.last.back().took_ns == 12 * ms);
}

BOOST_AUTO_TEST_CASE(a_failed_actor_leaves_its_reason_and_its_successor_shows_it) {
  auto& slot = add(1, "worker");
  table.ended(slot, "the engine broke");
  BOOST_TEST(table.read().empty());
  BOOST_REQUIRE(table.failures().size() == 1U);
  BOOST_TEST(table.failures()[0].name == "worker");
  BOOST_TEST(table.failures()[0].reason == "the engine broke");
  table.remove(slot);

  add(2, "worker", 2);
  BOOST_TEST(only().last_error == "the engine broke");
}

BOOST_AUTO_TEST_CASE(an_ordinary_end_is_no_failure) {
  auto& slot = add(1);
  table.ended(slot, "");
  BOOST_TEST(table.read().empty());
  BOOST_TEST(table.failures().empty());
}

BOOST_AUTO_TEST_CASE(slots_are_used_again_without_a_trace_of_the_one_before) {
  auto& slot = add(1, "a name that is longer than the one that follows");
  for (int i = 0; i < 5; ++i) table.arrived(slot);
  table.begin(slot, some_message());
  table.ended(slot, "");
  table.remove(slot);
  for (std::uint64_t id = 2; id < 20; ++id) {
    auto& next = add(id, "b");
    const auto r = only();
    BOOST_TEST(r.id == id);
    BOOST_TEST(r.name == "b");
    BOOST_TEST(r.depth == 0U);
    BOOST_TEST(r.running_ns == 0);
    BOOST_TEST(r.last.empty());
    table.ended(next, "");
    table.remove(next);
  }
}

BOOST_AUTO_TEST_CASE(memory_grows_with_the_actors_at_a_time_not_with_those_that_came_and_went) {
  process_table many(1000);
  for (std::uint64_t id = 1; id <= 5000; id += 2) {
    auto* one = many.add({id, 0, "a", 1, false});
    auto* other = many.add({id + 1, 0, "b", 1, false});
    BOOST_REQUIRE(one != nullptr);
    BOOST_REQUIRE(other != nullptr);
    BOOST_REQUIRE(one != other);
    for (auto* slot : {one, other}) {
      many.ended(*slot, "");
      many.remove(*slot);
    }
  }
  BOOST_TEST(many.allocated() == 2U);
}

BOOST_AUTO_TEST_CASE(actors_beyond_the_slots_are_counted) {
  for (std::uint64_t id = 1; id <= 4; ++id) add(id);
  BOOST_TEST(table.add({5, 0, "fifth", 1, false}) == nullptr);
  BOOST_TEST(table.overflowed() == 1U);
  BOOST_TEST(table.read().size() == 4U);
}

BOOST_AUTO_TEST_CASE(readers_see_whole_actors_while_others_come_and_go) {
  process_table busy(64);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t round = 1; !stop; ++round) {
        const auto id = round * 2 + static_cast<std::uint64_t>(t);
        const auto name = "actor-" + std::to_string(id);
        auto* slot = busy.add({id, id, name, id, false});
        if (slot == nullptr) continue;
        for (int i = 0; i < 10; ++i) {
          busy.arrived(*slot);
          busy.begin(*slot, some_message());
          busy.end(*slot, true);
        }
        busy.ended(*slot, "");
        busy.remove(*slot);
      }
    });
  std::size_t seen = 0;
  for (int i = 0; i < 3000 || (seen == 0 && i < 3'000'000); ++i)
    for (const auto& r : busy.read()) {
      ++seen;
      if (r.name != "actor-" + std::to_string(r.id) || r.parent != r.id || r.incarnation != r.id)
        BOOST_ERROR("torn: " << r.name << " with id " << r.id);
    }
  stop = true;
  for (auto& t : threads) t.join();
  BOOST_TEST(seen > 0U);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(latency_histogram_classes)

BOOST_AUTO_TEST_CASE(every_duration_lies_below_the_upper_end_of_its_class_and_above_the_one_before) {
  for (std::int64_t ns = 1; ns < std::int64_t{60} * 1'000'000'000; ns += 1 + ns / 7) {
    const auto c = latency_histogram::class_of(ns);
    BOOST_REQUIRE(ns <= latency_histogram::upper_end(c));
    if (c > 0) BOOST_REQUIRE(ns >= latency_histogram::upper_end(c - 1));
    if (ns >= 1024)
      BOOST_REQUIRE(static_cast<double>(latency_histogram::upper_end(c)) <= 1.25 * static_cast<double>(ns));
  }
  BOOST_TEST(latency_histogram::class_of(std::int64_t{1} << 50) == latency_histogram::classes - 1);
  BOOST_TEST(latency_histogram::class_of(-5) == 0U);
}

BOOST_AUTO_TEST_CASE(a_percentile_is_that_of_the_added_durations) {
  latency_histogram h;
  for (int i = 0; i < 98; ++i) h.add(2 * ms);
  for (int i = 0; i < 2; ++i) h.add(900 * ms);
  std::array<std::uint64_t, latency_histogram::classes> sums{};
  BOOST_TEST(percentile(sums, 0.5) == 0);
  h.add_to(sums);
  BOOST_TEST(percentile(sums, 0.5) >= 2 * ms);
  BOOST_TEST(percentile(sums, 0.5) <= 3 * ms);
  BOOST_TEST(percentile(sums, 0.99) >= 900 * ms);
}

BOOST_AUTO_TEST_SUITE_END()
