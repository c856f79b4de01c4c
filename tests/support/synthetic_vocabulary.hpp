#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bitnet::tests {

/// A byte-level BPE vocabulary with merges made by rule: as tokenizer.ggml.* keys describe one.
struct synthetic_vocabulary {
  std::vector<std::string> tokens;  ///< in the printable spelling that byte-level BPE uses
  std::vector<std::int32_t> types;  ///< 1 normal, 3 control
  std::vector<std::string> merges;  ///< "left right", most frequent first
  std::uint32_t begin_of_text = 0;
  std::uint32_t end_of_text = 0;
  std::uint32_t end_of_turn = 0;
};

/// The least size: 256 bytes and 16 control tokens.
inline constexpr std::uint32_t least_vocabulary_size = 272;

/// Ids 0-255 are the single bytes in order; then merges of letters (pairs, with a leading space, triples,
/// ...); the last 16 (256 from 4096 on) are control tokens, begin of text first, as in the Llama 3 family:
/// end of text follows it, end of turn comes 9 after it. Throws std::invalid_argument below the least size.
synthetic_vocabulary make_synthetic_vocabulary(std::uint32_t size);

}  // namespace bitnet::tests
