#pragma once

#include <tl/expected.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace bitnet::http::openai {

/// What the OpenAI API says when it refuses: an HTTP status and the members of its error object.
struct api_error {
  unsigned status = 400;
  std::string type = "invalid_request_error";
  std::string message;               ///< one sentence for people
  std::optional<std::string> param;  ///< the request's member that is wrong
  std::optional<std::string> code;   ///< stable, for programs
};

template <class T>
using api_result = tl::expected<T, api_error>;

/// The codes of 400 answers, as the OpenAI API spells them.
namespace codes {
inline constexpr std::string_view invalid_json = "invalid_json";
inline constexpr std::string_view invalid_type = "invalid_type";
inline constexpr std::string_view invalid_value = "invalid_value";
inline constexpr std::string_view missing_parameter = "missing_required_parameter";
inline constexpr std::string_view unsupported_parameter = "unsupported_parameter";
inline constexpr std::string_view unsupported_value = "unsupported_value";
}  // namespace codes

/// 400. `param` may be empty: the request as a whole is wrong.
api_error bad_request(std::string_view param, std::string_view code, std::string message);

/// 404 for a model that is not loaded.
api_error model_not_found(std::string_view model);

/// {"error":{"message","type","param","code"}}
std::string render_error(const api_error& error);

/// The error as an event of a stream that began already: "data: {...}\n\n".
std::string render_error_event(const api_error& error);

}  // namespace bitnet::http::openai
