#include "http/openai/json_objects.hpp"

#include "http/openai/valid_utf8.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <utility>

namespace bitnet::http::openai {

namespace json = boost::json;

namespace {

/// The least that clients see; vLLM's choice.
constexpr float least_logprob = -9999.0F;

double shown_logprob(float logprob) {
  // NaN fails the first comparison; rounding may push a probability of one slightly above zero.
  if (!(logprob >= least_logprob)) return least_logprob;
  return logprob > 0 ? 0.0 : static_cast<double>(logprob);
}

/// A token as text. Parts of a character are spelled "\xe2\x82", as the OpenAI API does, so that two of them
/// stay distinct.
std::string token_text(std::string_view bytes) {
  if (is_valid_utf8(bytes)) return std::string(bytes);
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text.append("\\x").push_back(digits[byte >> 4U]);
    text.push_back(digits[byte & 0xFU]);
  }
  return text;
}

json::object chat_token(const token_probability& token) {
  json::array bytes;
  bytes.reserve(token.bytes.size());
  for (const char c : token.bytes) bytes.emplace_back(static_cast<unsigned char>(c));
  json::object object;
  object["token"] = json_text(token_text(token.bytes));
  object["logprob"] = shown_logprob(token.logprob);
  object["bytes"] = std::move(bytes);
  return object;
}

}  // namespace

json::string json_text(std::string_view text) {
  if (is_valid_utf8(text)) return json::string(text.data(), text.size());
  const std::string valid = valid_utf8(text);
  return json::string(valid.data(), valid.size());
}

json::string json_name(finish_reason finish) {
  switch (finish) {
    case finish_reason::stop:
      return json::string("stop");
    case finish_reason::length:
      return json::string("length");
    case finish_reason::tool_calls:
      return json::string("tool_calls");
  }
  return json::string("stop");
}

json::object usage_object(const usage_counts& usage) {
  json::object details;
  details["cached_tokens"] = usage.cached_tokens;
  json::object object;
  object["prompt_tokens"] = usage.prompt_tokens;
  object["completion_tokens"] = usage.completion_tokens;
  object["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  object["prompt_tokens_details"] = std::move(details);
  return object;
}

json::value completion_logprobs(const std::optional<std::vector<token_record>>& records) {
  if (!records) return nullptr;
  json::array tokens;
  json::array logprobs;
  json::array tops;
  json::array offsets;
  for (const token_record& record : *records) {
    tokens.emplace_back(json_text(token_text(record.token.bytes)));
    logprobs.emplace_back(shown_logprob(record.token.logprob));
    json::object top;
    for (const token_probability& token : record.top) {
      // Two tokens may have one text; the more likely one comes first and stays.
      const std::string text = token_text(token.bytes);
      top.emplace(json::string_view(text.data(), text.size()), shown_logprob(token.logprob));
    }
    tops.emplace_back(std::move(top));
    offsets.emplace_back(record.text_offset);
  }
  json::object object;
  object["tokens"] = std::move(tokens);
  object["token_logprobs"] = std::move(logprobs);
  object["top_logprobs"] = std::move(tops);
  object["text_offset"] = std::move(offsets);
  return object;
}

json::value chat_logprobs(const std::optional<std::vector<token_record>>& records) {
  if (!records) return nullptr;
  json::array content;
  for (const token_record& record : *records) {
    json::array tops;
    for (const token_probability& token : record.top) tops.emplace_back(chat_token(token));
    json::object entry = chat_token(record.token);
    entry["top_logprobs"] = std::move(tops);
    content.emplace_back(std::move(entry));
  }
  json::object object;
  object["content"] = std::move(content);
  object["refusal"] = nullptr;
  return object;
}

json::object identity_object(const response_identity& identity, std::string_view object) {
  json::object head;
  head["id"] = json_text(identity.id);
  head["object"] = json_text(object);
  head["created"] = identity.created;
  head["model"] = json_text(identity.model);
  return head;
}

std::string stream_event(const json::object& object) {
  return "data: " + json::serialize(object) + "\n\n";
}

}  // namespace bitnet::http::openai
