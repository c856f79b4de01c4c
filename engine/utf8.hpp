#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace bitnet::engine {

enum class utf8_status : std::uint8_t {
  valid,       ///< a whole character
  invalid,     ///< a maximal subpart of an ill-formed sequence: one U+FFFD stands for it
  incomplete,  ///< well-formed so far, but the text ends inside the character
};

struct utf8_sequence {
  std::size_t length;  ///< bytes, at least 1
  utf8_status status;
};

/// Classifies the bytes at the start of `text`, which must not be empty. Overlong forms, surrogates and
/// values above U+10FFFF are invalid. Unicode 15, chapter 3, table 3-7 and "U+FFFD Substitution of Maximal
/// Subparts".
utf8_sequence next_utf8_sequence(std::string_view text) noexcept;

}  // namespace bitnet::engine
