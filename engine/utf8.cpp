#include "engine/utf8.hpp"

#include "engine/tokenizer.hpp"

namespace bitnet::engine {

namespace {

constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

/// What may follow a lead byte: `length` 0 marks a byte that starts nothing.
struct lead_rule {
  std::size_t length;
  unsigned char second_min;
  unsigned char second_max;
};

constexpr lead_rule rule_of(unsigned char lead) noexcept {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

/// Appends what is complete in `bytes`; returns how many bytes were consumed. Only an incomplete character at
/// the end is left over.
std::size_t append_valid(std::string_view bytes, std::string& out) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto [length, status] = next_utf8_sequence(bytes.substr(done));
    if (status == utf8_status::incomplete) break;
    out.append(status == utf8_status::valid ? bytes.substr(done, length) : replacement_character);
    done += length;
  }
  return done;
}

}  // namespace

utf8_sequence next_utf8_sequence(std::string_view text) noexcept {
  const auto byte_at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const lead_rule rule = rule_of(byte_at(0));
  if (rule.length == 0) return {1, utf8_status::invalid};
  for (std::size_t i = 1; i < rule.length; ++i) {
    if (i == text.size()) return {i, utf8_status::incomplete};
    const unsigned char low = i == 1 ? rule.second_min : 0x80;
    const unsigned char high = i == 1 ? rule.second_max : 0xBF;
    if (byte_at(i) < low || byte_at(i) > high) return {i, utf8_status::invalid};
  }
  return {rule.length, utf8_status::valid};
}

std::string utf8_stream::push(std::string_view bytes) {
  std::string text;
  if (pending_.empty()) {
    text.reserve(bytes.size());
    const std::size_t done = append_valid(bytes, text);
    pending_.assign(bytes.substr(done));
    return text;
  }
  pending_.append(bytes);
  const std::size_t done = append_valid(pending_, text);
  pending_.erase(0, done);
  return text;
}

std::string utf8_stream::finish() {
  // What is pending is the beginning of one character: a single maximal subpart.
  std::string text;
  if (!pending_.empty()) text = replacement_character;
  pending_.clear();
  return text;
}

}  // namespace bitnet::engine
