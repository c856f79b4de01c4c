#include "actors/console/frames.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

using namespace bitnet::console;

BOOST_AUTO_TEST_SUITE(console_frames)

BOOST_AUTO_TEST_CASE(what_is_encoded_is_read_back_however_it_is_cut) {
  const auto bytes = encode_frame("{\"a\":1}") + encode_frame("") + encode_frame(std::string(1000, 'x'));
  for (std::size_t step = 1; step < 50; ++step) {
    frame_reader reader(1000);
    std::vector<std::string> got;
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      reader.feed(std::string_view(bytes).substr(at, step));
      while (auto payload = reader.next()) got.push_back(*payload);
    }
    BOOST_REQUIRE_EQUAL(got.size(), 3U);
    BOOST_TEST(got[0] == "{\"a\":1}");
    BOOST_TEST(got[1].empty());
    BOOST_TEST(got[2] == std::string(1000, 'x'));
    BOOST_TEST(!reader.mid_frame());
  }
}

BOOST_AUTO_TEST_CASE(a_frame_above_the_limit_is_known_from_its_first_four_bytes) {
  frame_reader reader(1000);
  reader.feed(encode_frame(std::string(1001, 'x')).substr(0, 4));
  BOOST_TEST(reader.oversized());
  BOOST_TEST(!reader.ready());
  BOOST_TEST(!reader.next().has_value());
}

BOOST_AUTO_TEST_CASE(an_http_request_is_an_oversized_frame) {
  frame_reader reader(max_request_bytes);
  reader.feed("GET / HTTP/1.1\r\n");
  BOOST_TEST(reader.oversized());
}

BOOST_AUTO_TEST_CASE(an_incomplete_frame_is_no_frame) {
  frame_reader reader(1000);
  BOOST_TEST(!reader.mid_frame());
  reader.feed(encode_frame("hello").substr(0, 8));
  BOOST_TEST(reader.mid_frame());
  BOOST_TEST(!reader.oversized());
  BOOST_TEST(!reader.next().has_value());
  reader.feed("o");
  BOOST_TEST(reader.next().value() == "hello");
}

BOOST_AUTO_TEST_SUITE_END()
