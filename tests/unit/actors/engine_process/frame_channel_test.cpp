#include "actors/engine_process/frame_channel.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <thread>

using namespace bitnet::actors;

namespace {

struct pair_fixture {
  std::pair<descriptor, descriptor> ends = *frame_channel::make_pair();
  frame_channel channel{std::move(ends.first)};

  struct raw_header {
    std::uint16_t magic = frame_channel::magic;
    std::uint16_t version = frame_channel::version;
    std::uint16_t kind = static_cast<std::uint16_t>(frame_kind::cancel);
    std::uint16_t reserved = 0;
    std::uint32_t length = 0;
  };
  void send_raw(const raw_header& head) {
    BOOST_REQUIRE(::send(ends.second.get(), &head, sizeof head, 0) == sizeof head);
    channel.receive();
  }
  void refused(const raw_header& head, const char* why) {
    send_raw(head);
    BOOST_TEST(!channel.next());
    BOOST_TEST((channel.status() == frame_channel::state::malformed));
    BOOST_TEST(channel.problem().find(why) != std::string::npos, channel.problem());
    BOOST_TEST(!channel.send(frame_kind::cancel, {}));
  }
};

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 >> 3);
  return bytes;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(frame_channel_rules, pair_fixture)

BOOST_AUTO_TEST_CASE(frames_arrive_whole_and_in_order) {
  frame_channel other(std::move(ends.second));
  for (std::size_t size : {0, 1, 1000, 50000}) BOOST_TEST(other.send(frame_kind::submit, pattern(size)));
  channel.receive();
  for (std::size_t size : {0, 1, 1000, 50000}) {
    const auto f = channel.next();
    BOOST_REQUIRE(f);
    BOOST_TEST((f->kind == frame_kind::submit));
    BOOST_TEST((f->payload == pattern(size)));
  }
  BOOST_TEST(!channel.next());
}

BOOST_AUTO_TEST_CASE(bytes_that_are_no_frame_are_refused) {
  refused({.magic = 0x4747}, "no frame");
}
BOOST_AUTO_TEST_CASE(another_version_is_refused_with_advice) {
  refused({.version = frame_channel::version + 1}, "from the same build");
}
BOOST_AUTO_TEST_CASE(unknown_kinds_are_refused) {
  refused({.kind = last_frame_kind + 1}, "unknown kind");
}
BOOST_AUTO_TEST_CASE(kind_zero_is_refused) {
  refused({.kind = 0}, "unknown kind");
}
BOOST_AUTO_TEST_CASE(a_frame_that_announces_too_much_is_refused) {
  refused({.length = 0xFFFFFFFF}, "at most");
}

BOOST_AUTO_TEST_CASE(a_frame_cut_by_the_end_of_the_other_side_is_no_frame) {
  send_raw({.length = 100});
  BOOST_TEST(::send(ends.second.get(), "xyz", 3, 0) == 3);
  ends.second.reset();
  channel.receive();
  BOOST_TEST(!channel.next());
  channel.receive();
  BOOST_TEST((channel.status() == frame_channel::state::closed));
}

BOOST_AUTO_TEST_CASE(what_was_sent_before_the_end_is_still_read) {
  {
    frame_channel other(std::move(ends.second));
    other.send(frame_kind::cancel, pattern(3));
  }
  channel.receive();
  channel.receive();
  BOOST_TEST((channel.status() == frame_channel::state::closed));
  BOOST_TEST(channel.next().has_value());
}

BOOST_AUTO_TEST_CASE(descriptors_come_along_closed_on_exec) {
  frame_channel other(std::move(ends.second));
  const auto more = frame_channel::make_pair();
  const std::array<int, 2> handed{more->first.get(), more->second.get()};
  BOOST_TEST(other.send(frame_kind::spawn, pattern(10), handed));
  channel.receive();
  BOOST_TEST(channel.next().has_value());
  const auto first = channel.next_descriptor();
  const auto second = channel.next_descriptor();
  BOOST_REQUIRE((first && second));
  BOOST_TEST(!channel.next_descriptor());
  BOOST_TEST((fcntl(first.get(), F_GETFD) & FD_CLOEXEC) != 0);
  // Another descriptor of the same socket: what goes into one end comes out of the other.
  BOOST_TEST(::send(first.get(), "x", 1, 0) == 1);
  char c = 0;
  BOOST_TEST(::recv(more->second.get(), &c, 1, 0) == 1);
}

BOOST_AUTO_TEST_CASE(two_ends_that_send_more_than_the_sockets_hold_do_not_wait_for_each_other) {
  frame_channel other(std::move(ends.second));
  const auto large = pattern(std::size_t{4} << 20);
  // Both go on reading after their own frame is out, as the two ends of an engine do.
  const auto exchange = [&](frame_channel& at, frame_kind kind) {
    if (!at.send(kind, large)) return false;
    for (;;) {
      at.receive();
      if (auto f = at.next()) return f->payload == large;
      if (at.status() != frame_channel::state::open) return false;
      at.wait(std::chrono::milliseconds(100));
    }
  };
  bool there_arrived = false;
  std::thread there([&] { there_arrived = exchange(other, frame_kind::submit); });
  const bool here_arrived = exchange(channel, frame_kind::events);
  there.join();
  BOOST_TEST(here_arrived);
  BOOST_TEST(there_arrived);
}

BOOST_AUTO_TEST_CASE(a_send_that_nobody_reads_ends_when_the_sender_gives_up) {
  int asked = 0;
  BOOST_TEST(
      !channel.send(frame_kind::submit, pattern(std::size_t{4} << 20), {}, [&] { return ++asked < 2; }));
  BOOST_TEST(asked == 2);
  BOOST_TEST((channel.status() == frame_channel::state::closed));  // half a frame is out: of no use any more
}

BOOST_AUTO_TEST_SUITE_END()
