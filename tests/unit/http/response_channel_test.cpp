#include "http/response_channel.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace bitnet::http;

std::string drain(response_channel& channel) {
  std::string text;
  for (auto event = channel.take(); event; event = std::move(event->next)) text += event->bytes;
  return text;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(response_channel_suite)

BOOST_AUTO_TEST_CASE(events_come_out_in_order_and_one_wake_covers_several) {
  int wakes = 0;
  const auto channel = std::make_shared<response_channel>([&] { ++wakes; });
  const auto writer = make_writer(channel);
  writer->begin_stream(200, {});
  writer->write("a");
  writer->write("b");
  BOOST_TEST(wakes == 1);
  BOOST_TEST(drain(*channel) == "ab");
  BOOST_TEST(drain(*channel).empty());
  writer->write("c");
  BOOST_TEST(wakes == 2);
  BOOST_TEST(drain(*channel) == "c");
}

BOOST_AUTO_TEST_CASE(only_writers_without_an_answer_report_abandonment) {
  const auto channel = std::make_shared<response_channel>([] {});
  make_writer(channel).reset();
  auto event = channel->take();
  BOOST_REQUIRE(event != nullptr);
  BOOST_TEST((event->what == response_event::kind::abandoned));

  make_writer(channel)->respond(200, {}, "x");
  event = channel->take();
  BOOST_REQUIRE(event != nullptr);
  BOOST_TEST((event->what == response_event::kind::respond));
  BOOST_TEST(event->next == nullptr);
}

BOOST_AUTO_TEST_CASE(closed_channels_take_nothing_and_do_not_wake) {
  int wakes = 0;
  const auto channel = std::make_shared<response_channel>([&] { ++wakes; });
  const auto writer = make_writer(channel);
  channel->close();
  writer->respond(200, {}, "x");
  BOOST_TEST(wakes == 0);
  BOOST_TEST(channel->take() == nullptr);
}

BOOST_AUTO_TEST_CASE(long_chains_are_freed_without_recursion) {
  const auto channel = std::make_shared<response_channel>([] {});
  const auto writer = make_writer(channel);
  writer->begin_stream(200, {});
  for (int i = 0; i < 500'000; ++i) writer->write("x");
  BOOST_TEST(writer->unsent_bytes() == 500'000U);
}

BOOST_AUTO_TEST_CASE(a_throwing_wake_loses_nothing) {
  const auto channel = std::make_shared<response_channel>([] { throw std::bad_alloc{}; });
  make_writer(channel)->respond(200, {}, "kept");
  BOOST_TEST(drain(*channel) == "kept");
}

BOOST_AUTO_TEST_CASE(several_threads_write_while_one_takes) {
  constexpr int writers = 4, each = 5'000;
  std::atomic<int> wakes{0};
  const auto channel = std::make_shared<response_channel>([&] { ++wakes; });
  std::vector<std::thread> threads;
  for (int t = 0; t < writers; ++t) {
    threads.emplace_back([channel, t] {
      const auto writer = make_writer(channel);
      for (int i = 0; i < each; ++i) writer->write(std::string(1, static_cast<char>('a' + t)));
      writer->end_stream();
    });
  }
  std::vector<int> seen(writers, 0);
  int ends = 0;
  while (ends < writers) {
    for (auto event = channel->take(); event; event = std::move(event->next)) {
      if (event->what == response_event::kind::end_stream) {
        ++ends;
      } else {
        ++seen[static_cast<std::size_t>(event->bytes[0] - 'a')];
      }
    }
  }
  for (auto& thread : threads) thread.join();
  for (const int n : seen) BOOST_TEST(n == each);
  BOOST_TEST(wakes.load() > 0);
}

BOOST_AUTO_TEST_SUITE_END()
