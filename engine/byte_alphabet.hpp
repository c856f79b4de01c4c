#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace bitnet::engine {

/// The alphabet in which byte-level BPE vocabularies spell their tokens: each byte is one printable Unicode
/// character. Printable Latin-1 bytes stand for themselves, the other 68 for U+0100 onwards in byte order
/// (GPT-2's bytes_to_unicode).

/// The bytes that `spelling` stands for, or nothing where it has a character outside the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

/// The spelling of `bytes`: UTF-8, one or two bytes a byte.
std::string spelling_of_bytes(std::string_view bytes);

}  // namespace bitnet::engine
