#include "engine/head_screening.hpp"
#include "tests/unit/engine/generation_fixture.hpp"
#include "tests/unit/engine/grammar/support.hpp"

#include <boost/json/parse.hpp>

// Completions that a JSON schema constrains, on a random model: whatever it prefers, the text is valid.

using namespace bitnet;
using namespace bitnet::tests;

namespace {

constexpr const char* schema = R"({"type":"object","properties":{"name":{"type":"string","maxLength":5},
  "on":{"type":"boolean"},"level":{"type":"integer","minimum":1,"maximum":12}},
  "required":["name","on","level"],"additionalProperties":false})";

std::shared_ptr<const engine::model> byte_model() {
  static const auto model = [] {
    auto tokens = std::make_unique<byte_tokenizer>();
    auto config = small_config();
    config.vocabulary_size = static_cast<std::uint32_t>(tokens->size());
    auto made = random_model(config);
    made->tokens = std::move(tokens);
    return std::shared_ptr<const engine::model>(std::move(made));
  }();
  return model;
}

engine::generation_request constrained(engine::request_id id, float temperature = 1.5F) {
  auto request = request_of(id, 7, 90, temperature);
  for (auto& token : request.prompt) token %= 256;
  request.json_schema = schema;
  request.stop_tokens = byte_model()->tokens->stop_tokens();
  return request;
}

std::string text_of(const outcome& o) {
  return byte_model()->tokens->decode(o.ids());
}

void check_value(const std::string& text) {
  boost::json::error_code failure;
  const auto value = boost::json::parse(text, failure);
  BOOST_REQUIRE_MESSAGE(!failure, failure.message() << ": " << text);
  BOOST_TEST(value.as_object().size() == 3U);
  const auto level = value.at("level").as_int64();
  BOOST_TEST((level >= 1 && level <= 12));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(generation_schema)

BOOST_AUTO_TEST_CASE(a_screened_head_leaves_constrained_completions_as_they_are) {
  auto config = small_config();
  config.vocabulary_size = static_cast<std::uint32_t>(byte_model()->tokens->size());
  auto model = random_model(config);
  model->tokens = std::make_unique<byte_tokenizer>();
  model->weights->screen = engine::make_head_screen(model->weights->head, 1);
  model->weights->screen_candidates = 1;
  auto screened = make_loop({}, std::move(model));
  auto full = make_loop({}, byte_model());
  for (auto* loop : {screened.get(), full.get()}) BOOST_REQUIRE(loop->submit(constrained(1, 0.0F)));
  const auto expected = run_until_idle(*full).at(1);
  BOOST_TEST(run_until_idle(*screened).at(1).ids() == expected.ids(), boost::test_tools::per_element());
  check_value(text_of(expected));
}

BOOST_AUTO_TEST_CASE(completions_end_by_themselves_with_a_valid_value) {
  auto loop = make_loop({.max_sequences = 8}, byte_model());
  for (engine::request_id id = 1; id <= 24; ++id)
    BOOST_REQUIRE(loop->submit(constrained(id, id % 3 == 0 ? 0.0F : 1.5F)).has_value());
  for (const auto& [id, o] : run_until_idle(*loop)) {
    BOOST_TEST((o.finish == engine::finish_reason::stop), text_of(o));
    check_value(text_of(o));
    BOOST_TEST(o.usage.completion_tokens == o.tokens.size());
  }
}

BOOST_AUTO_TEST_CASE(a_token_limit_cuts_a_valid_beginning) {
  auto loop = make_loop({}, byte_model());
  auto states = states_of(schema);
  for (engine::request_id id = 1; id <= 10; ++id) {
    auto request = constrained(id);
    request.max_tokens = static_cast<std::uint32_t>(id);
    BOOST_REQUIRE(loop->submit(std::move(request)).has_value());
  }
  for (const auto& [id, o] : run_until_idle(*loop)) {
    BOOST_TEST((o.finish == engine::finish_reason::length));
    BOOST_TEST(state_after(states, text_of(o)) != engine::grammar::states::dead, text_of(o));
  }
}

BOOST_AUTO_TEST_CASE(neither_batch_nor_resumption_changes_the_tokens) {
  auto alone = make_loop({.max_sequences = 1}, byte_model());
  BOOST_REQUIRE(alone->submit(constrained(5)).has_value());
  const auto expected = run_until_idle(*alone).at(5).ids();

  auto together = make_loop({.max_sequences = 8, .prefill_chunk = 3}, byte_model());
  for (engine::request_id id = 1; id <= 8; ++id) {
    auto request = constrained(id);
    if (id % 2 == 0) request.json_schema.clear();
    BOOST_REQUIRE(together->submit(std::move(request)).has_value());
  }
  BOOST_TEST(run_until_idle(*together).at(5).ids() == expected, boost::test_tools::per_element());

  for (const std::size_t cut : {std::size_t{1}, expected.size() / 2, expected.size() - 1}) {
    auto request = constrained(5);
    request.emitted.assign(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(cut));
    auto resumed = make_loop({}, byte_model());
    BOOST_REQUIRE(resumed->submit(std::move(request)).has_value());
    const auto rest = run_until_idle(*resumed).at(5).ids();
    BOOST_TEST(rest == std::vector(expected.begin() + static_cast<std::ptrdiff_t>(cut), expected.end()),
               boost::test_tools::per_element());
  }
  auto request = constrained(5);
  request.emitted = expected;
  auto done = make_loop({}, byte_model());
  BOOST_REQUIRE(done->submit(std::move(request)).has_value());
  BOOST_TEST((run_until_idle(*done).at(5).finish == engine::finish_reason::stop));
}

BOOST_AUTO_TEST_CASE(a_schema_that_allows_everything_still_leaves_the_end_to_the_model) {
  auto loop = make_loop({}, byte_model());
  auto request = constrained(1);
  request.json_schema = R"({"type":"integer"})";
  request.sampling.logit_bias = {{request.stop_tokens.front(), 100.0F}};
  BOOST_REQUIRE(loop->submit(request).has_value());
  const auto o = run_until_idle(*loop).at(1);
  BOOST_TEST((o.finish == engine::finish_reason::stop));
  BOOST_TEST(!text_of(o).empty());  // an empty text is no integer, however much the model wants to end
}

BOOST_AUTO_TEST_CASE(wrong_schemas_and_wrong_beginnings_are_refused) {
  auto loop = make_loop({}, byte_model());
  auto request = constrained(1);
  request.json_schema = R"({"not":{}})";
  BOOST_TEST(loop->submit(request).error().message.find("'not'") != std::string::npos);
  request.json_schema = schema;
  request.emitted = {'['};
  BOOST_TEST((loop->submit(request).error().code == engine::error_code::invalid_request));
  auto without_tokenizer = make_loop();
  request.emitted.clear();
  request.stop_tokens.clear();
  BOOST_TEST((without_tokenizer->submit(request).error().code == engine::error_code::invalid_request));
}

BOOST_AUTO_TEST_SUITE_END()
