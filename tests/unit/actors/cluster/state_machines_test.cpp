#include "actors/cluster/message.hpp"
#include "actors/cluster/node.hpp"
#include "actors/cluster/routing.hpp"
#include "actors/cluster/stream.hpp"

#include <boost/test/unit_test.hpp>

#include <random>
#include <string>
#include <vector>

namespace bitnet::tests {

using namespace actors::cluster;
using actors::steady_time;
using std::chrono::milliseconds;

namespace {

node_description described(std::uint8_t number) {
  node_description d;
  d.id.bytes[0] = number;
  d.model_hash = 7;
  d.address.assign(1, static_cast<char>('a' + number));
  d.address += ":7400";
  return d;
}

member_record record_of(std::uint8_t number, std::uint64_t incarnation, declaration declared,
                        bool dead = false) {
  return {std::make_shared<const node_description>(described(number)), incarnation, declared, dead};
}

const steady_time start{std::chrono::hours(1)};

}  // namespace

BOOST_AUTO_TEST_SUITE(cluster_state_machines)

BOOST_AUTO_TEST_CASE(a_hello_is_refused_for_itself_for_its_protocol_and_for_its_model) {
  const auto ours = described(1);
  auto theirs = described(2);
  BOOST_TEST((check_hello(ours, theirs) == refusal::none));
  BOOST_TEST((check_hello(ours, ours) == refusal::itself));
  theirs.model_hash = 8;
  BOOST_TEST((check_hello(ours, theirs) == refusal::model));
  theirs.model_hash = 0;  // not known yet
  BOOST_TEST((check_hello(ours, theirs) == refusal::none));
  theirs.protocol_min = theirs.protocol_max = protocol_max + 1;
  BOOST_TEST((check_hello(ours, theirs) == refusal::protocol));
  BOOST_TEST(explain(refusal::protocol, ours, theirs).find("upgrade") != std::string::npos);
  theirs.protocol_min = protocol_min;  // an upgrade under way: both speak the old one
  BOOST_TEST((check_hello(ours, theirs) == refusal::none));
  BOOST_TEST(common_protocol(ours, theirs) == protocol_max);
  theirs.protocol_min = 9;
  theirs.protocol_max = 3;
  BOOST_TEST((check_hello(ours, theirs) == refusal::malformed));
}

BOOST_AUTO_TEST_CASE(both_sides_keep_the_same_of_two_links) {
  const auto a = described(1).id;
  const auto b = described(2).id;
  BOOST_TEST(link_wins(a, b));
  BOOST_TEST(!link_wins(b, a));
}

BOOST_AUTO_TEST_CASE(copies_of_the_map_agree_whatever_the_order_of_the_news) {
  std::vector<member_record> news;
  for (std::uint8_t n = 3; n < 8; ++n) {
    news.push_back(record_of(n, 1, declaration::joining));
    news.push_back(record_of(n, 2, declaration::alive));
    if (n % 2 == 0) news.push_back(record_of(n, 2, declaration::alive, true));
    if (n == 5) news.push_back(record_of(n, 3, declaration::left));
  }
  std::mt19937 random(3);
  std::optional<std::uint64_t> digest;
  for (int round = 0; round < 50; ++round) {
    member_map map(described(1), 1);
    // Whatever comes first must not be a gone one: those say nothing to who never knew the member.
    for (std::uint8_t n = 3; n < 8; ++n) map.merge(record_of(n, 0, declaration::joining), start);
    std::shuffle(news.begin(), news.end(), random);
    for (const auto& r : news) map.merge(r, start);
    for (const auto& r : news) map.merge(r, start);
    if (digest) BOOST_TEST(map.digest() == *digest);
    digest = map.digest();
    BOOST_TEST(map.present() == 3U);  // 1, 3 and 7
  }
}

BOOST_AUTO_TEST_CASE(a_living_node_contradicts_its_death) {
  member_map map(described(1), 5);
  BOOST_TEST((map.merge(record_of(1, 5, declaration::joining, true), start) == member_map::effect::refuted));
  BOOST_TEST(map.own().incarnation == 6U);
  BOOST_TEST(!map.own().dead);
  member_map other(described(2), 1);
  other.merge(record_of(1, 5, declaration::joining), start);
  BOOST_TEST(other.claim_dead(described(1).id, start));
  BOOST_TEST(other.present() == 1U);
  other.merge(map.own(), start);
  BOOST_TEST(other.present() == 2U);
  BOOST_TEST(
      (other.merge(record_of(1, 5, declaration::joining, true), start) == member_map::effect::outdated));
}

BOOST_AUTO_TEST_CASE(who_left_does_not_come_back) {
  member_map map(described(1), 1);
  map.merge(record_of(2, 4, declaration::left), start);
  BOOST_TEST(map.find(described(2).id) == nullptr);
  map.merge(record_of(2, 3, declaration::alive), start);
  map.merge(record_of(2, 4, declaration::left), start);
  map.merge(record_of(2, 9, declaration::alive), start);
  BOOST_TEST(map.present() == 1U);
}

BOOST_AUTO_TEST_CASE(every_message_survives_the_wire_and_no_bytes_break_the_decoder) {
  const std::vector<message> all{
      ping{1, 2, {{1, 2, 3, 4, 5, 6, 7, 8}}},
      ack{3, 4},
      probe_request{described(3).id},
      probe_answer{described(4).id},
      gossip{{record_of(1, 2, declaration::draining), record_of(2, 3, declaration::alive, true)}, true, true},
      stream_submit{1, 2, 3, 4, 5, std::string("abc\0d", 5)},
      stream_accept{1, 2},
      stream_refuse{1, 2, 3, "why"},
      stream_frame{1, 2, 3, 4, true, "payload"},
      stream_credit{1, 2, 3},
      stream_cancel{1, 2},
      stream_alive{{{1, 2, 3}, {4, 5, 6}}}};
  BOOST_TEST(all.size() == std::variant_size_v<message>);
  std::mt19937 random(1);
  for (const auto& m : all) {
    const auto bytes = encode(m);
    const auto back = decode(bytes);
    BOOST_REQUIRE(back.has_value());
    BOOST_TEST(back->index() == m.index());
    BOOST_TEST((encode(*back) == bytes));
    BOOST_TEST(decode(bytes + "more").has_value());  // fields of a newer protocol
    for (std::size_t cut = 0; cut < bytes.size(); ++cut)
      BOOST_TEST(!decode(bytes.substr(0, cut)).has_value());
    for (int i = 0; i < 2000; ++i) {
      auto damaged = bytes;
      damaged[random() % damaged.size()] = static_cast<char>(random());
      damaged[random() % damaged.size()] = static_cast<char>(random());
      if (const auto d = decode(damaged)) BOOST_TEST(encode(*d).size() <= damaged.size());
    }
  }
  BOOST_TEST(!decode(std::string(1, '\x7F')).has_value());
  BOOST_TEST(!decode(std::string(max_message_bytes + 1, '\0')).has_value());
}

BOOST_AUTO_TEST_CASE(neighbours_are_all_in_a_small_cluster_and_few_in_a_large_one) {
  member_map small(described(0), 1);
  for (std::uint8_t n = 1; n < full_mesh; ++n) small.merge(record_of(n, 1, declaration::alive), start);
  BOOST_TEST(neighbours(small).size() == full_mesh - 1);
  member_map large(described(0), 1);
  for (std::uint8_t n = 1; n < 200; ++n) large.merge(record_of(n, 1, declaration::alive), start);
  BOOST_TEST(neighbours(large).size() <= 2 * ring_count);
  BOOST_TEST(neighbours(large).size() >= ring_count);
}

BOOST_AUTO_TEST_CASE(routing_skips_full_and_stale_workers_and_prefers_the_less_loaded) {
  std::minstd_rand random;
  const auto now = start;
  route_candidate idle{1, 8, 0, 0, 0, 0, 0, false, now};
  route_candidate busy{2, 8, 6, 0, 2, 0, 0.5, false, now};
  route_candidate full{3, 8, 8, 0, 0, 0, 0, false, now};
  route_candidate stale{4, 8, 0, 0, 0, 0, 0, true, now - milliseconds(2001)};
  const std::vector<route_candidate> all{idle, busy, full, stale};
  for (int i = 0; i < 100; ++i)
    BOOST_TEST(choose_worker(all, 0, std::nullopt, now, {}, random).value() == 0U);
  BOOST_TEST(choose_worker(all, 0, 1, now, {}, random).value() == 1U);
  BOOST_TEST(!choose_worker(std::vector{full, stale}, 0, std::nullopt, now, {}, random).has_value());
  // What was sent since the last report counts.
  idle.sent_since = 8;
  BOOST_TEST(choose_worker(std::vector{idle, busy}, 0, std::nullopt, now, {}, random).value() == 1U);
}

BOOST_AUTO_TEST_CASE(a_prefix_stays_with_its_worker_until_that_is_too_loaded) {
  std::minstd_rand random;
  std::vector<route_candidate> all;
  for (std::uint64_t w = 1; w <= 4; ++w) all.push_back({w * 977, 8, 0, 0, 0, 0, 0, false, start});
  const auto own = choose_worker(all, 42, std::nullopt, start, {}, random).value();
  for (int i = 0; i < 50; ++i)
    BOOST_TEST(choose_worker(all, 42, std::nullopt, start, {}, random).value() == own);
  all[own].streams = 2;  // within the bound
  for (int i = 0; i < 50; ++i)
    BOOST_TEST(choose_worker(all, 42, std::nullopt, start, {}, random).value() == own);
  all[own].streams = 7;
  for (int i = 0; i < 50; ++i)
    BOOST_TEST(choose_worker(all, 42, std::nullopt, start, {}, random).value() != own);
}

BOOST_AUTO_TEST_CASE(retries_are_a_tenth_of_the_requests) {
  retry_budget budget;
  while (budget.take()) {
  }
  int retries = 0;
  for (int i = 0; i < 1000; ++i) {
    budget.on_request();
    retries += budget.take() ? 1 : 0;
  }
  BOOST_TEST(retries >= 98);
  BOOST_TEST(retries <= 100);
}

BOOST_AUTO_TEST_CASE(a_worker_sends_no_more_than_its_credit) {
  served_stream s(1, 1, 4);
  for (int i = 0; i < 10; ++i) s.push(1, i == 9, "x");
  BOOST_TEST(s.take().size() == 4U);
  BOOST_TEST(s.take().empty());
  s.grant(3);  // an old one that came late
  BOOST_TEST(s.take().empty());
  s.grant(100);
  const auto rest = s.take();
  BOOST_TEST(rest.size() == 6U);
  BOOST_TEST(rest.back().last);
  BOOST_TEST(rest.back().seq == 9U);
  BOOST_TEST(s.finished());
}

BOOST_AUTO_TEST_CASE(a_gateway_takes_each_frame_once_and_notices_gaps_and_silence) {
  stream_options o;
  forwarded_stream s(2, start, o);
  using verdict = forwarded_stream::verdict;
  BOOST_TEST((s.on_frame({1, 1, 0, 1, false, ""}, start) == verdict::drop));  // an old attempt
  BOOST_TEST((s.on_frame({1, 2, 0, 1, false, ""}, start) == verdict::deliver));
  BOOST_TEST((s.on_frame({1, 2, 0, 1, false, ""}, start) == verdict::drop));
  BOOST_TEST((s.on_frame({1, 2, 2, 1, false, ""}, start) == verdict::lost));
  BOOST_TEST(!s.stalled(start + o.stall_after - milliseconds(1)));
  BOOST_TEST(s.stalled(start + o.stall_after));
  s.on_alive({1, 2, 1}, start + milliseconds(1900));
  BOOST_TEST(!s.stalled(start + o.stall_after));
  s.on_alive({1, 2, 5}, start + milliseconds(2000));  // four frames are on the way, or lost
  BOOST_TEST(!s.stalled(start + milliseconds(2400)));
  BOOST_TEST(s.stalled(start + milliseconds(2500)));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace bitnet::tests
