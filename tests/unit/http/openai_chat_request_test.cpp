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
  check_refused(messages(R"([{"role":"function","content":"x"}])"), "messages[0].role", "unsupported_value");
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
  check_refused(with(R"("functions":[{}])"), "functions", "unsupported_parameter");
  check_refused(with(R"("function_call":{"name":"f"})"), "function_call", "unsupported_parameter");
  check_refused(with(R"("audio":{})"), "audio", "unsupported_parameter");
  check_refused(with(R"("modalities":["text","audio"])"), "modalities", "unsupported_value");
  accepted(with(R"("tools":[],"tool_choice":"none","modalities":["text"],"response_format":{"type":"text"},
                   "parallel_tool_calls":true,"store":false,"metadata":{},"service_tier":"auto")"));
}

BOOST_AUTO_TEST_CASE(a_tool_that_must_be_called_becomes_a_schema_and_instructions) {
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"get","description":"Gets it","parameters":{"type":"object",
         "properties":{"n":{"$ref":"#/$defs/n"}},"$defs":{"n":{"type":"integer"}}}}},
         {"type":"function","function":{"name":"stop"}}],)";
  BOOST_TEST(accepted(with(tools + R"("tool_choice":"auto")")).callable.empty());
  BOOST_TEST(accepted(with(tools + R"("tool_choice":"none")")).parameters.json_schema.empty());
  const auto named = accepted(with(tools + R"("tool_choice":{"type":"function","function":{"name":"get"}})"));
  BOOST_TEST(named.callable.size() == 1U);
  BOOST_TEST(named.parameters.json_schema == named.callable.front().parameters);
  BOOST_TEST(named.messages.front().role == "system");
  BOOST_TEST(named.messages.front().content.find("Gets it") != std::string::npos);
  const auto any = accepted(with(tools + R"("tool_choice":"required")"));
  BOOST_TEST(any.callable.size() == 2U);
  BOOST_TEST(any.parameters.json_schema.find(R"("$ref":"#/$defs/call_0/$defs/n")") != std::string::npos);
  const auto call = parse_tool_call(any.callable, R"({"name": "get", "arguments": {"n":1}})");
  BOOST_TEST(call.value().arguments == R"({"n":1})");
  BOOST_TEST(!parse_tool_call(any.callable, R"({"name": "ge)").has_value());
  check_refused(with(tools + R"("tool_choice":{"type":"function","function":{"name":"put"}})"), "tool_choice",
                "invalid_value");
  check_refused(with(R"("tool_choice":"required")"), "tool_choice", "invalid_value");
  check_refused(with(R"("tools":[{"type":"function"}])"), "tools[0]", "invalid_type");
  check_refused(with(R"("tools":[{"type":"function","function":{"name":"a b"}}])"), "tools[0].function.name",
                "invalid_value");
}

BOOST_AUTO_TEST_CASE(tool_calls_and_their_answers_are_part_of_a_conversation) {
  const auto request = accepted(messages(
      R"([{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",
         "function":{"name":"get","arguments":"{\"n\":1}"}}]},{"role":"tool","tool_call_id":"c","content":"7"}])"));
  BOOST_TEST(request.messages[1].content == R"({"name": "get", "arguments": {"n":1}})");
  BOOST_TEST(request.messages[2].role == "user");
  check_refused(messages(R"([{"role":"assistant","tool_calls":[{}]}])"), "messages[0].tool_calls",
                "invalid_type");
}

BOOST_AUTO_TEST_CASE(response_formats_become_schemas) {
  BOOST_TEST(accepted(with(R"("response_format":{"type":"json_object"})")).parameters.json_schema ==
             R"({"type":"object"})");
  BOOST_TEST(accepted(with(R"("response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,
                              "schema":{"b":1,"a":2}}})"))
                 .parameters.json_schema == R"({"b":1,"a":2})");
  check_refused(with(R"("response_format":{"type":"json_schema"})"), "response_format.json_schema",
                "missing_required_parameter");
  check_refused(with(R"("response_format":{"type":"json_schema","json_schema":{"schema":true}})"),
                "response_format.json_schema.schema", "invalid_type");
  check_refused(with(R"("response_format":{"type":"xml"})"), "response_format", "unsupported_value");
}

BOOST_AUTO_TEST_CASE(timeouts_and_priorities_are_extensions) {
  const auto request = accepted(with(R"("timeout":2.5,"priority":-3)"));
  BOOST_TEST(request.parameters.timeout_seconds == 2.5);
  BOOST_TEST(request.parameters.priority == -3);
  check_refused(with(R"("timeout":0)"), "timeout", "invalid_value");
  check_refused(with(R"("priority":0.5)"), "priority", "invalid_type");
}

BOOST_AUTO_TEST_SUITE_END()
