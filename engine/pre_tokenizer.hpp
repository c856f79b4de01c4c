#pragma once

#include "engine/error.hpp"

#include <memory>
#include <string_view>
#include <vector>

namespace bitnet::engine {

/// Cuts text into the words inside which byte-level BPE merges. Immutable and thread-safe.
class pre_tokenizer {
 public:
  /// `name`: a value of tokenizer.ggml.pre. Refuses names that we do not know with unsupported_model.
  static result<pre_tokenizer> create(std::string_view name);

  /// Views into `text` that cover it without gaps or overlaps, in order. Bytes that are not UTF-8 form words
  /// of their own. Time is linear in the length of `text` for every known name.
  std::vector<std::string_view> split(std::string_view text) const;

  /// Whether a word that is a token as a whole is taken as it is, without merging.
  bool whole_words_first() const noexcept { return whole_words_first_; }
  /// Whether BOS is added where the file does not say.
  bool adds_bos_by_default() const noexcept { return adds_bos_by_default_; }

 private:
  struct pattern;

  std::vector<std::shared_ptr<const pattern>> patterns_;
  bool whole_words_first_ = false;
  bool adds_bos_by_default_ = false;
};

}  // namespace bitnet::engine
