#pragma once

#include "http/openai/response.hpp"

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::http::openai {

/// What can be sent to the client now.
struct assembled_text {
  std::string text;                   ///< valid UTF-8, possibly empty
  std::vector<token_record> records;  ///< of the tokens whose text begins in what was sent so far
  bool stopped = false;               ///< a stop string came: the choice is finished, nothing follows
};

/// Puts one choice's text together from the pieces of its tokens and ends it at a stop string, which is not
/// part of the text. Holds back only what may turn out to be the beginning of a stop string. The text is the
/// same however the pieces are cut: the stop string that is complete first ends it, the longest of those that
/// are complete at the same place. Not thread-safe: one a choice.
class text_assembler {
 public:
  /// `stop`: none empty.
  explicit text_assembler(std::vector<std::string> stop);

  /// Takes the next token: its `piece` of valid UTF-8 (empty while a character is unfinished) and, where
  /// log-probabilities were asked for, its record, whose text_offset is set here. After a stop: nothing.
  assembled_text push(std::string_view piece, std::optional<token_record> record = std::nullopt);

  /// What was still held back; `piece` is the end of the text that no further token completes. It may
  /// complete a stop string too.
  assembled_text finish(std::string_view piece = {});

 private:
  struct pending_record {
    std::size_t begin;  ///< byte offset of the token's text in the completion
    token_record record;
  };

  void release_records(std::size_t end, std::vector<token_record>& out);

  std::vector<std::string> stop_;
  std::string held_;  ///< taken, not sent
  std::size_t sent_bytes_ = 0;
  std::size_t taken_characters_ = 0;
  std::deque<pending_record> pending_;
  bool stopped_ = false;
};

}  // namespace bitnet::http::openai
