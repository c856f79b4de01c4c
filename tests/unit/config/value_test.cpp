#include "config/value.hpp"

#include <boost/test/unit_test.hpp>

#include <array>

using namespace bitnet::config;
using std::chrono::milliseconds;

BOOST_AUTO_TEST_SUITE(config_value)

BOOST_AUTO_TEST_CASE(booleans_are_spelled_out) {
  BOOST_TEST(parse_bool("true").value());
  BOOST_TEST(!parse_bool("false").value());
  for (const auto* text : {"", "1", "True", "yes", "true "}) BOOST_TEST(!parse_bool(text).has_value(), text);
}

BOOST_AUTO_TEST_CASE(numbers_must_be_whole_and_in_range) {
  BOOST_TEST(parse_unsigned("0", 0, 10).value() == 0U);
  BOOST_TEST(parse_unsigned("10", 0, 10).value() == 10U);
  for (const auto* text : {"", "-1", "11", "1.0", "0x1", " 1", "1 ", "99999999999999999999999"})
    BOOST_TEST(!parse_unsigned(text, 0, 10).has_value(), text);
}

BOOST_AUTO_TEST_CASE(real_numbers_may_have_a_fraction) {
  BOOST_TEST(parse_real("0.5", 0.01, 100).value() == 0.5);
  BOOST_TEST(parse_real("100", 0.01, 100).value() == 100.0);
  for (const auto* text : {"", "-1", "0", "100.1", "nan", "inf", "1e1", "0x1", " 1", "1 "})
    BOOST_TEST(!parse_real(text, 0.01, 100).has_value(), text);
}

BOOST_AUTO_TEST_CASE(durations_carry_a_unit) {
  const auto parse = [](std::string_view text) {
    return parse_duration(text, milliseconds{0}, std::chrono::hours{1});
  };
  BOOST_TEST(parse("250ms").value().count() == 250);
  BOOST_TEST(parse("5s").value().count() == 5'000);
  BOOST_TEST(parse("2min").value().count() == 120'000);
  BOOST_TEST(parse("1h").value().count() == 3'600'000);
  for (const auto* text : {"", "5", "s", "-1s", "1.5s", "2h", "5 s", "999999999999999999h", "5m"})
    BOOST_TEST(!parse(text).has_value(), text);
}

BOOST_AUTO_TEST_CASE(formatted_durations_read_back) {
  for (const int ms : {0, 1, 999, 1'000, 1'500, 60'000, 90'000, 3'600'000, 3'600'001}) {
    const auto text = format_duration(milliseconds{ms});
    BOOST_TEST_CONTEXT(text) {
      BOOST_TEST(parse_duration(text, milliseconds{0}, std::chrono::hours{24}).value().count() == ms);
    }
  }
}

BOOST_AUTO_TEST_CASE(choices_are_named_in_the_error) {
  constexpr std::array<std::string_view, 3> choices{"a", "b", "c"};
  BOOST_TEST(parse_choice("b", choices).value() == "b");
  BOOST_TEST(parse_choice("d", choices).error() == "must be a, b or c, not 'd'");
}

BOOST_AUTO_TEST_SUITE_END()
