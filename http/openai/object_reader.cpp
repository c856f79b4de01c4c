#include "http/openai/object_reader.hpp"

#include <boost/json/parse.hpp>
#include <fmt/core.h>

#include <cmath>
#include <exception>
#include <limits>
#include <utility>

namespace bitnet::http::openai {

namespace json = boost::json;

api_result<json::value> parse_object(std::string_view body, std::size_t max_bytes) {
  if (body.size() > max_bytes) {
    api_error error =
        bad_request({}, "request_too_large",
                    fmt::format("The body has {} bytes; at most {} are read.", body.size(), max_bytes));
    error.status = 413;
    return tl::unexpected(std::move(error));
  }
  try {
    json::parse_options options;
    options.max_depth = 32;
    json::error_code failure;
    json::value document = json::parse(json::string_view(body.data(), body.size()), failure, {}, options);
    if (failure) {
      return tl::unexpected(bad_request({}, codes::invalid_json,
                                        fmt::format("The body is not valid JSON: {}.", failure.message())));
    }
    if (!document.is_object()) {
      return tl::unexpected(
          bad_request({}, codes::invalid_type,
                      fmt::format("The body must be a JSON object, not {}.", kind_name(document))));
    }
    return document;
  } catch (const std::exception& problem) {
    // std::bad_alloc, and what a newer parser may throw.
    api_error error;
    error.status = 500;
    error.type = "server_error";
    error.message = fmt::format("The body could not be read: {}.", problem.what());
    return tl::unexpected(std::move(error));
  }
}

std::string_view kind_name(const json::value& value) noexcept {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
      return "an integer";
    case json::kind::double_:
      return "a number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "an array";
    case json::kind::object:
      return "an object";
  }
  return "unknown";
}

std::optional<std::int64_t> integral_value(const json::value& value) noexcept {
  if (const std::int64_t* integer = value.if_int64()) return *integer;
  const double* number = value.if_double();
  // 2^53 is where doubles stop counting one by one; NaN fails the comparison.
  constexpr double exact = 9007199254740992.0;
  if (number == nullptr || !(std::abs(*number) <= exact) || *number != std::trunc(*number))
    return std::nullopt;
  return static_cast<std::int64_t>(*number);
}

std::optional<std::vector<std::uint32_t>> token_ids(const json::array& array) {
  std::vector<std::uint32_t> ids;
  ids.reserve(array.size());
  for (const json::value& item : array) {
    const auto id = integral_value(item);
    if (!id || *id < 0 || *id > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
    ids.push_back(static_cast<std::uint32_t>(*id));
  }
  return ids;
}

object_reader::object_reader(const json::object& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

const json::value* object_reader::find(std::string_view name) const {
  if (error_) return nullptr;
  const json::value* value = object_.if_contains(json::string_view(name.data(), name.size()));
  return value == nullptr || value->is_null() ? nullptr : value;
}

void object_reader::boolean(std::string_view name, bool& out) {
  const json::value* value = find(name);
  if (value == nullptr) return;
  if (!value->is_bool()) {
    return fail(name, codes::invalid_type, fmt::format("must be a boolean, not {}", kind_name(*value)));
  }
  out = value->get_bool();
}

void object_reader::string(std::string_view name, std::string& out) {
  const json::value* value = find(name);
  if (value == nullptr) return;
  if (!value->is_string()) {
    return fail(name, codes::invalid_type, fmt::format("must be a string, not {}", kind_name(*value)));
  }
  out.assign(value->get_string().data(), value->get_string().size());
}

void object_reader::number(std::string_view name, double min, double max, float& out) {
  const json::value* value = find(name);
  if (value == nullptr) return;
  if (!value->is_number()) {
    return fail(name, codes::invalid_type, fmt::format("must be a number, not {}", kind_name(*value)));
  }
  const auto number = value->to_number<double>();
  // The comparison is false for NaN and infinities too: "1e999" is one.
  if (!(number >= min && number <= max)) {
    return fail(name, codes::invalid_value,
                fmt::format("must be between {} and {}, but is {}", min, max, number));
  }
  out = static_cast<float>(number);
}

void object_reader::integer(std::string_view name, std::int64_t min, std::int64_t max, std::int64_t& out) {
  const json::value* value = find(name);
  if (value == nullptr) return;
  if (!value->is_number()) {
    return fail(name, codes::invalid_type, fmt::format("must be an integer, not {}", kind_name(*value)));
  }
  const auto integer = integral_value(*value);
  if (!integer && !value->is_uint64() && std::isfinite(value->to_number<double>()) &&
      value->to_number<double>() != std::trunc(value->to_number<double>())) {
    return fail(name, codes::invalid_type, "must be an integer, without a fraction");
  }
  if (!integer || *integer < min || *integer > max) {
    return fail(name, codes::invalid_value, fmt::format("must be between {} and {}", min, max));
  }
  out = *integer;
}

void object_reader::fail(std::string_view name, std::string_view code, std::string_view message) {
  const std::string param = prefix_ + std::string(name);
  fail(bad_request(param, code, fmt::format("\"{}\" {}.", param, message)));
}

void object_reader::fail(api_error error) {
  if (!error_) error_ = std::move(error);
}

}  // namespace bitnet::http::openai
