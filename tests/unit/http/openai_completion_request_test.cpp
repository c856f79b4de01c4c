#include "tests/unit/http/openai_support.hpp"

#include <limits>

using namespace bitnet::http::openai;
using bitnet::tests::accepted;
using bitnet::tests::check_refused;
using bitnet::tests::member;

namespace {

api_result<completion_request> with(std::string_view members) {
  return parse_completion_request(fmt::format(R"({{"prompt":"x",{}}})", members));
}

using ids = std::vector<std::uint32_t>;

}  // namespace

BOOST_AUTO_TEST_SUITE(openai_completion_request)

BOOST_AUTO_TEST_CASE(defaults_are_those_of_the_api) {
  const auto request = accepted(parse_completion_request(R"({"prompt":"Hi"})"));
  BOOST_TEST(request.prompts.size() == 1U);
  BOOST_TEST(std::get<std::string>(request.prompts[0]) == "Hi");
  const auto& parameters = request.parameters;
  BOOST_TEST(parameters.model.empty());
  BOOST_TEST(parameters.max_tokens.value() == 16U);
  BOOST_TEST(parameters.n == 1U);
  BOOST_TEST(parameters.stop.empty());
  BOOST_TEST(!parameters.stream);
  BOOST_TEST(!parameters.include_usage);
  BOOST_TEST(!parameters.ignore_eos);
  BOOST_TEST(!parameters.want_logprobs);
  BOOST_TEST(parameters.sampling.temperature == 1.0F);
  BOOST_TEST(parameters.sampling.top_p == 1.0F);
  BOOST_TEST(parameters.sampling.min_p == 0.0F);
  BOOST_TEST(parameters.sampling.top_k == 0U);
  BOOST_TEST(parameters.sampling.repetition_penalty == 1.0F);
  BOOST_TEST(parameters.sampling.frequency_penalty == 0.0F);
  BOOST_TEST(parameters.sampling.presence_penalty == 0.0F);
  BOOST_TEST(!parameters.sampling.seed);
  BOOST_TEST(parameters.sampling.logit_bias.empty());
}

