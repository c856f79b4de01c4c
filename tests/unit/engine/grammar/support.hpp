#pragma once

#include "engine/grammar/json_schema.hpp"
#include "engine/grammar/matcher.hpp"
#include "engine/grammar/states.hpp"

#include <boost/json/parse.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::tests {

/// The states of a schema that must compile.
inline engine::grammar::states states_of(std::string_view schema) {
  auto automaton = engine::grammar::compile_json_schema(schema);
  BOOST_REQUIRE_MESSAGE(automaton.has_value(), (automaton ? "" : automaton.error().message));
  return engine::grammar::states(std::move(*automaton));
}

inline engine::grammar::state_id state_after(engine::grammar::states& of, std::string_view text) {
  auto at = of.start();
  for (const char c : text) at = of.next(at, static_cast<std::uint8_t>(c));
  return at;
}

inline bool accepts(engine::grammar::states& of, std::string_view text) {
  return of.may_end(state_after(of, text));
}

inline bool accepts(std::string_view schema, std::string_view text) {
  auto of = states_of(schema);
  return accepts(of, text);
}

/// Why a schema is refused; empty where it is not.
inline std::string refusal(std::string_view schema) {
  const auto automaton = engine::grammar::compile_json_schema(schema);
  return automaton ? std::string() : automaton.error().message;
}

/// A text that the schema allows, byte by byte at random; nothing where it became longer than `most`.
inline std::optional<std::string> random_text(engine::grammar::states& of, std::mt19937& random,
                                              std::size_t most = 4000) {
  std::string text;
  auto at = of.start();
  while (!of.must_end(at) && !(of.may_end(at) && random() % 4 == 0)) {
    std::vector<std::uint8_t> open;
    for (unsigned byte = 0; byte < 256; ++byte)
      if (of.next(at, static_cast<std::uint8_t>(byte)) != engine::grammar::states::dead)
        open.push_back(static_cast<std::uint8_t>(byte));
    BOOST_REQUIRE_MESSAGE(!open.empty(), "a dead end after " << text);
    // Quotes end strings: without a push they would go on for hundreds of bytes.
    const bool quote = std::find(open.begin(), open.end(), '"') != open.end() && random() % 8 == 0;
    const auto byte = quote ? std::uint8_t{'"'} : open[random() % open.size()];
    text.push_back(static_cast<char>(byte));
    at = of.next(at, byte);
    if (text.size() > most) return std::nullopt;
  }
  return text;
}

/// A vocabulary of all bytes, of some longer texts, and of a control token that ends a completion.
class byte_tokenizer final : public engine::tokenizer {
 public:
  byte_tokenizer() {
    for (int byte = 0; byte < 256; ++byte) texts_.emplace_back(1, static_cast<char>(byte));
    for (const char* text :
         {"{\"", "\":", "\": \"", "\", \"", "true", "tru",  "null", "\xC3\xA9", "\xE2\x82", "\"}",
          "}}",  "12",  "0.5",    "  ",     "\n  ", "\\\"", "abc",  "]",        "[{",       "[["})
      texts_.emplace_back(text);
    texts_.emplace_back();  // end of sequence
    stops_ = {static_cast<engine::token_id>(texts_.size() - 1)};
  }
  std::vector<engine::token_id> encode(std::string_view text, bool) const override {
    std::vector<engine::token_id> ids;
    for (const char c : text) ids.push_back(static_cast<std::uint8_t>(c));
    return ids;
  }
  std::string token_bytes(engine::token_id id, bool) const override { return texts_[id]; }
  std::string decode(const std::vector<engine::token_id>& ids, bool) const override {
    std::string text;
    for (const auto id : ids) text += texts_[id];
    return text;
  }
  std::size_t size() const noexcept override { return texts_.size(); }
  std::optional<engine::token_id> bos() const noexcept override { return std::nullopt; }
  std::optional<engine::token_id> eos() const noexcept override { return stops_.front(); }
  const std::vector<engine::token_id>& stop_tokens() const noexcept override { return stops_; }
  std::optional<engine::token_id> find_special(std::string_view) const override { return std::nullopt; }

 private:
  std::vector<std::string> texts_;
  std::vector<engine::token_id> stops_;
};

}  // namespace bitnet::tests
