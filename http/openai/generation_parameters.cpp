#include "http/openai/generation_parameters.hpp"

#include <boost/json/serialize.hpp>
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <limits>

namespace bitnet::http::openai {

namespace json = boost::json;

namespace {

constexpr std::size_t max_stop_strings = 4;
constexpr std::int64_t max_priority = 1'000'000;

void read_stop(object_reader& reader, const request_limits& limits, std::vector<std::string>& out) {
  const json::value* value = reader.find("stop");
  if (value == nullptr) return;
  if (const json::string* text = value->if_string()) {
    out.emplace_back(text->data(), text->size());
  } else if (const json::array* list = value->if_array()) {
    if (list->size() > max_stop_strings) {
      return reader.fail(
          "stop", codes::invalid_value,
          fmt::format("has {} strings; at most {} are allowed", list->size(), max_stop_strings));
    }
    for (const json::value& item : *list) {
      if (!item.is_string()) {
        return reader.fail(
            "stop", codes::invalid_type,
            fmt::format("must be a string or an array of strings, not of {}", kind_name(item)));
      }
      out.emplace_back(item.get_string().data(), item.get_string().size());
    }
  } else {
    return reader.fail("stop", codes::invalid_type,
                       fmt::format("must be a string or an array of strings, not {}", kind_name(*value)));
  }
  for (const std::string& text : out) {
    if (text.empty()) return reader.fail("stop", codes::invalid_value, "must not hold an empty string");
    if (text.size() > limits.max_stop_bytes) {
      return reader.fail("stop", codes::invalid_value,
                         fmt::format("holds a string of more than {} bytes", limits.max_stop_bytes));
    }
  }
}

void read_logit_bias(object_reader& reader, const request_limits& limits, sampling_options& out) {
  const json::value* value = reader.find("logit_bias");
  if (value == nullptr) return;
  const json::object* biases = value->if_object();
  if (biases == nullptr) {
    return reader.fail("logit_bias", codes::invalid_type,
                       fmt::format("must be an object of token ids and numbers, not {}", kind_name(*value)));
  }
  if (biases->size() > limits.max_logit_biases) {
    return reader.fail(
        "logit_bias", codes::invalid_value,
        fmt::format("has {} entries; at most {} are allowed", biases->size(), limits.max_logit_biases));
  }
  for (const auto& [key, bias] : *biases) {
    std::uint32_t id = 0;
    const char* end = key.data() + key.size();
    const auto [read, failure] = std::from_chars(key.data(), end, id);
    if (failure != std::errc() || read != end) {
      return reader.fail("logit_bias", codes::invalid_value,
                         "must have token ids as its keys, such as \"1234\"");
    }
    if (!bias.is_number()) {
      return reader.fail("logit_bias", codes::invalid_type,
                         fmt::format("must map token ids to numbers, not to {}", kind_name(bias)));
    }
    const auto number = bias.to_number<double>();
    if (!(number >= -100 && number <= 100)) {
      return reader.fail("logit_bias", codes::invalid_value,
                         "must map token ids to numbers between -100 and 100");
    }
    out.logit_bias.emplace_back(id, static_cast<float>(number));
  }
}

void read_seed(object_reader& reader, sampling_options& out) {
  const json::value* value = reader.find("seed");
  if (value == nullptr) return;
  if (const std::uint64_t* large = value->if_uint64()) {
    out.seed = *large;
    return;
  }
  std::int64_t seed = 0;
  reader.integer("seed", std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max(),
                 seed);
  out.seed = static_cast<std::uint64_t>(seed);
}

void read_stream(object_reader& reader, generation_parameters& out) {
  reader.boolean("stream", out.stream);
  const json::value* value = reader.find("stream_options");
  if (value == nullptr) return;
  const json::object* options = value->if_object();
  if (options == nullptr) {
    return reader.fail("stream_options", codes::invalid_type,
                       fmt::format("must be an object, not {}", kind_name(*value)));
  }
  if (!out.stream) {
    return reader.fail("stream_options", codes::invalid_value, "is only allowed when \"stream\" is true");
  }
  object_reader option_reader(*options, "stream_options.");
  option_reader.boolean("include_usage", out.include_usage);
  if (option_reader.error()) reader.fail(*option_reader.error());
}

/// The JSON schema that "response_format" asks for.
void read_response_format(object_reader& reader, std::string& out) {
  const json::value* value = reader.find("response_format");
  if (value == nullptr) return;
  const json::object* format = value->if_object();
  const json::value* type = format == nullptr ? nullptr : format->if_contains("type");
  if (type == nullptr || !type->is_string()) {
    return reader.fail("response_format", codes::invalid_type, "must be an object with the string \"type\"");
  }
  if (type->get_string() == "text") return;
  if (type->get_string() == "json_object") {
    out = R"({"type":"object"})";
    return;
  }
  if (type->get_string() != "json_schema") {
    return reader.fail("response_format", codes::unsupported_value,
                       R"(supports the types "text", "json_object" and "json_schema")");
  }
  const json::value* described = format->if_contains("json_schema");
  if (described == nullptr || !described->is_object()) {
    return reader.fail("response_format.json_schema", codes::missing_parameter,
                       "is required with the type \"json_schema\", and must be an object");
  }
  object_reader schema_reader(described->get_object(), "response_format.json_schema.");
  std::string name;
  schema_reader.string("name", name);
  schema_reader.string("description", name);
  bool strict = true;
  schema_reader.boolean("strict", strict);
  const json::value* schema = schema_reader.find("schema");
  if (!schema_reader.error() && schema == nullptr)
    schema_reader.fail("schema", codes::missing_parameter, "is required");
  else if (schema != nullptr && !schema->is_object())
    schema_reader.fail("schema", codes::invalid_type, "must be a JSON schema: an object");
  if (schema_reader.error()) return reader.fail(*schema_reader.error());
  out = json::serialize(*schema);
}

void read_timeout(object_reader& reader, double& out) {
  float seconds = 0;
  reader.number("timeout", 0, static_cast<double>(max_timeout_seconds), seconds);
  if (reader.find("timeout") != nullptr && !(seconds > 0))
    reader.fail("timeout", codes::invalid_value,
                fmt::format("must be greater than 0 and at most {} seconds", max_timeout_seconds));
  out = static_cast<double>(seconds);
}

/// Members that change nothing here: they must have the right type all the same.
void check_ignored(object_reader& reader) {
  std::string text;
  for (const std::string_view name : {"user", "service_tier", "safety_identifier", "prompt_cache_key"})
    reader.string(name, text);
  bool store = false;
  reader.boolean("store", store);
  const json::value* metadata = reader.find("metadata");
  if (metadata != nullptr && !metadata->is_object())
    reader.fail("metadata", codes::invalid_type,
                fmt::format("must be an object, not {}", kind_name(*metadata)));
}

}  // namespace

void read_sampling(object_reader& reader, const request_limits& limits, sampling_options& out) {
  reader.number("temperature", 0, 2, out.temperature);
  reader.number("top_p", 0, 1, out.top_p);
  // The smallest nucleus is the most likely token alone, which is what 0 asks for.
  out.top_p = std::max(out.top_p, std::numeric_limits<float>::min());
  reader.number("min_p", 0, 1, out.min_p);
  std::int64_t top_k = out.top_k;
  reader.integer("top_k", -1, std::numeric_limits<std::int32_t>::max(), top_k);
  out.top_k = top_k < 0 ? 0 : static_cast<std::uint32_t>(top_k);
  reader.number("repetition_penalty", 0, 2, out.repetition_penalty);
  if (out.repetition_penalty <= 0) {
    reader.fail("repetition_penalty", codes::invalid_value, "must be greater than 0 and at most 2");
  }
  reader.number("frequency_penalty", -2, 2, out.frequency_penalty);
  reader.number("presence_penalty", -2, 2, out.presence_penalty);
  read_seed(reader, out);
  read_logit_bias(reader, limits, out);
}

void read_generation_parameters(object_reader& reader, const request_limits& limits,
                                generation_parameters& out) {
  reader.string("model", out.model);
  reader.count("n", 1, limits.max_choices, out.n);
  read_sampling(reader, limits, out.sampling);
  read_stop(reader, limits, out.stop);
  read_stream(reader, out);
  reader.boolean("ignore_eos", out.ignore_eos);
  read_response_format(reader, out.json_schema);
  read_timeout(reader, out.timeout_seconds);
  reader.count("priority", -max_priority, max_priority, out.priority);
  check_ignored(reader);
}

}  // namespace bitnet::http::openai
