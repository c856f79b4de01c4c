#include "engine/grammar/json_schema.hpp"

#include "tests/unit/engine/grammar/support.hpp"

#include <boost/json/serialize.hpp>

#include <cmath>
#include <functional>

using namespace bitnet::tests;
namespace json = boost::json;

namespace {

constexpr std::string_view person = R"({"type":"object",
  "properties":{"name":{"type":"string","maxLength":3},"age":{"type":"integer"},"tags":{"type":"array",
  "items":{"enum":["a","b"]},"maxItems":2}},"required":["name","tags"],"additionalProperties":false})";

void check_texts(std::string_view schema, const std::vector<std::string_view>& good,
                 const std::vector<std::string_view>& bad) {
  auto states = states_of(schema);
  for (const auto text : good) BOOST_TEST(accepts(states, text), schema << " allows " << text);
  for (const auto text : bad) BOOST_TEST(!accepts(states, text), schema << " does not allow " << text);
}

/// Random texts of the schema are JSON and fulfil `holds`; enough of them come to an end.
void check_walks(std::string_view schema, const std::function<bool(const json::value&)>& holds,
                 int walks = 60) {
  auto states = states_of(schema);
  std::mt19937 random(7);
  int finished = 0;
  for (int i = 0; i < walks; ++i) {
    const auto text = random_text(states, random);
    if (!text) continue;
    ++finished;
    json::error_code failure;
    const auto value = json::parse(*text, failure);
    BOOST_REQUIRE_MESSAGE(!failure, failure.message() << ": " << *text);
    BOOST_TEST(holds(value), schema << " does not allow " << *text);
  }
  BOOST_TEST(finished > walks / 3);
}

std::size_t character_count(const json::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(grammar_json_schema)

BOOST_AUTO_TEST_CASE(scalars_are_written_as_json_writes_them) {
  check_texts(R"({"type":"boolean"})", {"true", "false"}, {"", "tru", "True", "null", "truee"});
  check_texts(R"({"type":"null"})", {"null"}, {"nul", "none"});
  check_texts(R"({"type":"integer"})", {"0", "-0", "7", "-12", "900719925474099"},
              {"", "-", "01", "1.0", "1e3"});
  check_texts(R"({"type":"number"})", {"0", "-1.5", "2e9", "0.25E-3"},
              {".5", "1.", "1e", "1e999", "+1", "NaN"});
  check_texts(R"({"type":"string"})", {R"("")", R"("a b")", R"("\n\"\\\/")", R"("\u00e9")", "\"\xC3\xA9\""},
              {"\"", "a", "\"\n\"", R"("\x")", R"("\u12")", "\"\xC3\"", "\"\xFF\"", "\"\xED\xA0\x80\""});
}

BOOST_AUTO_TEST_CASE(surrogates_come_in_pairs) {
  check_texts(R"({"type":"string"})",
              {R"("\ud83d\ude00")", R"("\uDBFF\uDFFF")", R"("\ud7ff")", R"("\ue000")"},
              {R"("\ud83d")", R"("\ud83dx")", R"("\ude00")", R"("\ud83d\ud83d")"});
}

BOOST_AUTO_TEST_CASE(lengths_count_characters) {
  check_texts(R"({"type":"string","minLength":1,"maxLength":2})",
              {R"("a")", "\"\xC3\xA9\xE2\x82\xAC\"", R"("\u0041\ud83d\ude00")"}, {R"("")", R"("abc")"});
  check_walks(R"({"type":"string","minLength":2,"maxLength":9})", [](const json::value& v) {
    const auto n = character_count(v.as_string());
    return n >= 2 && n <= 9;
  });
}

BOOST_AUTO_TEST_CASE(members_come_in_order_and_optional_ones_may_be_missing) {
  check_texts(
      person,
      {R"({"name":"x","age":3,"tags":[]})", R"({"name": "x", "tags": ["a","b"]})",
       "{\n  \"name\": \"\",\n  \"tags\": []\n}"},
      {R"({})", R"({"name":"x"})", R"({"tags":[],"name":"x"})", R"({"name":"x","age":3.5,"tags":[]})",
       R"({"name":"x","tags":["c"]})", R"({"name":"x","tags":["a","a","a"]})",
       R"({"name":"x","tags":[],"more":1})", R"({"name":"x",,"tags":[]})", R"({,"name":"x","tags":[]})"});
  check_texts(R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}}})",
              {"{}", R"({"a":null})", R"({"b":null})", R"({"a":null,"b":null})"},
              {R"({"c":null})", R"({"a":null,})"});
}

