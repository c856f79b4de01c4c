#include "apps/bitnet_server/fault_answers.hpp"

#include "http/openai/object_reader.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

namespace bitnet::apps {

namespace json = boost::json;
namespace openai = http::openai;

namespace {

constexpr std::size_t largest_body = 4096;

std::string list(const actors::fault_injection& faults) {
  json::array all;
  for (const auto& fault : faults.declared())
    all.push_back(json::object{{"fault", fault.name}, {"help", fault.help}});
  return json::serialize(json::object{{"faults", std::move(all)}});
}

openai::api_result<actors::fault_request> parse(const json::object& body) {
  openai::object_reader reader(body);
  actors::fault_request request;
  reader.string("fault", request.fault);
  if (reader.error()) return tl::unexpected(*reader.error());
  if (request.fault.empty())
    return tl::unexpected(
        openai::bad_request("fault", openai::codes::missing_parameter, "'fault' is required"));
  for (const auto& [key, value] : body) {
    const std::string name{key};
    if (name == "fault") continue;
    if (const auto* text = value.if_string())
      request.parameters[name] = std::string{*text};
    else if (value.is_int64() || value.is_uint64() || value.is_bool())
      request.parameters[name] = json::serialize(value);
    else if (const auto* number = value.if_double())
      request.parameters[name] = fmt::format("{}", *number);
    else
      return tl::unexpected(
          openai::bad_request(name, openai::codes::invalid_type, "must be a number or a string"));
  }
  return request;
}

}  // namespace

openai::api_result<std::string> answer_faults(const http::api_request& request,
                                              const actors::fault_injection& faults) {
  if (request.method != "POST") return list(faults);
  const auto body = openai::parse_object(request.body, largest_body);
  if (!body) return tl::unexpected(body.error());
  const auto wanted = parse(body->get_object());
  if (!wanted) return tl::unexpected(wanted.error());
  spdlog::warn("fault injection: {}", request.body);
  const auto done = faults.cause(*wanted);
  if (!done) return tl::unexpected(openai::bad_request("fault", openai::codes::invalid_value, done.error()));
  return json::serialize(json::object{{"fault", wanted->fault}, {"done", *done}});
}

}  // namespace bitnet::apps
