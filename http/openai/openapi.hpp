#pragma once

#include <string_view>

namespace bitnet::http::openai {

/// The description of the whole HTTP API, an OpenAPI 3.1 document in JSON (openapi.json with the version
/// filled in). Lives as long as the program.
std::string_view openapi_document() noexcept;

}  // namespace bitnet::http::openai
