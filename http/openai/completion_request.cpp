#include "http/openai/generation_parameters.hpp"
#include "http/openai/request.hpp"

#include <fmt/core.h>

#include <utility>

namespace bitnet::http::openai {

namespace json = boost::json;

namespace {

constexpr std::uint32_t default_max_tokens = 16;
constexpr std::string_view prompt_forms =
    "must be a string, an array of strings, an array of token ids or an array of arrays of token ids";

std::optional<completion_prompt> read_one_prompt(const json::value& value) {
  if (const json::string* text = value.if_string()) return std::string(text->data(), text->size());
  if (const json::array* array = value.if_array()) {
    if (auto ids = token_ids(*array)) return std::move(*ids);
  }
  return std::nullopt;
}

void read_prompts(object_reader& reader, const request_limits& limits, completion_request& out) {
  const json::value* value = reader.find("prompt");
  if (value == nullptr) {
    return reader.fail("prompt", codes::missing_parameter, "is required");
  }
  const json::array* array = value->if_array();
  if (array != nullptr && array->empty()) {
    return reader.fail("prompt", codes::invalid_value, "must not be an empty array");
  }
  const bool several = array != nullptr && (array->front().is_string() || array->front().is_array());
  if (!several) {
    auto prompt = read_one_prompt(*value);
    if (!prompt) return reader.fail("prompt", codes::invalid_type, prompt_forms);
    out.prompts.push_back(std::move(*prompt));
    return;
  }
  if (array->size() * out.parameters.n > limits.max_choices) {
    return reader.fail("prompt", codes::invalid_value,
                       fmt::format("times \"n\" asks for {} completions; at most {} are allowed",
                                   array->size() * out.parameters.n, limits.max_choices));
  }
  for (const json::value& item : *array) {
    auto prompt = read_one_prompt(item);
    if (!prompt || item.kind() != array->front().kind()) {
      return reader.fail("prompt", codes::invalid_type, prompt_forms);
    }
    out.prompts.push_back(std::move(*prompt));
  }
}

void read_logprobs(object_reader& reader, generation_parameters& out) {
  if (reader.find("logprobs") == nullptr) return;
  out.want_logprobs = true;
  reader.count("logprobs", 0, max_top_logprobs, out.top_logprobs);
}

void refuse_unsupported(object_reader& reader, const generation_parameters& parameters) {
  bool echo = false;
  reader.boolean("echo", echo);
  if (echo)
    reader.fail("echo", codes::unsupported_parameter, "is not supported; put the prompt in front yourself");
  std::string suffix;
  reader.string("suffix", suffix);
  if (!suffix.empty()) {
    reader.fail("suffix", codes::unsupported_parameter, "is not supported: these models only continue text");
  }
  std::uint32_t best_of = parameters.n;
  reader.count("best_of", 1, max_token_limit, best_of);
  if (best_of != parameters.n) {
    reader.fail("best_of", codes::unsupported_parameter, "is not supported other than equal to \"n\"");
  }
}

}  // namespace

api_result<completion_request> parse_completion_request(std::string_view body, const request_limits& limits) {
  const auto document = parse_object(body, limits.max_body_bytes);
  if (!document) return tl::unexpected(document.error());
  object_reader reader(document->get_object());
  completion_request request;
  read_generation_parameters(reader, limits, request.parameters);
  std::uint32_t max_tokens = default_max_tokens;
  reader.count("max_tokens", 1, max_token_limit, max_tokens);
  request.parameters.max_tokens = max_tokens;
  read_logprobs(reader, request.parameters);
  refuse_unsupported(reader, request.parameters);
  if (!reader.error()) read_prompts(reader, limits, request);
  if (reader.error()) return tl::unexpected(*reader.error());
  return request;
}

}  // namespace bitnet::http::openai
