#include "tests/unit/http/openai_support.hpp"

using namespace bitnet::http::openai;
using bitnet::tests::accepted;
using bitnet::tests::check_refused;
using bitnet::tests::member;

namespace {

api_result<chat_request> with(std::string_view members) {
  return parse_chat_request(fmt::format(R"({{"messages":[{{"role":"user","content":"Hi"}}],{}}})", members));
}

api_result<chat_request> messages(std::string_view list) {
  return parse_chat_request(fmt::format("{{{}}}", member("messages", list)));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(openai_chat_request)

BOOST_AUTO_TEST_CASE(messages_are_read_in_order) {
  const auto request = accepted(messages(
      R"([{"role":"developer","content":"D"},{"role":"system","content":"S","name":"n"},
          {"role":"user","content":""},{"role":"assistant","content":"A"}])"));
  BOOST_REQUIRE(request.messages.size() == 4U);
  BOOST_TEST(request.messages[0].role == "developer");
  BOOST_TEST(request.messages[1].content == "S");
  BOOST_TEST(request.messages[2].content == "");
  BOOST_TEST(request.messages[3].role == "assistant");
  BOOST_TEST(!request.parameters.max_tokens);
}

BOOST_AUTO_TEST_CASE(text_parts_are_joined_by_line_feeds) {
  const auto request = accepted(
      messages(R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])"));
  BOOST_TEST(request.messages[0].content == "a\nb");
}

BOOST_AUTO_TEST_CASE(wrong_messages_are_refused_by_place) {
  check_refused(parse_chat_request("{}"), "messages", "missing_required_parameter");
  check_refused(messages("{}"), "messages", "invalid_type");
  check_refused(messages("\"Hi\""), "messages", "invalid_type");
  check_refused(messages("[]"), "messages", "invalid_value");
  check_refused(messages("[1]"), "messages[0]", "invalid_type");
  check_refused(messages(R"([{"content":"x"}])"), "messages[0].role", "missing_required_parameter");
  check_refused(messages(R"([{"role":1,"content":"x"}])"), "messages[0].role", "invalid_type");
  check_refused(messages(R"([{"role":"User","content":"x"}])"), "messages[0].role", "invalid_value");
  check_refused(messages(R"([{"role":"tool","content":"x"}])"), "messages[0].role", "unsupported_value");
  check_refused(messages(R"([{"role":"user","content":"x"},{"role":"assistant"}])"), "messages[1].content",
                "missing_required_parameter");
  check_refused(messages(R"([{"role":"user","content":null}])"), "messages[0].content",
                "missing_required_parameter");
  check_refused(messages(R"([{"role":"user","content":5}])"), "messages[0].content", "invalid_type");
  check_refused(messages(R"([{"role":"user","content":[]}])"), "messages[0].content", "invalid_value");
  check_refused(messages(R"([{"role":"user","content":["x"]}])"), "messages[0].content[0]", "invalid_type");
  check_refused(messages(R"([{"role":"user","content":[{"type":"text"}]}])"), "messages[0].content[0]",
                "invalid_type");
  check_refused(
      messages(
          R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]}])"),
      "messages[0].content[1]", "unsupported_value");
}

BOOST_AUTO_TEST_CASE(the_number_of_messages_is_bounded) {
  request_limits limits;
  limits.max_messages = 1;
  const std::string one = R"({"role":"user","content":"x"})";
  accepted(parse_chat_request("{\"messages\":[" + one + "]}", limits));
  check_refused(parse_chat_request("{\"messages\":[" + one + "," + one + "]}", limits), "messages",
                "invalid_value");
}

BOOST_AUTO_TEST_CASE(both_names_of_the_token_limit_are_read) {
  BOOST_TEST(accepted(with(R"("max_tokens":5)")).parameters.max_tokens.value() == 5U);
  BOOST_TEST(accepted(with(R"("max_completion_tokens":6)")).parameters.max_tokens.value() == 6U);
  BOOST_TEST(accepted(with(R"("max_completion_tokens":6,"max_tokens":5)")).parameters.max_tokens.value() ==
             6U);
  check_refused(with(R"("max_completion_tokens":0)"), "max_completion_tokens", "invalid_value");
  check_refused(with(R"("max_tokens":"5")"), "max_tokens", "invalid_type");
}

BOOST_AUTO_TEST_CASE(logprobs_are_a_switch_and_a_number) {
  const auto request = accepted(with(R"("logprobs":true,"top_logprobs":20)"));
  BOOST_TEST(request.parameters.want_logprobs);
  BOOST_TEST(request.parameters.top_logprobs == 20U);
  BOOST_TEST(accepted(with(R"("logprobs":true)")).parameters.top_logprobs == 0U);
  accepted(with(R"("logprobs":false,"top_logprobs":0)"));
  check_refused(with(R"("logprobs":1)"), "logprobs", "invalid_type");
  check_refused(with(R"("top_logprobs":1)"), "top_logprobs", "invalid_value");
  check_refused(with(R"("logprobs":true,"top_logprobs":21)"), "top_logprobs", "invalid_value");
}

BOOST_AUTO_TEST_CASE(shared_parameters_are_read) {
  const auto request =
      accepted(with(R"("model":"demo","temperature":0,"seed":1,"stop":"x","stream":true,"n":3)"));
  BOOST_TEST(request.parameters.model == "demo");
  BOOST_TEST(request.parameters.sampling.temperature == 0.0F);
  BOOST_TEST(request.parameters.stream);
  BOOST_TEST(request.parameters.n == 3U);
  check_refused(with(R"("temperature":3)"), "temperature", "invalid_value");
}

BOOST_AUTO_TEST_CASE(unsupported_parameters_are_refused_not_ignored) {
  check_refused(with(R"("tools":[{"type":"function"}])"), "tools", "unsupported_parameter");
  check_refused(with(R"("functions":[{}])"), "functions", "unsupported_parameter");
  check_refused(with(R"("tool_choice":"required")"), "tool_choice", "unsupported_parameter");
  check_refused(with(R"("tool_choice":{"type":"function"})"), "tool_choice", "unsupported_parameter");
  check_refused(with(R"("function_call":{"name":"f"})"), "function_call", "unsupported_parameter");
  check_refused(with(R"("audio":{})"), "audio", "unsupported_parameter");
  check_refused(with(R"("modalities":["text","audio"])"), "modalities", "unsupported_value");
  check_refused(with(R"("response_format":{"type":"json_schema"})"), "response_format", "unsupported_value");
  accepted(with(R"("tools":[],"tool_choice":"none","modalities":["text"],"response_format":{"type":"text"},
                   "parallel_tool_calls":true,"store":false,"metadata":{},"service_tier":"auto")"));
}

BOOST_AUTO_TEST_SUITE_END()
