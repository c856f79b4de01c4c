#include "engine/grammar/pattern.hpp"

#include "tests/unit/engine/grammar/support.hpp"

#include <boost/json/serialize.hpp>

using namespace bitnet::tests;
namespace json = boost::json;

namespace {

std::string schema_of(std::string_view pattern) {
  return json::serialize(
      json::object{{"type", "string"}, {"pattern", json::string(pattern.data(), pattern.size())}});
}

void check(std::string_view pattern, const std::vector<std::string_view>& good,
           const std::vector<std::string_view>& bad) {
  auto states = states_of(schema_of(pattern));
  const auto quoted = [](std::string_view text) {
    return json::serialize(json::string(text.data(), text.size()));
  };
  for (const auto text : good) BOOST_TEST(accepts(states, quoted(text)), pattern << " allows " << text);
  for (const auto text : bad)
    BOOST_TEST(!accepts(states, quoted(text)), pattern << " does not allow " << text);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(grammar_pattern)

BOOST_AUTO_TEST_CASE(anchors_decide_where_a_pattern_may_match) {
  check("^ab$", {"ab"}, {"", "xab", "abx"});
  check("^ab", {"ab", "abx"}, {"xab"});
  check("ab$", {"ab", "xxab", "abab"}, {"abx"});
  check("ab", {"ab", "xaby"}, {"", "a b"});
  check("^a|b$", {"a", "ax", "xb"}, {"xa", "bx"});
  check("", {"", "anything"}, {});
}

BOOST_AUTO_TEST_CASE(quantifiers_repeat) {
  check("^a*b+c?$", {"b", "aabbc", "bc"}, {"", "ac", "bcc"});
  check("^a{2}$", {"aa"}, {"a", "aaa"});
  check("^a{2,}$", {"aa", "aaaaa"}, {"a"});
  check("^a{1,3}?$", {"a", "aaa"}, {"", "aaaa"});
  check("^(ab|c){2}$", {"abab", "cc", "abc"}, {"ab", "ccc"});
  check("^(?:a(b(c)?)*)+$", {"a", "abbc", "aabc"}, {"b", ""});
}

BOOST_AUTO_TEST_CASE(classes_are_sets_of_characters) {
  check("^[a-c_]+$", {"abc_"}, {"d", "-"});
  check("^[^a-y]$", {"z", "\xC3\xA9", "\xF0\x9F\x98\x80"}, {"a", "m", "zz"});
  check("^[-a]$", {"-", "a"}, {"b"});
  check("^[a-]$", {"-", "a"}, {"b"});
  check("^[\\d.]+$", {"1.5"}, {"a"});
  check("^\\w\\W\\s\\S\\D\\d$", {"a- xx1"}, {"a- xx"});
  check("^.$", {"x", "\xE2\x82\xAC", "\""}, {"\n", ""});
  check("^[\xC3\xA0-\xC3\xBF]$", {"\xC3\xA9"}, {"\xC3\x80", "e"});
  check("^[\\u4e00-\\u9fff]{2}$", {"\xE4\xBD\xA0\xE5\xA5\xBD"}, {"ab"});
}

BOOST_AUTO_TEST_CASE(what_json_must_escape_is_escaped) {
  check("^\"\\\\\\n\\t$", {"\"\\\n\t"}, {"\"\\n"});
  check("^[\\x00-\\x22]$", {"\x01", "\n", "\""}, {"#"});
}

BOOST_AUTO_TEST_CASE(every_character_is_spelled_in_valid_utf8) {
  auto states = states_of(schema_of("^[^a]{4}$"));
  std::mt19937 random(3);
  for (int i = 0; i < 200; ++i) {
    const auto text = random_text(states, random);
    BOOST_REQUIRE(text.has_value());
    json::error_code failure;
    json::parse(*text, failure);
    BOOST_TEST(!failure, *text);
  }
}

BOOST_AUTO_TEST_CASE(what_is_not_supported_is_refused) {
  for (const std::string_view pattern :
       {"(?=a)", "(?<n>a)", "(a)\\1", "\\bword", "\\p{L}", "a**", "(a", "a)", "[a", "a{3,2}", "a{99999}",
        "\\", "x^", "$x", "(^a)", "\\u12", "\\ud800", "[b-a]"})
    BOOST_TEST(refusal(schema_of(pattern)).find("the pattern") != std::string::npos, pattern);
}

BOOST_AUTO_TEST_SUITE_END()