BOOST_AUTO_TEST_CASE(additional_members_are_none_of_the_named_ones) {
  constexpr std::string_view schema =
      R"({"type":"object","properties":{"ab":{"type":"integer"},"abc":{"type":"null"}},
    "additionalProperties":{"type":"boolean"}})";
  check_texts(schema,
              {R"({"ab":1,"x":true})", R"({"a":true,"abd":false,"abcd":true})", R"({"":true})", "{}",
               R"({"ab":1,"abc":null})"},
              {R"({"ab":true})", R"({"x":1})", R"({"abc":true})", R"({"\u0061b":true})"});
  check_walks(schema, [](const json::value& v) {
    return std::all_of(v.as_object().begin(), v.as_object().end(), [](const auto& m) {
      if (m.key() == "ab") return m.value().is_int64();
      return m.key() == "abc" ? m.value().is_null() : m.value().is_bool();
    });
  });
}

BOOST_AUTO_TEST_CASE(required_members_without_a_schema_are_anything) {
  check_texts(R"({"type":"object","required":["a"]})", {R"({"a":1})", R"({"a":[{}],"b":2})"},
              {"{}", R"({"b":1})"});
}

BOOST_AUTO_TEST_CASE(arrays_have_as_many_items_as_wanted) {
  check_texts(R"({"type":"array","items":{"type":"null"},"minItems":1,"maxItems":3})",
              {"[null]", "[null,null,null]", "[ null, null ]"}, {"[]", "[null,]", "[null,null,null,null]"});
  check_texts(R"({"type":"array","items":{"type":"null"},"minItems":2})",
              {"[null,null]", "[null,null,null,null]"}, {"[]", "[null]"});
  check_texts(R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"});
  check_texts(
      R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"null"}],"items":false,"minItems":2})",
      {"[1,null]"}, {"[1]", "[null,1]", "[1,null,1]"});
}

BOOST_AUTO_TEST_CASE(alternatives_may_begin_alike) {
  check_texts(R"({"anyOf":[{"const":"aab"},{"const":"aac"},{"type":"array","items":{"type":"integer"}},
                 {"type":"array","items":{"type":"boolean"}}]})",
              {R"("aab")", R"("aac")", "[]", "[1,2]", "[true]"}, {R"("aa")", "[1,true]"});
  check_texts(R"({"type":["string","null"]})", {R"("x")", "null"}, {"1"});
  check_texts(R"({"enum":["é",1,null,{"a":[1]}]})", {"\"\xC3\xA9\"", "1", "null", R"({"a":[1]})"},
              {"2", "{}"});
  check_texts(R"({"type":"string","enum":["a",1]})", {R"("a")"}, {"1"});
}

BOOST_AUTO_TEST_CASE(references_may_be_recursive) {
  constexpr std::string_view tree = R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object",
    "properties":{"v":{"type":"integer","minimum":0,"maximum":9},"next":{"anyOf":[{"$ref":"#/$defs/node"},
    {"type":"null"}]}},"required":["v","next"],"additionalProperties":false}}})";
  check_texts(tree, {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
              {R"({"v":1})", R"({"v":1,"next":{"v":2}})"});
  std::string deep;
  for (int i = 0; i < 3000; ++i) deep += R"({"v":1,"next":)";
  deep += "null" + std::string(3000, '}');
  auto states = states_of(tree);
  BOOST_TEST(accepts(states, deep));
  deep.pop_back();
  BOOST_TEST(!accepts(states, deep));
  check_walks(tree, [](const json::value& v) {
    const auto* at = &v;
    while (at->is_object()) at = &at->at("next");
    return at->is_null();
  });
}

BOOST_AUTO_TEST_CASE(numbers_stay_inside_their_limits) {
  const auto inside = [](double low, double high) {
    return
        [=](const json::value& v) { return v.to_number<double>() >= low && v.to_number<double>() <= high; };
  };
  for (const auto& [low, high] : std::vector<std::pair<int, int>>{
           {0, 0}, {1, 1}, {0, 9}, {3, 17}, {98, 1203}, {-5, 5}, {-1200, -99}, {-1, 0}, {100, 999}}) {
    const auto limits = ",\"minimum\":" + std::to_string(low) + ",\"maximum\":" + std::to_string(high) + "}";
    auto integers = states_of(R"({"type":"integer")" + limits);
    for (int i = low - 30; i <= high + 30; ++i)
      BOOST_TEST(accepts(integers, std::to_string(i)) == (i >= low && i <= high), i << limits);
    check_walks(R"({"type":"number")" + limits, inside(low, high));
  }
  check_texts(R"({"type":"number","exclusiveMinimum":0})", {"0.5", "1", "0.001", "12.75"},
              {"0", "0.0", "-1", "-0.5"});
  check_texts(R"({"type":"number","exclusiveMinimum":-2,"exclusiveMaximum":1})", {"0", "-1.99", "0.99", "-1"},
              {"-2", "-2.0", "1", "1.0"});
  check_texts(R"({"type":"integer","minimum":0.5,"maximum":2.5})", {"1", "2"}, {"0", "3"});
  check_texts(R"({"type":"integer","minimum":3})", {"3", "10", "999999999999999999"}, {"2", "-4"});
}

