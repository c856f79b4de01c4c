#include "http/openai/generation_parameters.hpp"
#include "http/openai/request.hpp"

#include <array>
#include <utility>

namespace bitnet::http::openai {

namespace json = boost::json;

namespace {

struct named_priority {
  std::string_view name;
  std::int32_t value;
};

void read_priority(object_reader& reader, std::int32_t& out) {
  constexpr std::array<named_priority, 4> priorities{
      {{"low", 10}, {"normal", 0}, {"high", -10}, {"critical", -20}}};
  std::string name = "normal";
  reader.string("priority", name);
  for (const auto& known : priorities) {
    if (known.name != name) continue;
    out = known.value;
    return;
  }
  reader.fail("priority", codes::invalid_value, "must be low, normal, high or critical");
}

}  // namespace

api_result<completion_request> parse_inference_request(std::string_view body, const request_limits& limits) {
  const auto document = parse_object(body, limits.max_body_bytes);
  if (!document) return tl::unexpected(document.error());
  object_reader reader(document->get_object());
  completion_request request;
  auto& p = request.parameters;
  // The defaults are BitNet.rs's.
  p.sampling.top_p = 0.9F;
  p.sampling.top_k = 50;
  reader.string("model", p.model);
  read_sampling(reader, limits, p.sampling);
  std::uint32_t max_tokens = 64;
  reader.count("max_tokens", 1, max_token_limit, max_tokens);
  p.max_tokens = max_tokens;
  read_priority(reader, p.priority);
  std::uint32_t timeout_ms = 0;
  reader.count("timeout_ms", 1, max_timeout_seconds * 1000, timeout_ms);
  p.timeout_seconds = 0.001 * timeout_ms;
  // Hints, and there is no choice to make.
  std::string hint;
  reader.string("device_preference", hint);
  reader.string("quantization_hint", hint);
  std::string prompt;
  if (!reader.error() && reader.find("prompt") == nullptr)
    reader.fail("prompt", codes::missing_parameter, "is required");
  reader.string("prompt", prompt);
  if (reader.error()) return tl::unexpected(*reader.error());
  request.prompts.emplace_back(std::move(prompt));
  return request;
}

}  // namespace bitnet::http::openai
