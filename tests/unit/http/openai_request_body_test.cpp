#include "tests/unit/http/openai_support.hpp"

#include <random>
#include <string>

using namespace bitnet::http::openai;
using bitnet::tests::accepted;
using bitnet::tests::check_refused;
using bitnet::tests::member;

namespace {

/// A valid request with `members` added.
api_result<completion_request> with(std::string_view members) {
  return parse_completion_request(fmt::format(R"({{"prompt":"x",{}}})", members));
}

std::string nested(std::size_t depth) {
  return fmt::format(R"({{"prompt":"x","unknown":{}{}}})", std::string(depth, '['), std::string(depth, ']'));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(openai_request_body)

BOOST_AUTO_TEST_CASE(malformed_json_is_refused) {
  for (const char* body : {"", " ", "{", "{\"prompt\":\"x\"", "{\"prompt\":\"x\",}", "{'prompt':'x'}",
                           "{\"prompt\":\"x\"}}", "nul", "{\"prompt\":\"x\"} trailing",
                           "{\"prompt\":undefined}", "{\"prompt\":\"a\nb\"}", "\xEF\xBB\xBF{}x"}) {
    BOOST_TEST_CONTEXT(body) {
      check_refused(parse_completion_request(body), "", "invalid_json");
    }
  }
}

BOOST_AUTO_TEST_CASE(a_body_that_is_no_object_is_refused) {
  for (const char* body : {"null", "true", "1", "1.5", "\"x\"", "[]", "[{\"prompt\":\"x\"}]"}) {
    check_refused(parse_completion_request(body), "", "invalid_type");
    check_refused(parse_chat_request(body), "", "invalid_type");
    check_refused(parse_tokenize_request(body), "", "invalid_type");
    check_refused(parse_detokenize_request(body), "", "invalid_type");
  }
}

BOOST_AUTO_TEST_CASE(text_must_be_utf8) {
  for (const char* text : {"\xFF", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80"}) {
    check_refused(parse_completion_request(fmt::format(R"({{"prompt":"{}"}})", text)), "", "invalid_json");
  }
}

BOOST_AUTO_TEST_CASE(surrogate_escapes_must_come_in_pairs) {
  const auto request = accepted(parse_completion_request(R"({"prompt":"\ud83d\ude00\u0000"})"));
  BOOST_TEST(std::get<std::string>(request.prompts[0]) == std::string("\xF0\x9F\x98\x80\0", 5));
  for (const char* body : {R"({"prompt":"\ud83d"})", R"({"prompt":"\ude00"})", R"({"prompt":"\ud83dx"})",
                           R"({"prompt":"\ud83d\u0041"})"}) {
    check_refused(parse_completion_request(body), "", "invalid_json");
  }
}

BOOST_AUTO_TEST_CASE(nesting_is_bounded) {
  accepted(parse_completion_request(nested(20)));
  check_refused(parse_completion_request(nested(100)), "", "invalid_json");
  check_refused(parse_completion_request(nested(1'000'000)), "", "invalid_json");
  check_refused(parse_completion_request(std::string(1'000'000, '[')), "", "invalid_json");
}

BOOST_AUTO_TEST_CASE(a_body_above_the_limit_is_refused_with_413) {
  request_limits limits;
  limits.max_body_bytes = 20;
  const auto parsed = parse_completion_request("{\"prompt\":\"a long prompt\"}", limits);
  BOOST_REQUIRE(!parsed);
  BOOST_TEST(parsed.error().status == 413U);
  accepted(parse_completion_request("{\"prompt\":\"short\"}", limits));
}

BOOST_AUTO_TEST_CASE(numbers_that_json_does_not_have_are_refused) {
  for (const char* number : {"NaN", "Infinity", "-Infinity", "+1", ".5", "1.", "0x10", "01", "1e", "--1"}) {
    check_refused(with(member("temperature", number)), "", "invalid_json");
  }
}

BOOST_AUTO_TEST_CASE(huge_numbers_are_out_of_range_not_wrapped) {
  for (const char* number :
       {"1e308", "1e999", "-1e999", "18446744073709551616", "99999999999999999999999999"}) {
    check_refused(with(member("temperature", number)), "temperature", "invalid_value");
    check_refused(with(member("max_tokens", number)), "max_tokens", "invalid_value");
    check_refused(with(member("n", number)), "n", "invalid_value");
  }
  check_refused(with("\"max_tokens\":4294967297"), "max_tokens", "invalid_value");
  check_refused(with("\"max_tokens\":18446744073709551615"), "max_tokens", "invalid_value");
  check_refused(with("\"prompt\":[4294967296]"), "prompt", "invalid_type");
}

BOOST_AUTO_TEST_CASE(unknown_members_are_ignored_and_null_means_absent) {
  const auto request = accepted(with(
      R"("wild":{"a":[1,2]},"temperature":null,"stop":null,"logit_bias":null,"stream_options":null,"seed":null,
         "logprobs":null,"echo":null,"suffix":null,"best_of":null,"response_format":null,"user":null,"model":null)"));
  BOOST_TEST(request.parameters.sampling.temperature == 1.0F);
  BOOST_TEST(!request.parameters.want_logprobs);
  BOOST_TEST(!request.parameters.sampling.seed);
}

BOOST_AUTO_TEST_CASE(the_last_of_duplicate_members_counts) {
  BOOST_TEST(accepted(with(R"("max_tokens":3,"max_tokens":5)")).parameters.max_tokens.value() == 5U);
}

BOOST_AUTO_TEST_CASE(mutated_bodies_are_answered_not_crashed_on) {
  const std::string valid =
      R"({"model":"m","prompt":[[1,2],[3]],"max_tokens":5,"temperature":0.5,"stop":["a","b"],"logit_bias":{"5":-3},)"
      R"("stream":true,"stream_options":{"include_usage":true},"seed":-4,"logprobs":2,)"
      R"("messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"tokens":[1],"content":"y"})";
  BOOST_TEST(!!parse_completion_request(valid));
  std::mt19937 random(7);
  const std::string alphabet = "{}[]\",:0123456789.eE+-nulltruefalse\\ud8\xFF";
  for (int round = 0; round < 5000; ++round) {
    std::string body = valid;
    for (unsigned change = random() % 4 + 1; change > 0; --change) {
      const std::size_t at = random() % body.size();
      switch (random() % 3) {
        case 0:
          body[at] = alphabet[random() % alphabet.size()];
          break;
        case 1:
          body.erase(at, random() % 8);
          break;
        default:
          body.insert(at, 1, alphabet[random() % alphabet.size()]);
      }
      if (body.empty()) body.push_back('{');
    }
    const auto completion = parse_completion_request(body);
    const auto chat = parse_chat_request(body);
    const auto tokenize = parse_tokenize_request(body);
    const auto detokenize = parse_detokenize_request(body);
    if (!completion) BOOST_REQUIRE(completion.error().status == 400 && !completion.error().message.empty());
    if (!chat) BOOST_REQUIRE(chat.error().status == 400 && !chat.error().message.empty());
    if (!tokenize) BOOST_REQUIRE_EQUAL(tokenize.error().status, 400U);
    if (!detokenize) BOOST_REQUIRE_EQUAL(detokenize.error().status, 400U);
  }
}

BOOST_AUTO_TEST_CASE(tokenize_takes_text_under_three_names) {
  for (const char* name : {"content", "text", "prompt"}) {
    const auto request = accepted(
        parse_tokenize_request(fmt::format(R"({{"{}":"Hi","add_special":true,"model":"m"}})", name)));
    BOOST_TEST(request.text == "Hi");
    BOOST_TEST(request.add_special);
    BOOST_TEST(!request.parse_special);
    BOOST_TEST(request.model == "m");
  }
  check_refused(parse_tokenize_request("{}"), "content", "missing_required_parameter");
  check_refused(parse_tokenize_request(R"({"content":["a"]})"), "content", "invalid_type");
  check_refused(parse_tokenize_request(R"({"text":"a","add_special":1})"), "add_special", "invalid_type");
}

BOOST_AUTO_TEST_CASE(detokenize_takes_token_ids) {
  const auto request = accepted(parse_detokenize_request(R"({"tokens":[0,4294967295,3.0]})"));
  BOOST_TEST(request.tokens == (std::vector<std::uint32_t>{0, 4294967295U, 3}),
             boost::test_tools::per_element());
  BOOST_TEST(accepted(parse_detokenize_request(R"({"tokens":[]})")).tokens.empty());
  check_refused(parse_detokenize_request("{}"), "tokens", "missing_required_parameter");
  for (const char* tokens : {"\"1\"", "[-1]", "[4294967296]", "[1.5]", "[\"1\"]", "[null]", "[[1]]", "{}"}) {
    check_refused(parse_detokenize_request(fmt::format("{{{}}}", member("tokens", tokens))), "tokens",
                  "invalid_type");
  }
}

BOOST_AUTO_TEST_CASE(load_takes_a_path_and_a_time_to_wait) {
  const auto request = accepted(parse_load_request(R"({"path":"a.gguf","timeout":2.5})"));
  BOOST_TEST(request.path == "a.gguf");
  BOOST_TEST(request.timeout_seconds == 2.5);
  BOOST_TEST(accepted(parse_load_request(R"({"path":""})")).timeout_seconds == 600.0);
  check_refused(parse_load_request("{}"), "path", "missing_required_parameter");
  check_refused(parse_load_request(R"({"path":null})"), "path", "missing_required_parameter");
  check_refused(parse_load_request(R"({"path":["a"]})"), "path", "invalid_type");
  check_refused(parse_load_request(R"({"path":"a","timeout":-1})"), "timeout", "invalid_value");
}

BOOST_AUTO_TEST_SUITE_END()