BOOST_AUTO_TEST_CASE(any_value_is_whole_json) {
  check_texts(R"({"type":"object"})", {"{}", R"({"a":[1,{"b":null},"x"],"c":{}})", R"({"\u0061": 1.5e3})"},
              {"[]", "1", "{a:1}", R"({"a"})"});
  check_walks(R"({})", [](const json::value&) { return true; }, 200);
  check_walks(R"({"type":"object"})", [](const json::value& v) { return v.is_object(); });
  check_walks(R"({"type":"array"})", [](const json::value& v) { return v.is_array(); });
  check_texts("true", {"1", "[]", "{}"}, {"", "["});
}

BOOST_AUTO_TEST_CASE(formats_that_can_be_checked_are) {
  check_texts(R"({"type":"string","format":"date"})", {R"("2024-02-28")", R"("1999-12-31")"},
              {R"("2023-02-30")", R"("2023-13-01")", R"("x")"});
  check_texts(R"({"type":"string","format":"date-time"})",
              {R"("2024-02-28T23:59:59Z")", R"("2024-01-01T00:00:00.5+02:00")"},
              {R"("2024-02-28")", R"("2024-02-28T24:00:00Z")"});
  check_texts(R"({"type":"string","format":"ipv4"})", {R"("192.168.0.255")"}, {R"("192.168.0.256")"});
  check_texts(R"({"type":"string","format":"uri"})", {R"("anything")"}, {});
}

BOOST_AUTO_TEST_CASE(what_is_not_supported_is_named_with_its_place) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases{
      {R"({"type":"object","properties":{"a":{"not":{}}}})", "at #/properties/a: the keyword 'not'"},
      {R"({"type":"array","items":{"type":"number","multipleOf":2}})",
       "at #/items: the keyword 'multipleOf'"},
      {R"({"type":"array","uniqueItems":true})", "'uniqueItems'"},
      {R"({"type":"object","patternProperties":{}})", "'patternProperties'"},
      {R"({"anyOf":[{"type":"null"}],"properties":{}})", "'properties'"},
      {R"({"allOf":[{},{}]})", "'allOf'"},
      {R"({"$ref":"http://x/y"})", "'$ref'"},
      {R"({"$ref":"#/$defs/x"})", "'$ref'"},
      {R"({"type":"text"})", "\"text\""},
      {R"({"type":"number","minimum":0.5})", "'minimum'"},
      {R"({"type":"string","maxLength":1000000})", "'maxLength'"},
      {R"({"type":"string","minLength":3,"maxLength":2})", "'minLength'"},
      {R"~({"type":"string","pattern":"(?=x)"})~", "the pattern"},
      {R"({"type":"integer","minLength":2})", "'minLength'"},
      {R"({"enum":[]})", "no value"},
      {R"([1])", "must be an object or a boolean"},
      {R"({"type":)", "is no JSON"}};
  for (const auto& [schema, why] : cases)
    BOOST_TEST(refusal(schema).find(why) != std::string::npos, schema << ": " << refusal(schema));
}

BOOST_AUTO_TEST_CASE(schemas_without_a_finite_value_are_refused) {
  BOOST_TEST(!refusal("false").empty());
  BOOST_TEST(!refusal(R"({"$ref":"#"})").empty());
  BOOST_TEST(!refusal(R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})").empty());
  BOOST_TEST(!refusal(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})").empty());
  BOOST_TEST(!refusal(R"({"type":"integer","minimum":5,"maximum":4})").empty());
  // A way that leads nowhere is not taken.
  check_walks(
      R"({"type":"array","items":{"anyOf":[{"type":"integer","minimum":2,"maximum":1},{"type":"null"}]}})",
      [](const json::value& v) { return v.is_array(); });
}

BOOST_AUTO_TEST_CASE(huge_schemas_are_refused_quickly) {
  BOOST_TEST(refusal(std::string(300 << 10, ' ')).find("bytes") != std::string::npos);
  std::string nested;
  for (int i = 0; i < 40; ++i) nested += R"({"type":"array","items":)";
  BOOST_TEST(refusal(nested + "{}" + std::string(40, '}')).empty());
  for (int i = 0; i < 40; ++i) nested += R"({"type":"array","items":)";
  BOOST_TEST(!refusal(nested + "{}" + std::string(80, '}')).empty());
  BOOST_TEST(refusal(R"({"type":"array","maxItems":16000,"items":{"type":"string","maxLength":16000}})")
                 .find("too large") != std::string::npos);
  BOOST_TEST(refusal(R"~({"type":"string","pattern":"((((a{900}){900}){900}){900})"})~").find("too large") !=
             std::string::npos);
  std::string chain = R"({"$ref":"#/$defs/d0","$defs":{)";
  for (int i = 0; i < 3000; ++i)
    chain += "\"d" + std::to_string(i) + "\":{\"$ref\":\"#/$defs/d" + std::to_string(i + 1) + "\"},";
  BOOST_TEST(refusal(chain + R"("d3000":{"type":"null"}}})").find("too deep") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
