#pragma once

#include <string>
#include <string_view>

namespace bitnet::http::openai {

/// JSON text must be UTF-8, but token bytes and file names need not be.
bool is_valid_utf8(std::string_view text) noexcept;

/// `text` with U+FFFD in place of each byte that belongs to no character.
std::string valid_utf8(std::string_view text);

}  // namespace bitnet::http::openai