BOOST_AUTO_TEST_CASE(every_parameter_is_read) {
  const auto request = accepted(with(
      R"("model":"demo","max_tokens":7,"temperature":0.5,"top_p":0.25,"min_p":0.125,"top_k":40,"n":2,"stream":true,
         "stream_options":{"include_usage":true,"include_obfuscation":false},"stop":["a","\n\n"],"seed":42,"logprobs":3,
         "logit_bias":{"5":-100,"7":2.5},"frequency_penalty":-2,"presence_penalty":2,"repetition_penalty":1.5,
         "user":"u","ignore_eos":true,"echo":false,"suffix":"","best_of":2,"response_format":{"type":"text"})"));
  const auto& parameters = request.parameters;
  BOOST_TEST(parameters.model == "demo");
  BOOST_TEST(parameters.max_tokens.value() == 7U);
  BOOST_TEST(parameters.n == 2U);
  BOOST_TEST(parameters.stream);
  BOOST_TEST(parameters.include_usage);
  BOOST_TEST(parameters.ignore_eos);
  BOOST_TEST(parameters.want_logprobs);
  BOOST_TEST(parameters.top_logprobs == 3U);
  BOOST_TEST(parameters.stop == (std::vector<std::string>{"a", "\n\n"}), boost::test_tools::per_element());
  const auto& sampling = parameters.sampling;
  BOOST_TEST(sampling.temperature == 0.5F);
  BOOST_TEST(sampling.top_p == 0.25F);
  BOOST_TEST(sampling.min_p == 0.125F);
  BOOST_TEST(sampling.top_k == 40U);
  BOOST_TEST(sampling.repetition_penalty == 1.5F);
  BOOST_TEST(sampling.frequency_penalty == -2.0F);
  BOOST_TEST(sampling.presence_penalty == 2.0F);
  BOOST_TEST(sampling.seed.value() == 42U);
  BOOST_REQUIRE(sampling.logit_bias.size() == 2U);
  BOOST_TEST(sampling.logit_bias[0].first == 5U);
  BOOST_TEST(sampling.logit_bias[0].second == -100.0F);
  BOOST_TEST(sampling.logit_bias[1].second == 2.5F);
}

BOOST_AUTO_TEST_CASE(all_four_forms_of_prompts_are_read) {
  const auto strings = accepted(parse_completion_request(R"({"prompt":["a","b",""]})"));
  BOOST_REQUIRE(strings.prompts.size() == 3U);
  BOOST_TEST(std::get<std::string>(strings.prompts[1]) == "b");
  const auto one = accepted(parse_completion_request(R"({"prompt":[1,2,3]})"));
  BOOST_REQUIRE(one.prompts.size() == 1U);
  BOOST_TEST(std::get<ids>(one.prompts[0]) == (ids{1, 2, 3}), boost::test_tools::per_element());
  const auto several = accepted(parse_completion_request(R"({"prompt":[[1],[2,3]]})"));
  BOOST_REQUIRE(several.prompts.size() == 2U);
  BOOST_TEST(std::get<ids>(several.prompts[1]) == (ids{2, 3}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(other_forms_of_prompts_are_refused) {
  check_refused(parse_completion_request("{}"), "prompt", "missing_required_parameter");
  check_refused(parse_completion_request(R"({"prompt":null})"), "prompt", "missing_required_parameter");
  check_refused(parse_completion_request(R"({"prompt":[]})"), "prompt", "invalid_value");
  for (const char* prompt : {"1", "{}", "true", "[1,\"a\"]", "[\"a\",1]", "[\"a\",[1]]", "[[1],\"a\"]",
                             "[[\"a\"]]", "[1.5]", "[-1]", "[null]", "[[1],[null]]", "[[[1]]]", "[true]"}) {
    BOOST_TEST_CONTEXT(prompt) {
      check_refused(parse_completion_request(fmt::format("{{{}}}", member("prompt", prompt))), "prompt",
                    "invalid_type");
    }
  }
}

BOOST_AUTO_TEST_CASE(the_number_of_choices_is_bounded) {
  request_limits limits;
  limits.max_choices = 4;
  accepted(parse_completion_request(R"({"prompt":["a","b"],"n":2})", limits));
  check_refused(parse_completion_request(R"({"prompt":["a","b","c"],"n":2})", limits), "prompt",
                "invalid_value");
  check_refused(parse_completion_request(R"({"prompt":"a","n":5})", limits), "n", "invalid_value");
}

BOOST_AUTO_TEST_CASE(wrong_types_are_refused_by_name) {
  for (const char* name : {"temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty",
                           "repetition_penalty", "top_k", "n", "max_tokens", "seed", "logprobs"}) {
    for (const char* value : {"\"1\"", "true", "[1]", "{}"}) {
      check_refused(with(member(name, value)), name, "invalid_type");
    }
  }
  for (const char* name : {"stream", "ignore_eos", "echo"}) {
    for (const char* value : {"1", "\"true\"", "[]"}) {
      check_refused(with(member(name, value)), name, "invalid_type");
    }
  }
  for (const char* name : {"model", "user", "suffix"}) {
    check_refused(with(member(name, "1")), name, "invalid_type");
  }
  check_refused(with(R"("stop":1)"), "stop", "invalid_type");
  check_refused(with(R"("stop":["a",1])"), "stop", "invalid_type");
  check_refused(with(R"("logit_bias":[1])"), "logit_bias", "invalid_type");
  check_refused(with(R"("logit_bias":{"1":"x"})"), "logit_bias", "invalid_type");
  check_refused(with(R"("stream":true,"stream_options":1)"), "stream_options", "invalid_type");
  check_refused(with(R"("stream":true,"stream_options":{"include_usage":1})"), "stream_options.include_usage",
                "invalid_type");
  check_refused(with(R"("n":1.5)"), "n", "invalid_type");
}

BOOST_AUTO_TEST_CASE(values_out_of_range_are_refused_by_name) {
  const std::pair<const char*, const char*> wrong[] = {{"temperature", "2.001"},
                                                       {"temperature", "-0.1"},
                                                       {"top_p", "1.1"},
                                                       {"top_p", "-0.1"},
                                                       {"min_p", "1.1"},
                                                       {"min_p", "-1"},
                                                       {"top_k", "-2"},
                                                       {"top_k", "2147483648"},
                                                       {"repetition_penalty", "0"},
                                                       {"repetition_penalty", "3"},
                                                       {"frequency_penalty", "3"},
                                                       {"presence_penalty", "-3"},
                                                       {"n", "0"},
                                                       {"n", "-1"},
                                                       {"n", "65"},
                                                       {"max_tokens", "0"},
                                                       {"max_tokens", "-1"},
                                                       {"logprobs", "21"},
                                                       {"logprobs", "-1"},
                                                       {"stop", "[\"a\",\"\"]"},
                                                       {"stop", "\"\""},
                                                       {"stop", "[\"a\",\"b\",\"c\",\"d\",\"e\"]"},
                                                       {"logit_bias", "{\"a\":1}"},
                                                       {"logit_bias", "{\"-1\":1}"},
                                                       {"logit_bias", "{\"1\":101}"},
                                                       {"logit_bias", "{\"1 \":1}"},
                                                       {"logit_bias", "{\"\":1}"},
                                                       {"logit_bias", "{\"4294967296\":1}"},
                                                       {"stream_options", "{}"}};
  for (const auto& [name, value] : wrong) {
    BOOST_TEST_CONTEXT(name << " " << value) {
      check_refused(with(member(name, value)), name, "invalid_value");
    }
  }
  check_refused(with(fmt::format(R"("stop":"{}")", std::string(1025, 'x'))), "stop", "invalid_value");
}

BOOST_AUTO_TEST_CASE(borders_of_ranges_are_accepted) {
  BOOST_TEST(accepted(with(R"("temperature":0)")).parameters.sampling.temperature == 0.0F);
  BOOST_TEST(accepted(with(R"("temperature":2)")).parameters.sampling.temperature == 2.0F);
  BOOST_TEST(accepted(with(R"("top_p":0)")).parameters.sampling.top_p == std::numeric_limits<float>::min());
  BOOST_TEST(accepted(with(R"("top_k":-1)")).parameters.sampling.top_k == 0U);
  BOOST_TEST(accepted(with(R"("n":64)")).parameters.n == 64U);
  BOOST_TEST(accepted(with(R"("n":2.0)")).parameters.n == 2U);
  BOOST_TEST(accepted(with(R"("stop":"end")")).parameters.stop.size() == 1U);
  BOOST_TEST(accepted(with(R"("stop":[])")).parameters.stop.empty());
  const auto zero_logprobs = accepted(with(R"("logprobs":0)"));
  BOOST_TEST(zero_logprobs.parameters.want_logprobs);
  BOOST_TEST(zero_logprobs.parameters.top_logprobs == 0U);
}

BOOST_AUTO_TEST_CASE(seeds_keep_all_64_bits) {
  BOOST_TEST(accepted(with(R"("seed":18446744073709551615)")).parameters.sampling.seed.value() ==
             ~std::uint64_t{0});
  BOOST_TEST(accepted(with(R"("seed":-1)")).parameters.sampling.seed.value() == ~std::uint64_t{0});
  BOOST_TEST(accepted(with(R"("seed":0)")).parameters.sampling.seed.value() == 0U);
  check_refused(with(R"("seed":18446744073709551616)"), "seed", "invalid_value");
  check_refused(with(R"("seed":0.5)"), "seed", "invalid_type");
}

BOOST_AUTO_TEST_CASE(unsupported_parameters_are_refused_not_ignored) {
  check_refused(with(R"("echo":true)"), "echo", "unsupported_parameter");
  check_refused(with(R"("suffix":"x")"), "suffix", "unsupported_parameter");
  check_refused(with(R"("best_of":2)"), "best_of", "unsupported_parameter");
  check_refused(with(R"("response_format":"text")"), "response_format", "invalid_type");
}

BOOST_AUTO_TEST_SUITE_END()
