#include "http/openai/generation_parameters.hpp"
#include "http/openai/request.hpp"

#include <boost/json/serialize.hpp>
#include <fmt/core.h>

#include <array>
#include <utility>

namespace bitnet::http::openai {

namespace json = boost::json;

namespace {

/// Appends the text of an array of content parts to `out`.
void read_parts(object_reader& reader, const json::array& parts, std::string& out) {
  if (parts.empty()) return reader.fail("content", codes::invalid_value, "must not be an empty array");
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string name = fmt::format("content[{}]", i);
    const json::object* part = parts[i].if_object();
    const json::value* type = part == nullptr ? nullptr : part->if_contains("type");
    if (type == nullptr || !type->is_string()) {
      return reader.fail(name, codes::invalid_type, "must be an object with the string \"type\"");
    }
    if (type->get_string() != "text") {
      return reader.fail(name, codes::unsupported_value,
                         "is not a part of type \"text\", the only one supported");
    }
    const json::value* text = part->if_contains("text");
    if (text == nullptr || !text->is_string()) {
      return reader.fail(name, codes::invalid_type, "must have the string \"text\"");
    }
    if (i > 0) out.push_back('\n');
    out.append(text->get_string().data(), text->get_string().size());
  }
}

/// An assistant's earlier tool calls, as it would write them.
void read_tool_calls(object_reader& reader, std::string& out) {
  const json::value* value = reader.find("tool_calls");
  if (value == nullptr) return;
  const json::array* calls = value->if_array();
  if (calls == nullptr) return reader.fail("tool_calls", codes::invalid_type, "must be an array");
  for (const json::value& call : *calls) {
    const json::object* object = call.if_object();
    const json::value* function = object == nullptr ? nullptr : object->if_contains("function");
    const json::object* named = function == nullptr ? nullptr : function->if_object();
    const json::value* name = named == nullptr ? nullptr : named->if_contains("name");
    const json::value* arguments = named == nullptr ? nullptr : named->if_contains("arguments");
    if (name == nullptr || !name->is_string() || arguments == nullptr || !arguments->is_string()) {
      return reader.fail("tool_calls", codes::invalid_type,
                         "must hold objects with a \"function\" of the strings \"name\" and \"arguments\"");
    }
    if (!out.empty()) out.push_back('\n');
    out += fmt::format(R"({{"name": {}, "arguments": {}}})", json::serialize(*name),
                       std::string_view(arguments->get_string()));
  }
}

void read_content(object_reader& reader, request_message& out) {
  const json::value* content = reader.find("content");
  const bool has_calls = out.role == "assistant" && reader.find("tool_calls") != nullptr;
  if (content == nullptr && !has_calls)
    return reader.fail("content", codes::missing_parameter, "is required");
  if (content != nullptr) {
    if (const json::string* text = content->if_string()) {
      out.content.assign(text->data(), text->size());
    } else if (const json::array* parts = content->if_array()) {
      read_parts(reader, *parts, out.content);
    } else {
      reader.fail("content", codes::invalid_type,
                  fmt::format("must be a string or an array of text parts, not {}", kind_name(*content)));
    }
  }
  if (has_calls) read_tool_calls(reader, out.content);
}

void read_message(object_reader& reader, request_message& out) {
  if (reader.find("role") == nullptr) return reader.fail("role", codes::missing_parameter, "is required");
  reader.string("role", out.role);
  if (reader.error()) return;
  if (out.role == "function") {
    return reader.fail("role", codes::unsupported_value, "is not supported; use the role \"tool\"");
  }
  if (out.role != "system" && out.role != "developer" && out.role != "user" && out.role != "assistant" &&
      out.role != "tool") {
    return reader.fail("role", codes::invalid_value, "must be system, developer, user, assistant or tool");
  }
  std::string name;
  reader.string("name", name);
  reader.string("tool_call_id", name);
  read_content(reader, out);
  // The templates know no tools; what one answered is news from outside, as the user's words are.
  if (out.role == "tool") out.role = "user";
}

void read_messages(object_reader& reader, const request_limits& limits, std::vector<request_message>& out) {
  const json::value* value = reader.find("messages");
  if (value == nullptr) return reader.fail("messages", codes::missing_parameter, "is required");
  const json::array* messages = value->if_array();
  if (messages == nullptr) {
    return reader.fail("messages", codes::invalid_type,
                       fmt::format("must be an array, not {}", kind_name(*value)));
  }
  if (messages->empty()) return reader.fail("messages", codes::invalid_value, "must not be empty");
  if (messages->size() > limits.max_messages) {
    return reader.fail(
        "messages", codes::invalid_value,
        fmt::format("has {} entries; at most {} are allowed", messages->size(), limits.max_messages));
  }
  out.resize(messages->size());
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const std::string name = fmt::format("messages[{}]", i);
    const json::object* message = (*messages)[i].if_object();
    if (message == nullptr) {
      return reader.fail(name, codes::invalid_type,
                         fmt::format("must be an object, not {}", kind_name((*messages)[i])));
    }
    object_reader message_reader(*message, name + ".");
    read_message(message_reader, out[i]);
    if (message_reader.error()) return reader.fail(*message_reader.error());
  }
}

