#include "http/openai/api_error.hpp"
#include "http/openai/response.hpp"
#include "http/openai/valid_utf8.hpp"

#include <boost/json.hpp>
#include <boost/test/unit_test.hpp>

#include <limits>
#include <string>

using namespace bitnet::http::openai;
namespace json = boost::json;

namespace {

const response_identity identity{"cmpl-1", 1700000000, "demo"};

/// The value, with comparison by content and a readable failure.
void check_json(std::string_view text, std::string_view expected) {
  const json::value left = json::parse(json::string_view(text.data(), text.size()));
  const json::value right = json::parse(json::string_view(expected.data(), expected.size()));
  BOOST_CHECK_MESSAGE(left == right, json::serialize(left) << "\nis not\n" << json::serialize(right));
}

void check_event(std::string_view event, std::string_view expected) {
  BOOST_REQUIRE(event.starts_with("data: "));
  BOOST_REQUIRE(event.ends_with("\n\n"));
  const std::string_view payload = event.substr(6, event.size() - 8);
  BOOST_TEST(payload.find('\n') == std::string_view::npos);
  check_json(payload, expected);
}

token_record record_of(std::string bytes, float logprob, std::size_t offset) {
  token_record record;
  record.token = {std::move(bytes), logprob};
  record.text_offset = offset;
  return record;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(openai_response)

BOOST_AUTO_TEST_CASE(completion_has_the_shape_that_clients_read) {
  const auto text =
      render_completion(identity, {{0, "Hi\n", std::nullopt, finish_reason::length}}, {3, 2, 1});
  check_json(text, R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"demo",
      "choices":[{"index":0,"text":"Hi\n","logprobs":null,"finish_reason":"length"}],
      "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1}}})");
}

BOOST_AUTO_TEST_CASE(chat_has_the_shape_that_clients_read) {
  const auto text = render_chat(
      identity, {{0, "Hi", std::nullopt, finish_reason::stop}, {1, "", std::nullopt, finish_reason::length}},
      {3, 2, 0});
  check_json(text,
             R"({"id":"cmpl-1","object":"chat.completion","created":1700000000,"model":"demo","choices":[
      {"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,"finish_reason":"stop"},
      {"index":1,"message":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":"length"}],
      "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0}}})");
}

BOOST_AUTO_TEST_CASE(completion_stream_has_the_shape_that_clients_read) {
  const stream_identity plain{identity, false};
  check_event(completion_chunk(plain, {1, "Hi", std::nullopt}),
              R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"demo",
                  "choices":[{"index":1,"text":"Hi","logprobs":null,"finish_reason":null}]})");
  check_event(completion_finish_chunk(plain, 1, finish_reason::stop),
              R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"demo",
                  "choices":[{"index":1,"text":"","logprobs":null,"finish_reason":"stop"}]})");
  BOOST_TEST(stream_end == "data: [DONE]\n\n");
}

BOOST_AUTO_TEST_CASE(chat_stream_has_the_shape_that_clients_read) {
  const stream_identity plain{identity, false};
  check_event(chat_role_chunk(plain, 0),
              R"({"id":"cmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"demo",
                  "choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})");
  check_event(chat_chunk(plain, {0, "Hi", std::nullopt}),
              R"({"id":"cmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"demo",
                  "choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}]})");
  check_event(chat_finish_chunk(plain, 0, finish_reason::length),
              R"({"id":"cmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"demo",
                  "choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]})");
}

BOOST_AUTO_TEST_CASE(usage_comes_last_and_is_null_before) {
  const stream_identity with_usage{identity, true};
  for (const auto& event : {chat_role_chunk(with_usage, 0), chat_chunk(with_usage, {0, "a", std::nullopt}),
                            chat_finish_chunk(with_usage, 0, finish_reason::stop),
                            completion_chunk(with_usage, {0, "a", std::nullopt}),
                            completion_finish_chunk(with_usage, 0, finish_reason::stop)}) {
    const json::value chunk = json::parse(event.substr(6));
    BOOST_TEST(chunk.at("usage").is_null());
  }
  check_event(
      chat_usage_chunk(with_usage, {3, 2, 1}),
      R"({"id":"cmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"demo","choices":[],
      "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1}}})");
  check_event(completion_usage_chunk(with_usage, {3, 2, 0}),
              R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"demo","choices":[],
      "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0}}})");
}

BOOST_AUTO_TEST_CASE(completion_logprobs_are_parallel_lists) {
  auto first = record_of("Hi", -0.5F, 0);
  first.top = {{"Hi", -0.5F}, {"Ho", -1.5F}, {"Hi", -2.5F}};
  const auto text = render_completion(
      identity, {{0, "Hi€", std::vector{first, record_of("\xE2\x82", -0.25F, 2)}, finish_reason::stop}}, {});
  const json::value document = json::parse(text);
  check_json(json::serialize(document.at("choices").at(0).at("logprobs")),
             R"({"tokens":["Hi","\\xe2\\x82"],"token_logprobs":[-0.5,-0.25],
                 "top_logprobs":[{"Hi":-0.5,"Ho":-1.5},{}],"text_offset":[0,2]})");
}

BOOST_AUTO_TEST_CASE(chat_logprobs_carry_bytes) {
  auto record = record_of("é", -0.5F, 0);
  record.top = {{"é", -0.5F}, {"\xFF", -1.5F}};
  const std::string event = chat_chunk({identity, false}, {0, "é", std::vector{record}});
  const json::value document = json::parse(event.substr(6));
  check_json(json::serialize(document.at("choices").at(0).at("logprobs")),
             R"({"content":[{"token":"é","logprob":-0.5,"bytes":[195,169],"top_logprobs":[
                 {"token":"é","logprob":-0.5,"bytes":[195,169]},{"token":"\\xff","logprob":-1.5,"bytes":[255]}]}],
                 "refusal":null})");
}

