#include "actors/snapshot_store.hpp"

#include <boost/test/unit_test.hpp>

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace bitnet::actors;
using namespace std::chrono_literals;

namespace {

/// A snapshot all of whose answers consist of one repeated character, so that a torn or freed one shows.
std::unique_ptr<rendered_snapshot> uniform_snapshot(char c, steady_time stamp) {
  auto s = std::make_unique<rendered_snapshot>();
  for (auto& a : s->answers) {
    a.header_keep_alive.assign(200, c);
    a.header_close.assign(100, c);
    a.body.assign(3000, c);
  }
  s->stamp = stamp;
  return s;
}

bool is_uniform(const std::string& text) {
  return !text.empty() && text.find_first_not_of(text.front()) == std::string::npos;
}

std::atomic<bool> hold_writer{false};
std::atomic<int> writer_held{0};

/// Keeps the interrupted thread inside the handler: it is stopped at an arbitrary instruction.
void hold(int) {
  writer_held.fetch_add(1);
  while (hold_writer.load()) {
  }
  writer_held.fetch_sub(1);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(snapshot_store_readers)

BOOST_AUTO_TEST_CASE(each_variant_of_an_answer_is_assembled_from_its_pieces) {
  snapshot_store store;
  auto s = std::make_unique<rendered_snapshot>();
  s->answers[1] = {"keep|", "close|", "body"};
  s->stamp = std::chrono::steady_clock::now();
  BOOST_REQUIRE(store.publish(std::move(s)));
  std::string out = "before|";
  store.append_answer(probe::live, false, true, out);
  BOOST_TEST(out == "before|keep|body");
  out.clear();
  store.append_answer(probe::live, false, false, out);
  BOOST_TEST(out == "close|body");
  out.clear();
  store.append_answer(probe::live, true, true, out);
  BOOST_TEST(out == "keep|");
  out.clear();
  store.append_answer(probe::live, true, false, out);
  BOOST_TEST(out == "close|");
}

BOOST_AUTO_TEST_CASE(a_store_without_a_snapshot_answers_503) {
  snapshot_store store;
  std::string out;
  store.append_answer(probe::ready, false, false, out);
  BOOST_TEST(out.starts_with("HTTP/1.1 503"));
  BOOST_TEST(out.find("has not published") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(replaced_snapshots_are_freed_when_nobody_reads) {
  snapshot_store store;
  for (int i = 0; i < 1000; ++i) {
    BOOST_REQUIRE(store.publish(uniform_snapshot('a', std::chrono::steady_clock::now())));
    BOOST_TEST(store.retired_count() <= 1U);
  }
}

BOOST_AUTO_TEST_CASE(a_reader_that_never_returns_bounds_memory_and_lets_the_snapshot_go_stale) {
  std::atomic<bool> inside{false};
  std::atomic<bool> release{false};
  snapshot_store* reading = nullptr;
  // The clock is called inside the reading section: it stands for a thread that is descheduled there.
  snapshot_store store([&] {
    if (reading != nullptr && std::this_thread::get_id() != std::thread::id{} && !release.load()) {
      inside = true;
      while (!release.load()) std::this_thread::yield();
    }
    return std::chrono::steady_clock::now();
  });
  BOOST_REQUIRE(store.publish(uniform_snapshot('a', std::chrono::steady_clock::now())));
  reading = &store;
  std::string out;
  std::thread reader([&] { store.append_answer(probe::health, false, false, out); });
  while (!inside.load()) std::this_thread::yield();
  std::size_t published = 0;
  while (published < 1000 && store.publish(uniform_snapshot('b', std::chrono::steady_clock::now())))
    ++published;
  BOOST_TEST(published == snapshot_store::max_retired);
  release = true;
  reader.join();
  BOOST_TEST(out == std::string(3100, 'a'));  // what it held was not freed under it
  BOOST_TEST(store.publish(uniform_snapshot('c', std::chrono::steady_clock::now())));
  BOOST_TEST(store.publish(uniform_snapshot('d', std::chrono::steady_clock::now())));
  BOOST_TEST(store.retired_count() <= 1U);
}

BOOST_AUTO_TEST_CASE(readers_see_whole_snapshots_while_a_writer_publishes) {
  // No snapshot gets old here, however long the writer waits for a core.
  snapshot_store store([start = std::chrono::steady_clock::now()] { return start; });
  BOOST_REQUIRE(store.publish(uniform_snapshot('a', std::chrono::steady_clock::now())));
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> torn{0};
  std::atomic<std::uint64_t> reads{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 8; ++i)
    readers.emplace_back([&, i] {
      std::string out;
      while (!stop.load(std::memory_order_relaxed)) {
        out.clear();
        store.append_answer(static_cast<probe>(i % probe_count), i % 2 == 0, i % 3 == 0, out);
        if (!is_uniform(out)) ++torn;
        ++reads;
      }
    });
  for (int i = 0; i < 3000; ++i) {
    store.publish(uniform_snapshot(static_cast<char>('a' + i % 26), std::chrono::steady_clock::now()));
    if (i % 16 == 0) std::this_thread::yield();
  }
  stop = true;
  for (auto& r : readers) r.join();
  BOOST_TEST(torn == 0U);
  BOOST_TEST(reads > 0U);
}

BOOST_AUTO_TEST_CASE(a_reader_completes_wherever_the_writer_is_stopped) {
  snapshot_store store;
  BOOST_REQUIRE(store.publish(uniform_snapshot('a', std::chrono::steady_clock::now())));
  struct sigaction action {};
  action.sa_handler = hold;
  struct sigaction before {};
  sigaction(SIGUSR1, &action, &before);

  constexpr int rounds = 100;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> published{0};
  std::thread writer([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      store.publish(uniform_snapshot('b', std::chrono::steady_clock::now()));
      ++published;
    }
  });
  std::string out;
  out.reserve(64 * 1024);  // the reader must not need malloc's lock either
  int completed = 0;
  for (int i = 0; i < rounds; ++i) {
    const auto seen = published.load();
    while (published.load() < seen + 1) std::this_thread::yield();
    hold_writer = true;
    pthread_kill(writer.native_handle(), SIGUSR1);
    while (writer_held.load() == 0) std::this_thread::yield();
    for (int k = 0; k < 4; ++k) {
      out.clear();
      store.append_answer(probe::health, false, true, out);
      completed += is_uniform(out) ? 1 : 0;
    }
    hold_writer = false;
    while (writer_held.load() != 0) std::this_thread::yield();
  }
  stop = true;
  writer.join();
  sigaction(SIGUSR1, &before, nullptr);
  BOOST_TEST(completed == 4 * rounds);
}

BOOST_AUTO_TEST_SUITE_END()
