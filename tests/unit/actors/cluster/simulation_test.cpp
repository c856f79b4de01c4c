#include "tests/unit/actors/cluster/simulation.hpp"

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <string>

namespace bitnet::tests {

namespace {

using kind = cluster::node::event::kind;

/// A cluster with a random plan of faults under load; then everything is repaired. Returns what went wrong.
std::string run_seed(std::uint64_t seed, simulation::totals& sum) {
  std::mt19937_64 random(seed * 7919 + 13);
  const auto pick = [&](std::uint64_t n) { return random() % n; };
  simulation::options o;
  o.seed = seed;
  o.nodes = 2 + pick(5);
  switch (pick(4)) {
    case 0:
      break;  // a sound network
    case 1:
      o.network = {0.02, 0.02, milliseconds(0), milliseconds(20)};
      break;
    case 2:
      o.network = {0, 0.1, milliseconds(0), milliseconds(80)};  // reorders
      break;
    case 3:
      o.network = {0.05, 0, milliseconds(1), milliseconds(5)};
      break;
  }
  simulation s(o);
  s.run(milliseconds(1500));
  for (int round = 0; round < 8 && s.violation().empty(); ++round) {
    for (std::uint64_t r = pick(4) + 1; r > 0; --r)
      s.request(pick(o.nodes), 5 + static_cast<std::uint32_t>(pick(60)));
    const auto victim = pick(o.nodes);
    switch (pick(10)) {
      case 0:
        s.crash(victim, false);
        break;
      case 1:
        s.crash(victim, true);
        break;
      case 2:
        s.pause(victim, milliseconds(200 + pick(9000)));
        break;
      case 3:
        s.isolate(victim, true);
        break;
      case 4: {
        const auto other = pick(o.nodes);
        if (other != victim) s.cut(victim, other, true);  // one direction
        break;
      }
      case 5:
        s.drain(victim);
        break;
      case 6:
        s.heal();
        break;
      case 7:
        for (std::size_t i = 0; i < o.nodes; ++i) s.start(i);
        break;
      default:
        break;
    }
    s.run(milliseconds(300 + pick(3000)));
  }
  // Repaired: all must end well.
  s.heal();
  s.network() = {};
  for (std::size_t i = 0; i < o.nodes; ++i) s.start(i);
  s.run(milliseconds(25'000));
  for (std::size_t i = 0; i < o.nodes; ++i) s.start(i);  // those that left meanwhile
  s.run(milliseconds(8'000));
  if (!s.violation().empty()) return s.violation();
  const auto t = s.count();
  sum.requests += t.requests;
  sum.finished += t.finished;
  sum.gateway_lost += t.gateway_lost;
  sum.resumed += t.resumed;
  if (t.finished + t.gateway_lost != t.requests)
    return fmt::format("seed {}: {} of {} streams did not end", seed,
                       t.requests - t.finished - t.gateway_lost, t.requests);
  if (!s.converged()) return fmt::format("seed {}: the maps of members differ", seed);
  return {};
}

milliseconds percentile(std::vector<milliseconds> values, double p) {
  if (values.empty()) return milliseconds(0);
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<std::size_t>(p * static_cast<double>(values.size())))];
}

/// Runs until all maps agree; the time that took.
milliseconds until_converged(simulation& s, milliseconds limit) {
  const auto began = s.now();
  while (!s.converged() && s.now() - began < limit) s.run(milliseconds(50));
  return std::chrono::duration_cast<milliseconds>(s.now() - began);
}

struct scale_result {
  milliseconds boot{0};
  std::vector<milliseconds> first, all, join;
  double messages_per_node_second = 0;
  std::size_t watched = 0;
};

/// Boots `n` nodes at once, then lets machines vanish without a word and come back, one after the other.
scale_result measure(std::size_t n, int crashes, std::uint64_t seed) {
  simulation::options o;
  o.seed = seed;
  o.nodes = n;
  o.through_codec = n <= 16;
  o.worker = false;
  simulation s(o);
  scale_result r;
  r.boot = until_converged(s, milliseconds(60'000));
  BOOST_TEST(s.converged());
  s.run(milliseconds(2000));
  const auto before = s.messages();
  s.run(milliseconds(2000));
  r.messages_per_node_second = static_cast<double>(s.messages() - before) / 2.0 / static_cast<double>(n);
  std::mt19937_64 random(seed);
  for (int c = 0; c < crashes; ++c) {
    const auto victim = random() % n;
    const auto logged = s.events().size();
    const auto began = s.now();
    r.watched = std::max(r.watched, s.node_at(victim).watched().size());
    s.crash(victim, true);
    r.all.push_back(until_converged(s, milliseconds(20'000)));
    BOOST_TEST(s.converged());
    for (auto i = logged; i < s.events().size(); ++i) {
      const auto& e = s.events()[i];
      if (e.about != victim || e.what != kind::lost) continue;
      r.first.push_back(std::chrono::duration_cast<milliseconds>(e.at - began));
      break;
    }
    s.start(victim);
    r.join.push_back(until_converged(s, milliseconds(20'000)));
    BOOST_TEST(s.converged());
    s.run(milliseconds(1000));
  }
  return r;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cluster_simulation)

BOOST_AUTO_TEST_CASE(no_stream_is_lost_or_altered_whatever_fails) {
  // BITNET_SIMULATION_SEED repeats one run; BITNET_SIMULATION_SEEDS sets how many there are.
  simulation::totals sum;
  if (const char* one = std::getenv("BITNET_SIMULATION_SEED")) {
    BOOST_TEST(run_seed(std::strtoull(one, nullptr, 10), sum) == "");
    return;
  }
  const char* text = std::getenv("BITNET_SIMULATION_SEEDS");
  const std::uint64_t seeds = text != nullptr ? std::strtoull(text, nullptr, 10) : 2000;
  int failures = 0;
  for (std::uint64_t seed = 1; seed <= seeds && failures < 5; ++seed) {
    const auto wrong = run_seed(seed, sum);
    if (!wrong.empty()) ++failures;
    BOOST_TEST(wrong == "");
  }
  fmt::print("{} seeds: {} streams, {} whole, {} went with their own gateway, {} moves to another worker\n",
             seeds, sum.requests, sum.finished, sum.gateway_lost, sum.resumed);
  BOOST_TEST(sum.resumed > seeds / 4);  // or the faults did not do their work
}

BOOST_AUTO_TEST_CASE(a_run_repeats_itself) {
  const auto trace = [] {
    simulation::options o;
    o.seed = 5;
    o.nodes = 5;
    o.network = {0.05, 0.05, milliseconds(0), milliseconds(30)};
    simulation s(o);
    for (int i = 0; i < 20; ++i) {
      s.request(static_cast<std::size_t>(i) % 5, 20);
      s.run(milliseconds(300));
    }
    s.crash(2, true);
    s.run(milliseconds(8000));
    return std::pair{s.messages(), s.events().size()};
  };
  BOOST_TEST((trace() == trace()));
}

BOOST_AUTO_TEST_CASE(a_stopped_process_suspects_nobody_when_it_goes_on) {
  simulation::options o;
  o.nodes = 5;
  simulation s(o);
  s.run(milliseconds(3000));
  s.pause(1, milliseconds(60'000));
  s.run(milliseconds(75'000));
  std::size_t others_lost_it = 0;
  for (const auto& e : s.events()) {
    if (e.what == kind::unreachable) BOOST_TEST(e.seen_by != 1U);
    if (e.what != kind::lost) continue;
    BOOST_TEST(e.seen_by != 1U);
    BOOST_TEST(e.about == 1U);
    ++others_lost_it;
  }
  BOOST_TEST(others_lost_it == 4U);
  BOOST_TEST(s.converged());
  for (std::size_t i = 0; i < 5; ++i)
    for (std::size_t j = 0; j < 5; ++j)
      BOOST_TEST((s.node_at(i).state_of(s.node_at(j).members().self()) == cluster::member_state::alive));
}

BOOST_AUTO_TEST_CASE(a_link_that_fails_between_two_nodes_kills_neither) {
  for (const bool both : {false, true}) {
    simulation::options o;
    o.nodes = 4;
    simulation s(o);
    s.run(milliseconds(3000));
    s.cut(0, 1, true);
    if (both) s.cut(1, 0, true);
    s.run(milliseconds(60'000));
    for (const auto& e : s.events()) BOOST_TEST((e.what != kind::lost));
    const auto& zero = s.node_at(0);
    const auto& one = s.node_at(1);
    BOOST_TEST((zero.state_of(one.members().self()) == cluster::member_state::suspect));
    BOOST_TEST((one.state_of(zero.members().self()) == cluster::member_state::suspect));
    BOOST_TEST((s.node_at(2).state_of(zero.members().self()) == cluster::member_state::alive));
    s.heal();
    s.run(milliseconds(3000));
    BOOST_TEST((zero.state_of(one.members().self()) == cluster::member_state::alive));
  }
}

BOOST_AUTO_TEST_CASE(members_that_left_or_died_are_forgotten) {
  simulation::options o;
  o.nodes = 3;
  simulation s(o);
  s.run(milliseconds(3000));
  const auto left = s.node_at(1).members().self();
  const auto dead = s.node_at(2).members().self();
  s.drain(1);
  s.crash(2, true);
  s.run(milliseconds(8000));
  BOOST_TEST((s.node_at(0).state_of(left) == cluster::member_state::left));
  BOOST_TEST((s.node_at(0).state_of(dead) == cluster::member_state::dead));
  BOOST_TEST(s.node_at(0).members().find(dead) != nullptr);
  s.run(std::chrono::minutes(5));
  BOOST_TEST(s.node_at(0).members().find(left) == nullptr);
  BOOST_TEST(s.node_at(0).members().find(dead) == nullptr);
}

BOOST_AUTO_TEST_CASE(two_halves_serve_apart_and_find_each_other_again) {
  simulation::options o;
  o.nodes = 6;
  simulation s(o);
  s.run(milliseconds(3000));
  for (std::size_t a = 0; a < 3; ++a)
    for (std::size_t b = 3; b < 6; ++b) s.cut(a, b, true), s.cut(b, a, true);
  s.run(milliseconds(10'000));
  BOOST_TEST(s.node_at(0).members().present() == 3U);
  BOOST_TEST(s.node_at(4).members().present() == 3U);
  for (std::size_t i = 0; i < 6; ++i) s.request(i, 20);
  s.run(milliseconds(5000));
  BOOST_TEST(s.count().finished == 6U);
  s.heal();
  s.run(milliseconds(5000));
  BOOST_TEST(s.converged());
}

BOOST_AUTO_TEST_CASE(cost_of_a_node_does_not_grow_with_the_cluster) {
  fmt::print("{:>6} {:>8} {:>10} {:>21} {:>21} {:>21} {:>10}\n", "nodes", "watched", "boot ms",
             "first knows p50/p99", "all know p50/p99", "all know joiner", "msg/node/s");
  std::map<std::size_t, scale_result> results;
  for (const auto& [n, crashes, runs] :
       {std::tuple{3UL, 20, 5}, {16UL, 20, 5}, {128UL, 10, 2}, {1000UL, 3, 1}}) {
    scale_result sum;
    for (int run = 0; run < runs; ++run) {
      auto r = measure(n, crashes, 100 + static_cast<std::uint64_t>(run));
      sum.first.insert(sum.first.end(), r.first.begin(), r.first.end());
      sum.all.insert(sum.all.end(), r.all.begin(), r.all.end());
      sum.join.insert(sum.join.end(), r.join.begin(), r.join.end());
      sum.boot = std::max(sum.boot, r.boot);
      sum.watched = std::max(sum.watched, r.watched);
      sum.messages_per_node_second = std::max(sum.messages_per_node_second, r.messages_per_node_second);
    }
    fmt::print("{:>6} {:>8} {:>10} {:>10}/{:>10} {:>10}/{:>10} {:>10}/{:>10} {:>10.1f}\n", n, sum.watched,
               sum.boot.count(), percentile(sum.first, 0.5).count(), percentile(sum.first, 0.99).count(),
               percentile(sum.all, 0.5).count(), percentile(sum.all, 0.99).count(),
               percentile(sum.join, 0.5).count(), percentile(sum.join, 0.99).count(),
               sum.messages_per_node_second);
    std::fflush(stdout);
    BOOST_TEST(percentile(sum.all, 1).count() <= 7000);
    BOOST_TEST(percentile(sum.first, 1).count() <= 5500);
    results[n] = sum;
  }
  BOOST_TEST(results[1000].messages_per_node_second <= results[128].messages_per_node_second * 1.2);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace bitnet::tests