BOOST_AUTO_TEST_CASE(logprobs_that_json_lacks_are_clamped) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const float logprob : {-infinity, std::numeric_limits<float>::quiet_NaN(), -10000.0F}) {
    const auto text = render_completion(
        identity, {{0, "a", std::vector{record_of("a", logprob, 0)}, finish_reason::stop}}, {});
    BOOST_TEST(
        json::parse(text).at("choices").at(0).at("logprobs").at("token_logprobs").at(0).to_number<double>() ==
        -9999);
  }
  for (const float logprob : {infinity, 1e-7F, 0.0F}) {
    const auto text = render_completion(
        identity, {{0, "a", std::vector{record_of("a", logprob, 0)}, finish_reason::stop}}, {});
    BOOST_TEST(
        json::parse(text).at("choices").at(0).at("logprobs").at("token_logprobs").at(0).to_number<double>() ==
        0);
  }
}

BOOST_AUTO_TEST_CASE(text_is_escaped_and_always_utf8) {
  const std::string text = std::string("\"\\\n\t\0\x7F", 6) + "é\xFF";
  const std::string event = completion_chunk({identity, false}, {0, text, std::nullopt});
  BOOST_TEST(is_valid_utf8(event));
  const json::value document = json::parse(event.substr(6));
  BOOST_TEST(json::value_to<std::string>(document.at("choices").at(0).at("text")) ==
             std::string("\"\\\n\t\0\x7F", 6) + "é\xEF\xBF\xBD");
}

BOOST_AUTO_TEST_CASE(errors_have_the_shape_that_clients_read) {
  api_error error = bad_request("n", "invalid_value", "\"n\" is wrong.");
  check_json(
      render_error(error),
      R"({"error":{"message":"\"n\" is wrong.","type":"invalid_request_error","param":"n","code":"invalid_value"}})");
  error = api_error{503, "unavailable_error", "Draining.", std::nullopt, std::nullopt};
  check_json(render_error(error),
             R"({"error":{"message":"Draining.","type":"unavailable_error","param":null,"code":null}})");
  check_event(render_error_event(error),
              R"({"error":{"message":"Draining.","type":"unavailable_error","param":null,"code":null}})");
  const api_error missing = model_not_found("gpt\xFF");
  BOOST_TEST(missing.status == 404U);
  BOOST_TEST(is_valid_utf8(render_error(missing)));
  BOOST_TEST(json::value_to<std::string>(json::parse(render_error(missing)).at("error").at("code")) ==
             "model_not_found");
}

BOOST_AUTO_TEST_CASE(models_have_the_shape_that_clients_read) {
  check_json(
      render_model_list({{"demo", 1700000000, "bitnet", 4096}}),
      R"({"object":"list","data":[{"id":"demo","object":"model","created":1700000000,"owned_by":"bitnet",
                 "max_model_len":4096}]})");
  check_json(render_model({"demo", 1, "bitnet", 10}),
             R"({"id":"demo","object":"model","created":1,"owned_by":"bitnet","max_model_len":10})");
  check_json(render_model_list({}), R"({"object":"list","data":[]})");
}

BOOST_AUTO_TEST_CASE(tokens_and_text_are_rendered) {
  check_json(render_tokens({1, 4294967295U}), R"({"tokens":[1,4294967295],"count":2})");
  check_json(render_tokens({}), R"({"tokens":[],"count":0})");
  check_json(render_detokenized("a\xFF"), R"({"content":"a\ufffd"})");
}

BOOST_AUTO_TEST_CASE(utf8_is_told_from_other_bytes) {
  for (const char* valid : {"", "a", "\xC2\x80", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEF\xBF\xBF",
                            "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    BOOST_TEST(is_valid_utf8(valid));
    BOOST_TEST(valid_utf8(valid) == valid);
  }
  for (const char* invalid :
       {"\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "\xC2", "\xE2\x82", "\xF0\x9F\x98",
        "\xE2\x82"
        "a"}) {
    BOOST_TEST(!is_valid_utf8(invalid));
    BOOST_TEST(is_valid_utf8(valid_utf8(invalid)));
  }
}

BOOST_AUTO_TEST_SUITE_END()
