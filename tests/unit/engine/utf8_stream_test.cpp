#include "engine/tokenizer.hpp"
#include "engine/utf8.hpp"

#include <boost/test/unit_test.hpp>

#include <random>
#include <string>

using bitnet::engine::next_utf8_sequence;
using bitnet::engine::utf8_status;
using bitnet::engine::utf8_stream;

namespace {

std::string decode_whole(std::string_view bytes) {
  utf8_stream stream;
  std::string text = stream.push(bytes);
  return text + stream.finish();
}

std::string decode_bytewise(std::string_view bytes) {
  utf8_stream stream;
  std::string text;
  for (const char c : bytes) text += stream.push(std::string_view(&c, 1));
  return text + stream.finish();
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const auto sequence = next_utf8_sequence(text);
    if (sequence.status != utf8_status::valid) return false;
    text.remove_prefix(sequence.length);
  }
  return true;
}

const std::string fffd = "\xEF\xBF\xBD";

}  // namespace

BOOST_AUTO_TEST_SUITE(utf8)

BOOST_AUTO_TEST_CASE(stream_passes_characters_of_all_lengths) {
  const std::string text = "a\xC2\xA2\xE2\x82\xAC\xF0\x90\x8D\x88z";
  BOOST_TEST(decode_whole(text) == text);
  BOOST_TEST(decode_bytewise(text) == text);
}

BOOST_AUTO_TEST_CASE(stream_holds_back_only_the_unfinished_character) {
  utf8_stream stream;
  BOOST_TEST(stream.push("ab\xE2\x82") == "ab");
  BOOST_TEST(stream.push("\xAC"
                         "c") ==
             "\xE2\x82\xAC"
             "c");
  BOOST_TEST(stream.push("\xF0\x9F") == "");
  BOOST_TEST(stream.push("\x98") == "");
  BOOST_TEST(stream.push("\x80") == "\xF0\x9F\x98\x80");
  BOOST_TEST(stream.finish() == "");
}

BOOST_AUTO_TEST_CASE(stream_finishes_a_cut_character_with_one_replacement) {
  BOOST_TEST(decode_whole("a\xF0\x9F\x98") == "a" + fffd);
  BOOST_TEST(decode_bytewise("a\xF0\x9F\x98") == "a" + fffd);
  utf8_stream stream;
  stream.push("\xE2");
  BOOST_TEST(stream.finish() == fffd);
  BOOST_TEST(stream.finish() == "");
  BOOST_TEST(stream.push("a") == "a");
}

// Unicode 15, tables 3-8 to 3-11.
BOOST_AUTO_TEST_CASE(stream_replaces_each_maximal_subpart_once) {
  BOOST_TEST(decode_whole("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") ==
             fffd + fffd + fffd + fffd + fffd + fffd + fffd + fffd + "A");
  BOOST_TEST(decode_whole("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") ==
             fffd + fffd + fffd + fffd + fffd + fffd + fffd + fffd + "A");
  BOOST_TEST(decode_whole("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") ==
             fffd + fffd + fffd + fffd + fffd + "A" + fffd + fffd + "B");
  BOOST_TEST(decode_whole("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == fffd + fffd + fffd + fffd + "A");
}

BOOST_AUTO_TEST_CASE(stream_output_does_not_depend_on_how_bytes_are_cut) {
  std::mt19937 random(1);
  // Lead bytes, tails and ASCII in equal parts make near-valid sequences likely.
  const std::string alphabet = "aZ\x80\x8F\x90\x9F\xA0\xBF\xC2\xDF\xE0\xE1\xED\xEF\xF0\xF1\xF4\xF5\xFF";
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(random() % 24, '\0');
    for (char& c : bytes) c = alphabet[random() % alphabet.size()];
    const std::string whole = decode_whole(bytes);
    BOOST_REQUIRE(is_valid_utf8(whole));
    BOOST_REQUIRE_EQUAL(decode_bytewise(bytes), whole);
    if (is_valid_utf8(bytes)) BOOST_REQUIRE_EQUAL(whole, bytes);
  }
}

BOOST_AUTO_TEST_SUITE_END()
