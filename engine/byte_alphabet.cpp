#include "engine/byte_alphabet.hpp"

#include <array>
#include <cstdint>

namespace bitnet::engine {

namespace {

constexpr unsigned first_substitute = 0x100;
constexpr unsigned substitute_count = 68;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct alphabet {
  std::array<std::uint16_t, 256> code_point{};                           ///< by byte
  std::array<std::int16_t, first_substitute + substitute_count> byte{};  ///< by code point, -1 for none
};

constexpr alphabet make_alphabet() {
  alphabet result;
  result.byte.fill(-1);
  unsigned next = first_substitute;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const unsigned point = stands_for_itself(byte) ? byte : next++;
    result.code_point[byte] = static_cast<std::uint16_t>(point);
    result.byte[point] = static_cast<std::int16_t>(byte);
  }
  return result;
}

constexpr alphabet letters = make_alphabet();
static_assert(letters.code_point[' '] == 0x120, "the space is spelled U+0120 in GPT-2's vocabulary");
static_assert(letters.code_point[0xAD] == first_substitute + substitute_count - 1);

}  // namespace

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  std::string bytes;
  bytes.reserve(spelling.size());
  for (std::size_t i = 0; i < spelling.size(); ++i) {
    unsigned point = static_cast<unsigned char>(spelling[i]);
    if (point >= 0x80) {
      // The alphabet ends below U+0800, so only two-byte characters can belong to it.
      if (point < 0xC2 || point > 0xDF || i + 1 == spelling.size()) return std::nullopt;
      const unsigned tail = static_cast<unsigned char>(spelling[++i]);
      if ((tail & 0xC0U) != 0x80) return std::nullopt;
      point = ((point & 0x1FU) << 6U) | (tail & 0x3FU);
    }
    if (point >= letters.byte.size() || letters.byte[point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(letters.byte[point]));
  }
  return bytes;
}

std::string spelling_of_bytes(std::string_view bytes) {
  std::string spelling;
  spelling.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const unsigned point = letters.code_point[static_cast<unsigned char>(c)];
    if (point < 0x80) {
      spelling.push_back(static_cast<char>(point));
    } else {
      spelling.push_back(static_cast<char>(0xC0U | (point >> 6U)));
      spelling.push_back(static_cast<char>(0x80U | (point & 0x3FU)));
    }
  }
  return spelling;
}

}  // namespace bitnet::engine
