#include "actors/process_watch.hpp"

#include "actors/memory_growth.hpp"
#include "actors/probes/kept_files.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

using namespace bitnet::actors;
using namespace std::chrono_literals;

namespace {

struct watch_fixture {
  process_watch watch{{}, 1000ms};
  process_reading now;

  watch_fixture() {
    now.steady = 1000s;
    now.wall = 1'700'000'000s;
    now.files = 10;
    now.file_limit = 1000;
  }
  process_watch::verdict after(std::chrono::milliseconds by = 1000ms) {
    now.steady += by;
    now.wall += by;
    return watch.judge(now);
  }
};

bool is(const process_watch::verdict& v, health_status status, std::string_view code) {
  return v.status == status && v.code == code;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(process_watch_rules, watch_fixture)

BOOST_AUTO_TEST_CASE(a_process_within_its_limits_is_healthy) {
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
  BOOST_TEST(after().notes.empty());
}

BOOST_AUTO_TEST_CASE(an_actor_that_stays_at_one_message_is_unhealthy_at_the_third_look) {
  now.stuck = stuck_actor{7, "router", 41, 11'000'000'000};
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
  const auto v = after();
  BOOST_TEST(is(v, health_status::unhealthy, "actor_hung"));
  BOOST_TEST(v.message.find("router") != std::string::npos);
  now.stuck.reset();
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
}

BOOST_AUTO_TEST_CASE(an_actor_that_was_late_once_and_goes_on_is_healthy) {
  // As after a stop of the whole process: the wait is long, but the next message is another one.
  for (std::uint64_t done = 0; done < 10; ++done) {
    now.stuck = stuck_actor{7, "router", done, 11'000'000'000};
    BOOST_TEST(is(after(), health_status::healthy, "ok"));
  }
}

BOOST_AUTO_TEST_CASE(descriptors_degrade_from_90_percent_on_and_clear_below_85) {
  now.files = 899;
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
  now.files = 900;
  BOOST_TEST(is(after(), health_status::degraded, "files_exhausted"));
  now.files = 850;
  BOOST_TEST(is(after(), health_status::degraded, "files_exhausted"));
  now.files = 849;
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_counted_is_not_judged) {
  now.files.reset();
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
  now.files = 5;
  now.file_limit = 0;
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
}

BOOST_AUTO_TEST_CASE(threads_that_cannot_start_twice_in_a_row_are_a_fault) {
  now.thread_starts = false;
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
  BOOST_TEST(is(after(), health_status::unhealthy, "thread_limit"));
  now.thread_starts = true;
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
}

BOOST_AUTO_TEST_CASE(the_cgroups_limit_of_threads_is_seen_coming) {
  now.pid_limit = 100;
  now.pids = 89;
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
  now.pids = 90;
  BOOST_TEST(is(after(), health_status::degraded, "thread_limit_near"));
  now.pids = 86;
  BOOST_TEST(is(after(), health_status::degraded, "thread_limit_near"));
  now.pids = 84;
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
}

BOOST_AUTO_TEST_CASE(a_log_that_cannot_be_written_degrades_for_half_a_minute_after_the_last_loss) {
  after();
  now.log.write_errors = 1;
  BOOST_TEST(is(after(), health_status::degraded, "log_write_failed"));
  BOOST_TEST(is(after(28s), health_status::degraded, "log_write_failed"));
  BOOST_TEST(is(after(2s), health_status::healthy, "ok"));
}

BOOST_AUTO_TEST_CASE(a_log_that_nobody_reads_degrades_after_ten_seconds) {
  now.log.blocked_for = 9s;
  BOOST_TEST(is(after(), health_status::healthy, "ok"));
  now.log.blocked_for = 10s;
  now.log.lines_dropped = 3;
  const auto v = after();
  BOOST_TEST(is(v, health_status::degraded, "log_blocked"));
  BOOST_REQUIRE(v.notes.size() == 1U);
  BOOST_TEST(v.notes[0].code == "log_lines_dropped");
  BOOST_TEST(after().notes.empty());  // said once
}

BOOST_AUTO_TEST_CASE(jumps_of_the_wall_clock_are_noted_and_nothing_else) {
  after();
  for (const auto jump : {3600s, -3600s}) {
    now.wall += jump;
    const auto v = after();
    BOOST_TEST(is(v, health_status::healthy, "ok"));
    BOOST_REQUIRE(v.notes.size() == 1U);
    BOOST_TEST(v.notes[0].code == "clock_jump");
  }
  now.wall += 900ms;  // a slewing clock
  BOOST_TEST(after().notes.empty());
}

BOOST_AUTO_TEST_CASE(a_stopped_process_is_noted_afterwards) {
  after();
  BOOST_TEST(after(2400ms).notes.empty());  // late, but only that
  const auto v = after(6s);
  BOOST_TEST(is(v, health_status::healthy, "ok"));
  BOOST_REQUIRE(v.notes.size() == 1U);
  BOOST_TEST(v.notes[0].code == "suspended");
  BOOST_TEST(v.notes[0].message.find("5.0 s") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(the_worst_finding_leads_and_the_others_are_told) {
  now.thread_starts = false;
  after();
  now.files = 999;
  const auto v = after();
  BOOST_TEST(is(v, health_status::unhealthy, "thread_limit"));
  BOOST_TEST(v.message.find("descriptors") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(this_process_is_measured_also_without_a_free_descriptor) {
  process_meter meter;
  auto memory = [read = keep_files_open()] { return measure_memory(read); };
  BOOST_REQUIRE(memory().has_value());
  meter();  // opens what it keeps
  const auto before = meter();
  BOOST_REQUIRE(before.files.has_value());
  BOOST_TEST(before.thread_starts);
  rlimit old{};
  BOOST_REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
  rlimit tight = old;
  tight.rlim_cur = *before.files + 20;
  BOOST_REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
  std::vector<int> held;
  for (int d = ::open("/dev/null", O_RDONLY); d >= 0; d = ::open("/dev/null", O_RDONLY)) held.push_back(d);
  const auto full = meter();
  const auto sample = memory();
  for (const int d : held) ::close(d);
  setrlimit(RLIMIT_NOFILE, &old);
  BOOST_TEST(held.size() >= 15U);
  BOOST_REQUIRE(full.files.has_value());
  BOOST_TEST(*full.files == *before.files + held.size());
  BOOST_TEST(full.file_limit == *before.files + 20);
  BOOST_TEST(sample.has_value());
}

BOOST_AUTO_TEST_CASE(kept_files_are_read_anew_each_time) {
  const std::string path = "/tmp/bitnet-kept-files-" + std::to_string(getpid());
  const auto read = keep_files_open();
  BOOST_TEST(!read(path).has_value());
  std::ofstream(path) << std::string(10000, 'a');
  BOOST_TEST(read(path).value() == std::string(10000, 'a'));
  std::ofstream(path) << "b";
  BOOST_TEST(read(path).value() == "b");
  ::unlink(path.c_str());
}

BOOST_AUTO_TEST_CASE(only_so_many_files_are_kept_open) {
  process_meter meter;
  meter();
  const auto before = *meter().files;
  const auto read = keep_files_open();
  const std::string path = "/tmp/bitnet-kept-files-" + std::to_string(getpid()) + "-";
  for (std::size_t i = 0; i < 2 * max_kept_files; ++i) {
    std::ofstream(path + std::to_string(i)) << i;
    BOOST_TEST(read(path + std::to_string(i)).value() == std::to_string(i));
  }
  BOOST_TEST(*meter().files == before + max_kept_files);
  for (std::size_t i = 0; i < 2 * max_kept_files; ++i) ::unlink((path + std::to_string(i)).c_str());
}

BOOST_AUTO_TEST_CASE(pressure_is_read_from_the_right_line) {
  constexpr std::string_view text =
      "some avg10=12.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=3.25 avg60=0.00 avg300=0.00 total=2\n";
  BOOST_TEST(parse_pressure_avg10(text, "some").value() == 12.5);
  BOOST_TEST(parse_pressure_avg10(text, "full").value() == 3.25);
  BOOST_TEST(!parse_pressure_avg10("", "full").has_value());
  BOOST_TEST(!parse_pressure_avg10("full avg10=x", "full").has_value());
  BOOST_TEST(!parse_pressure_avg10("fuller avg10=1", "full").has_value());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(memory_growth_rules)

namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

/// Feeds a value a second for `length`; whether it looked like a leak at the end.
template <class F>
bool leaks(memory_growth& g, std::chrono::seconds length, std::uint64_t headroom, F resident) {
  bool found = false;
  for (std::chrono::seconds t{0}; t <= length; ++t)
    found = g.update(steady_time(t), resident(static_cast<std::uint64_t>(t.count())), headroom).has_value();
  return found;
}

}  // namespace

BOOST_AUTO_TEST_CASE(steady_growth_that_reaches_the_limit_soon_is_a_leak) {
  memory_growth g;
  BOOST_TEST(leaks(g, 900s, 500 * mib, [](std::uint64_t t) { return 100 * mib + t * mib; }));
  const auto left = g.update(steady_time(901s), 1001 * mib, 600 * mib);
  BOOST_REQUIRE(left.has_value());
  BOOST_TEST(std::abs(left->count() - 600) < 10);
}

BOOST_AUTO_TEST_CASE(growth_that_stops_or_matters_to_nobody_is_none) {
  memory_growth filled, slow, far, steps, wave, young;
  BOOST_TEST(!leaks(filled, 1200s, 500 * mib,
                    [](std::uint64_t t) { return std::min<std::uint64_t>(t, 600) * mib; }));
  BOOST_TEST(!leaks(slow, 1200s, 500 * mib, [](std::uint64_t t) { return t * mib / 20; }));
  BOOST_TEST(!leaks(far, 1200s, 100000 * mib, [](std::uint64_t t) { return t * mib; }));
  BOOST_TEST(!leaks(steps, 1200s, 100 * mib, [](std::uint64_t t) { return t < 1050 ? 0 : 200 * mib; }));
  BOOST_TEST(!leaks(wave, 1200s, 100 * mib, [](std::uint64_t t) { return (t % 120) * 2 * mib; }));
  BOOST_TEST(!leaks(young, 560s, 100 * mib, [](std::uint64_t t) { return t * mib; }));
}

BOOST_AUTO_TEST_SUITE_END()
