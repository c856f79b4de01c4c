#include "http/openai/text_assembler.hpp"

#include <algorithm>
#include <utility>

namespace bitnet::http::openai {

namespace {

std::size_t character_count(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
}

/// Where the text ends because a stop string is complete first; npos where none is.
std::size_t find_stop(std::string_view text, const std::vector<std::string>& stop) {
  std::size_t begin = std::string_view::npos;
  std::size_t end = std::string_view::npos;
  for (const std::string& candidate : stop) {
    const std::size_t at = text.find(candidate);
    if (at == std::string_view::npos) continue;
    const std::size_t candidate_end = at + candidate.size();
    if (candidate_end < end || (candidate_end == end && at < begin)) {
      begin = at;
      end = candidate_end;
    }
  }
  return begin;
}

/// Length of the longest end of `text` with which a stop string begins.
std::size_t open_length(std::string_view text, const std::vector<std::string>& stop) {
  std::size_t longest = 0;
  for (const std::string& candidate : stop) {
    for (std::size_t length = std::min(candidate.size() - 1, text.size()); length > longest; --length) {
      if (text.ends_with(std::string_view(candidate).substr(0, length))) {
        longest = length;
        break;
      }
    }
  }
  return longest;
}

}  // namespace

text_assembler::text_assembler(std::vector<std::string> stop) : stop_(std::move(stop)) {
  std::erase_if(stop_, [](const std::string& text) { return text.empty(); });
}

assembled_text text_assembler::push(std::string_view piece, std::optional<token_record> record) {
  assembled_text out;
  if (stopped_) return out;
  if (record) {
    record->text_offset = taken_characters_;
    pending_.push_back({sent_bytes_ + held_.size(), std::move(*record)});
  }
  held_ += piece;
  taken_characters_ += character_count(piece);

  const std::size_t stop_begin = find_stop(held_, stop_);
  stopped_ = stop_begin != std::string::npos;
  const std::size_t length = stopped_ ? stop_begin : held_.size() - open_length(held_, stop_);
  out.text = held_.substr(0, length);
  out.stopped = stopped_;
  held_.erase(0, length);
  sent_bytes_ += length;
  release_records(sent_bytes_, out.records);
  return out;
}

assembled_text text_assembler::finish(std::string_view piece) {
  assembled_text out = push(piece);
  if (stopped_) return out;
  stopped_ = true;
  out.text += held_;
  sent_bytes_ += held_.size();
  held_.clear();
  // Tokens at the very end that have no text of their own belong to the completion as well.
  release_records(sent_bytes_ + 1, out.records);
  return out;
}

void text_assembler::release_records(std::size_t end, std::vector<token_record>& out) {
  while (!pending_.empty() && pending_.front().begin < end) {
    out.push_back(std::move(pending_.front().record));
    pending_.pop_front();
  }
}

}  // namespace bitnet::http::openai
