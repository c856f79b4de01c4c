#include "tests/support/synthetic_vocabulary.hpp"

#include <stdexcept>

namespace bitnet::tests {

namespace {

std::string utf8(std::uint32_t code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0U | code_point >> 6U), static_cast<char>(0x80U | (code_point & 0x3FU))};
}

/// Byte-level BPE spells bytes that are no printable Latin-1 characters as code points from 256 on, in order.
std::vector<std::string> byte_spellings() {
  std::vector<std::string> spellings;
  std::uint32_t next = 256;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    spellings.push_back(utf8(printable ? byte : next++));
  }
  return spellings;
}

}  // namespace

synthetic_vocabulary make_synthetic_vocabulary(std::uint32_t size) {
  if (size < least_vocabulary_size)
    throw std::invalid_argument("a vocabulary needs at least " + std::to_string(least_vocabulary_size) +
                                " tokens");
  const std::uint32_t control_count = size >= 4096 ? 256 : 16;
  const std::uint32_t merged_end = size - control_count;

  synthetic_vocabulary vocabulary;
  vocabulary.tokens = byte_spellings();
  std::vector<std::string> letters;
  for (char c = 'a'; c <= 'z'; ++c) letters.emplace_back(1, c);
  const std::string space = vocabulary.tokens[' '];
  // Each round joins every piece of the round before with every letter: all strings of one letter more.
  std::vector<std::string> pieces = letters;
  pieces.push_back(space);
  while (vocabulary.tokens.size() < merged_end) {
    std::vector<std::string> longer;
    for (const std::string& piece : pieces) {
      for (const std::string& letter : letters) {
        if (vocabulary.tokens.size() == merged_end) break;
        vocabulary.merges.push_back(piece + " " + letter);
        vocabulary.tokens.push_back(piece + letter);
        longer.push_back(piece + letter);
      }
    }
    pieces = std::move(longer);
  }
  vocabulary.types.assign(vocabulary.tokens.size(), 1);

  vocabulary.begin_of_text = merged_end;
  vocabulary.end_of_text = merged_end + 1;
  vocabulary.end_of_turn = merged_end + 9;
  for (std::uint32_t id = merged_end; id < size; ++id) {
    std::string spelling = "<|reserved_special_token_" + std::to_string(id - merged_end) + "|>";
    if (id == vocabulary.begin_of_text) spelling = "<|begin_of_text|>";
    if (id == vocabulary.end_of_text) spelling = "<|end_of_text|>";
    if (id == vocabulary.end_of_turn) spelling = "<|eot_id|>";
    vocabulary.tokens.push_back(spelling);
    vocabulary.types.push_back(3);
  }
  return vocabulary;
}

}  // namespace bitnet::tests
