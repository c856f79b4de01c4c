#pragma once

#include "engine/error.hpp"
#include "engine/model_config.hpp"
#include "engine/tokenizer.hpp"

#include <boost/unordered/unordered_flat_map.hpp>

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bitnet::engine {

/// Finds the longest of a set of spellings at a place in a text.
class spelling_matcher {
 public:
  using entry = std::pair<std::string_view, token_id>;

  /// `entries`: views that outlive the matcher; none is empty.
  explicit spelling_matcher(std::vector<entry> entries);

  /// The longest entry that `text` starts with. Time grows with its length, hardly with their number.
  std::optional<entry> longest_at_start(std::string_view text) const noexcept;

 private:
  std::vector<entry> entries_;  ///< sorted by spelling
  std::array<bool, 256> starts_{};
};

/// The tokens that all kinds of tokenizers have: spellings, kinds, special tokens. Checked at construction.
class vocabulary {
 public:
  /// Takes tokens, token_types and the ids out of `data`. Refuses duplicate spellings, ids and types out of
  /// range, and lists of different lengths.
  static result<vocabulary> create(tokenizer_data& data, bool adds_bos_by_default);

  std::size_t size() const noexcept { return spellings_.size(); }
  const std::string& spelling(token_id id) const noexcept { return spellings_[id]; }
  token_type type(token_id id) const noexcept { return types_[id]; }
  /// Control and unknown tokens stand for no text.
  bool stands_for_text(token_id id) const noexcept {
    return types_[id] != token_type::control && types_[id] != token_type::unknown;
  }

  std::optional<token_id> find(std::string_view spelling) const;
  std::optional<token_id> find_special(std::string_view spelling) const;

  std::optional<token_id> bos() const noexcept { return bos_; }
  std::optional<token_id> eos() const noexcept { return eos_; }
  std::optional<token_id> unknown() const noexcept { return unknown_; }
  const std::vector<token_id>& stop_tokens() const noexcept { return stop_tokens_; }

  /// Calls `text_part` for each non-empty stretch of ordinary text and `special` for each special token in
  /// between, in order. User-defined tokens are always recognised, control tokens only with `parse_special`;
  /// the leftmost and then the longest spelling wins.
  void for_each_part(std::string_view text, bool parse_special,
                     const std::function<void(std::string_view)>& text_part,
                     const std::function<void(token_id)>& special) const;

 private:
  vocabulary() = default;

  std::vector<std::string> spellings_;
  std::vector<token_type> types_;
  boost::unordered_flat_map<std::string_view, token_id> ids_;  ///< views into spellings_
  spelling_matcher user_defined_{{}};
  spelling_matcher all_special_{{}};
  std::optional<token_id> bos_;
  std::optional<token_id> eos_;
  std::optional<token_id> unknown_;
  std::vector<token_id> stop_tokens_;
};

result<std::unique_ptr<tokenizer>> make_byte_level_bpe(tokenizer_data data);
result<std::unique_ptr<tokenizer>> make_sentencepiece_bpe(tokenizer_data data);

}  // namespace bitnet::engine
