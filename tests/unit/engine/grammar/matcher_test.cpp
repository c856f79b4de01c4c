#include "engine/grammar/matcher.hpp"

#include "tests/unit/engine/grammar/support.hpp"

#include <set>

using namespace bitnet;
using namespace bitnet::tests;
using engine::token_id;

namespace {

std::set<token_id> ids_of(const engine::grammar::token_mask& mask) {
  std::set<token_id> ids;
  for (token_id id = 0; id < mask.size() * 64; ++id)
    if ((mask[id / 64] >> (id % 64) & 1U) != 0) ids.insert(id);
  return ids;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(grammar_matcher)

BOOST_AUTO_TEST_CASE(mask_has_exactly_the_tokens_that_can_follow) {
  const byte_tokenizer tokens;
  constexpr std::string_view schema = R"({"type":"object","properties":{"abc":{"anyOf":[{"type":"boolean"},
    {"type":"string"},{"type":"array","items":{"type":"array","items":{"type":"object"}}}]}},"required":["abc"]})";
  engine::grammar::schema_cache cache(&tokens);
  auto states = states_of(schema);
  std::mt19937 random(5);
  for (int walk = 0; walk < 20; ++walk) {
    auto matcher = cache.match(schema).value();
    std::string text;
    for (int step = 0; step < 60 && !matcher.must_end(); ++step) {
      const auto allowed = ids_of(*matcher.allowed_tokens().value());
      std::set<token_id> expected;
      for (token_id id = 0; id < tokens.size(); ++id) {
        const auto bytes = tokens.token_bytes(id, false);
        if (!bytes.empty() && state_after(states, text + bytes) != engine::grammar::states::dead)
          expected.insert(id);
      }
      BOOST_REQUIRE(allowed == expected);
      const auto chosen = *std::next(allowed.begin(), static_cast<std::ptrdiff_t>(random() % allowed.size()));
      text += tokens.token_bytes(chosen, false);
      BOOST_REQUIRE(matcher.advance(tokens.token_bytes(chosen, false)));
      BOOST_TEST(matcher.may_end() == accepts(states, text));
    }
  }
}

BOOST_AUTO_TEST_CASE(random_tokens_complete_valid_json) {
  const byte_tokenizer tokens;
  engine::grammar::schema_cache cache(&tokens);
  std::mt19937 random(11);
  int finished = 0;
  for (int walk = 0; walk < 40; ++walk) {
    auto matcher = cache
                       .match(R"({"type":"object","properties":{"a":{"type":"string","maxLength":6},
      "b":{"type":"array","items":{"type":"number"},"maxItems":4}},"required":["a","b"]})")
                       .value();
    std::string text;
    while (!matcher.must_end() && text.size() < 3000) {
      const auto allowed = ids_of(*matcher.allowed_tokens().value());
      const auto chosen = *std::next(allowed.begin(), static_cast<std::ptrdiff_t>(random() % allowed.size()));
      text += tokens.token_bytes(chosen, false);
      BOOST_REQUIRE(matcher.advance(tokens.token_bytes(chosen, false)));
    }
    if (!matcher.must_end()) continue;
    ++finished;
    boost::json::error_code failure;
    const auto value = boost::json::parse(text, failure);
    BOOST_REQUIRE_MESSAGE(!failure, text);
    BOOST_TEST(value.at("a").is_string());
    BOOST_TEST(value.at("b").as_array().size() <= 4U);
  }
  BOOST_TEST(finished == 40);
}

BOOST_AUTO_TEST_CASE(forgetting_states_changes_no_answer) {
  const byte_tokenizer tokens;
  const auto tree = std::make_shared<engine::grammar::token_tree>(tokens);
  constexpr std::string_view schema = R"({"type":"array","items":{"type":"string"}})";
  const auto shared = std::make_shared<engine::grammar::compiled_schema>(
      engine::grammar::compiled_schema{states_of(schema), tree});
  engine::grammar::matcher forgetful(shared);
  auto steady_cache = engine::grammar::schema_cache(&tokens);
  auto steady = steady_cache.match(schema).value();
  for (const std::string_view piece : {"[", "\"abc", "\"", ",", "\"\xE2", "\x82\xAC\"", "]"}) {
    BOOST_REQUIRE(forgetful.advance(piece));
    BOOST_REQUIRE(steady.advance(piece));
    BOOST_TEST(!shared->known.forget());
    if (steady.must_end()) break;
    BOOST_TEST(ids_of(*forgetful.allowed_tokens().value()) == ids_of(*steady.allowed_tokens().value()));
  }
  BOOST_TEST(forgetful.must_end());
  BOOST_TEST(!forgetful.advance("]"));
}

BOOST_AUTO_TEST_CASE(a_new_state_with_every_byte_is_no_memory_hog) {
  // Where an "a" was among the last 40 letters decides: 2^40 sets of places.
  const byte_tokenizer tokens;
  engine::grammar::schema_cache cache(&tokens);
  auto matcher = cache.match(R"({"type":"string","pattern":"^(a|b)*a(a|b){40}c$"})").value();
  BOOST_REQUIRE(matcher.advance("\""));
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) BOOST_REQUIRE(matcher.advance(random() % 2 == 0 ? "a" : "b"));
  BOOST_TEST(matcher.allowed_tokens().has_value());
}

BOOST_AUTO_TEST_CASE(alternatives_that_nest_alike_are_told_apart_in_the_end_or_refused) {
  // Every level doubles the stacks; beyond a limit that is an error, not a crash.
  const byte_tokenizer tokens;
  engine::grammar::schema_cache cache(&tokens);
  auto matcher = cache
                     .match(R"({"anyOf":[{"type":"array","items":{"$ref":"#"},"maxItems":1},
      {"type":"array","items":{"$ref":"#"},"maxItems":2},{"type":"null"}]})")
                     .value();
  int depth = 0;
  while (depth < 1000 && matcher.advance("[")) ++depth;
  BOOST_TEST(depth > 5);
  BOOST_TEST(depth < 1000);
  auto fresh = cache
                   .match(R"({"anyOf":[{"type":"array","items":{"$ref":"#"},"maxItems":1},
      {"type":"array","items":{"$ref":"#"},"maxItems":2},{"type":"null"}]})")
                   .value();
  BOOST_TEST(fresh.advance("[[null]]"));
  BOOST_TEST(fresh.must_end());
}

BOOST_AUTO_TEST_CASE(schemas_are_compiled_once_and_the_least_used_forgotten) {
  const byte_tokenizer tokens;
  engine::grammar::schema_cache cache(&tokens);
  for (int i = 0; i < 200; ++i) {
    auto matcher = cache.match("{\"const\":" + std::to_string(i) + "}").value();
    BOOST_TEST(matcher.advance(std::to_string(i)));
    BOOST_TEST(matcher.must_end());
  }
  BOOST_TEST(!cache.match("{").has_value());
  BOOST_TEST(!engine::grammar::schema_cache(nullptr).match("{}").has_value());
}

BOOST_AUTO_TEST_SUITE_END()
