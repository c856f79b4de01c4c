#include "http/openai/response.hpp"

#include "http/openai/json_objects.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <utility>

namespace bitnet::http::openai {

namespace json = boost::json;

namespace {

json::value finish_or_null(const std::optional<finish_reason>& finish) {
  if (!finish) return nullptr;
  return json_name(*finish);
}

json::object completion_choice(std::uint32_t index, std::string_view text,
                               const std::optional<std::vector<token_record>>& logprobs,
                               const std::optional<finish_reason>& finish) {
  json::object choice;
  choice["index"] = index;
  choice["text"] = json_text(text);
  choice["logprobs"] = completion_logprobs(logprobs);
  choice["finish_reason"] = finish_or_null(finish);
  return choice;
}

json::object chat_delta_choice(std::uint32_t index, json::object delta,
                               const std::optional<std::vector<token_record>>& logprobs,
                               const std::optional<finish_reason>& finish) {
  json::object choice;
  choice["index"] = index;
  choice["delta"] = std::move(delta);
  choice["logprobs"] = chat_logprobs(logprobs);
  choice["finish_reason"] = finish_or_null(finish);
  return choice;
}

constexpr std::string_view completion_name = "text_completion";
constexpr std::string_view chat_name = "chat.completion";
constexpr std::string_view chat_chunk_name = "chat.completion.chunk";

std::string chunk(const stream_identity& stream, std::string_view object, json::object choice) {
  json::object document = identity_object(stream.response, object);
  json::array choices;
  choices.emplace_back(std::move(choice));
  document["choices"] = std::move(choices);
  if (stream.announces_usage) document["usage"] = nullptr;
  return stream_event(document);
}

std::string usage_chunk(const stream_identity& stream, std::string_view object, const usage_counts& usage) {
  json::object document = identity_object(stream.response, object);
  document["choices"] = json::array();
  document["usage"] = usage_object(usage);
  return stream_event(document);
}

std::string whole(const response_identity& identity, std::string_view object, json::array choices,
                  const usage_counts& usage) {
  json::object document = identity_object(identity, object);
  document["choices"] = std::move(choices);
  document["usage"] = usage_object(usage);
  return json::serialize(document);
}

json::object call_object(std::string_view id, const tool_call& call) {
  json::object function;
  function["name"] = json_text(call.name);
  function["arguments"] = json_text(call.arguments);
  json::object object;
  object["id"] = json_text(id);
  object["type"] = "function";
  object["function"] = std::move(function);
  return object;
}

/// A delta with the one call of an answer.
json::object call_delta(json::object call) {
  json::object indexed;
  indexed["index"] = 0;
  for (auto& [key, value] : call) indexed[key] = std::move(value);
  json::object delta;
  delta["tool_calls"] = json::array{std::move(indexed)};
  return delta;
}

json::object model_object(const model_entry& model) {
  json::object object;
  object["id"] = json_text(model.id);
  object["object"] = "model";
  object["created"] = model.created;
  object["owned_by"] = json_text(model.owned_by);
  object["max_model_len"] = model.context_length;
  return object;
}

}  // namespace

std::string render_completion(const response_identity& identity, const std::vector<response_choice>& choices,
                              const usage_counts& usage) {
  json::array list;
  for (const response_choice& choice : choices) {
    list.emplace_back(completion_choice(choice.index, choice.text, choice.logprobs, choice.finish));
  }
  return whole(identity, completion_name, std::move(list), usage);
}

std::string render_chat(const response_identity& identity, const std::vector<response_choice>& choices,
                        const usage_counts& usage) {
  json::array list;
  for (const response_choice& choice : choices) {
    json::object message;
    message["role"] = "assistant";
    message["content"] = choice.call ? json::value(nullptr) : json::value(json_text(choice.text));
    message["refusal"] = nullptr;
    if (choice.call) message["tool_calls"] = json::array{call_object(choice.call_id, *choice.call)};
    json::object entry;
    entry["index"] = choice.index;
    entry["message"] = std::move(message);
    entry["logprobs"] = chat_logprobs(choice.logprobs);
    entry["finish_reason"] = json_name(choice.finish);
    list.emplace_back(std::move(entry));
  }
  return whole(identity, chat_name, std::move(list), usage);
}

std::string completion_chunk(const stream_identity& stream, const choice_delta& delta) {
  return chunk(stream, completion_name,
               completion_choice(delta.index, delta.text, delta.logprobs, std::nullopt));
}

std::string completion_finish_chunk(const stream_identity& stream, std::uint32_t index,
                                    finish_reason finish) {
  return chunk(stream, completion_name, completion_choice(index, "", std::nullopt, finish));
}

std::string completion_usage_chunk(const stream_identity& stream, const usage_counts& usage) {
  return usage_chunk(stream, completion_name, usage);
}

std::string chat_role_chunk(const stream_identity& stream, std::uint32_t index) {
  json::object delta;
  delta["role"] = "assistant";
  delta["content"] = "";
  return chunk(stream, chat_chunk_name,
               chat_delta_choice(index, std::move(delta), std::nullopt, std::nullopt));
}

std::string chat_chunk(const stream_identity& stream, const choice_delta& delta) {
  json::object content;
  content["content"] = json_text(delta.text);
  return chunk(stream, chat_chunk_name,
               chat_delta_choice(delta.index, std::move(content), delta.logprobs, std::nullopt));
}

std::string chat_call_chunk(const stream_identity& stream, std::uint32_t index, std::string_view call_id,
                            const tool_call& call) {
  return chunk(stream, chat_chunk_name,
               chat_delta_choice(index, call_delta(call_object(call_id, call)), std::nullopt, std::nullopt));
}

std::string chat_arguments_chunk(const stream_identity& stream, const choice_delta& delta) {
  json::object function;
  function["arguments"] = json_text(delta.text);
  json::object call;
  call["function"] = std::move(function);
  return chunk(stream, chat_chunk_name,
               chat_delta_choice(delta.index, call_delta(std::move(call)), delta.logprobs, std::nullopt));
}

std::string chat_finish_chunk(const stream_identity& stream, std::uint32_t index, finish_reason finish) {
  return chunk(stream, chat_chunk_name, chat_delta_choice(index, json::object(), std::nullopt, finish));
}

std::string chat_usage_chunk(const stream_identity& stream, const usage_counts& usage) {
  return usage_chunk(stream, chat_chunk_name, usage);
}

std::string render_inference(std::string_view text, const inference_figures& figures) {
  json::object document;
  document["text"] = json_text(text);
  document["tokens_generated"] = figures.tokens;
  document["inference_time_ms"] = static_cast<std::uint64_t>(figures.seconds * 1e3);
  document["tokens_per_second"] =
      figures.seconds > 0 ? static_cast<double>(figures.tokens) / figures.seconds : 0.0;
  document["device_used"] = figures.on_gpu ? "Cuda" : "Cpu";
  document["quantization_type"] = "W1.58A8";
  document["batch_id"] = nullptr;
  document["batch_size"] = nullptr;
  document["queue_time_ms"] = static_cast<std::uint64_t>(figures.queue_seconds * 1e3);
  return json::serialize(document);
}

std::string render_model_list(const std::vector<model_entry>& models) {
  json::array data;
  for (const model_entry& model : models) data.emplace_back(model_object(model));
  json::object document;
  document["object"] = "list";
  document["data"] = std::move(data);
  return json::serialize(document);
}

std::string render_model(const model_entry& model) {
  return json::serialize(model_object(model));
}

std::string render_model_deleted(std::string_view id) {
  json::object document;
  document["id"] = json_text(id);
  document["object"] = "model";
  document["deleted"] = true;
  return json::serialize(document);
}

std::string render_model_loading(std::string_view path) {
  json::object document;
  document["object"] = "model.load";
  document["status"] = "loading";
  document["path"] = json_text(path);
  return json::serialize(document);
}

std::string render_tokens(const std::vector<std::uint32_t>& tokens) {
  json::object document;
  document["tokens"] = json::array(tokens.begin(), tokens.end());
  document["count"] = tokens.size();
  return json::serialize(document);
}

std::string render_detokenized(std::string_view bytes) {
  json::object document;
  document["content"] = json_text(bytes);
  return json::serialize(document);
}

}  // namespace bitnet::http::openai