void read_max_tokens(object_reader& reader, generation_parameters& out) {
  // max_completion_tokens is the newer name and wins.
  for (const std::string_view name : {"max_tokens", "max_completion_tokens"}) {
    if (reader.find(name) == nullptr) continue;
    std::uint32_t limit = 1;
    reader.count(name, 1, max_token_limit, limit);
    out.max_tokens = limit;
  }
}

void read_logprobs(object_reader& reader, generation_parameters& out) {
  reader.boolean("logprobs", out.want_logprobs);
  reader.count("top_logprobs", 0, max_top_logprobs, out.top_logprobs);
  if (out.top_logprobs > 0 && !out.want_logprobs) {
    reader.fail("top_logprobs", codes::invalid_value, "is only allowed when \"logprobs\" is true");
  }
}

bool is_text_only(const json::value& modalities) {
  const json::array* list = modalities.if_array();
  return list != nullptr && list->size() == 1 && list->front().is_string() &&
         list->front().get_string() == "text";
}

void refuse_unsupported(object_reader& reader) {
  for (const std::string_view name : {"audio", "web_search_options"}) {
    if (reader.find(name) != nullptr) reader.fail(name, codes::unsupported_parameter, "is not supported");
  }
  const json::value* modalities = reader.find("modalities");
  if (modalities != nullptr && !is_text_only(*modalities)) {
    reader.fail("modalities", codes::unsupported_value, "is not supported other than as [\"text\"]");
  }
}

/// Puts the instructions where a system message stands, or would.
void instruct(std::vector<request_message>& messages, const std::vector<tool_definition>& callable) {
  auto text = tool_instructions(callable);
  auto& first = messages.front();
  if (first.role == "system" || first.role == "developer")
    first.content += "\n\n" + text;
  else
    messages.insert(messages.begin(), {"system", std::move(text)});
}

}  // namespace

api_result<chat_request> parse_chat_request(std::string_view body, const request_limits& limits) {
  const auto document = parse_object(body, limits.max_body_bytes);
  if (!document) return tl::unexpected(document.error());
  object_reader reader(document->get_object());
  chat_request request;
  read_generation_parameters(reader, limits, request.parameters);
  read_max_tokens(reader, request.parameters);
  read_logprobs(reader, request.parameters);
  refuse_unsupported(reader);
  request.callable = read_tools(reader);
  if (!reader.error()) read_messages(reader, limits, request.messages);
  if (reader.error()) return tl::unexpected(*reader.error());
  if (!request.callable.empty()) {
    request.parameters.json_schema = tool_call_schema(request.callable);
    instruct(request.messages, request.callable);
  }
  return request;
}

}  // namespace bitnet::http::openai
