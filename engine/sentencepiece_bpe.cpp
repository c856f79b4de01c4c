#include "engine/utf8.hpp"
#include "engine/vocabulary.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

namespace bitnet::engine {

namespace {

constexpr std::string_view escaped_space = "\xE2\x96\x81";  // U+2581

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string replaced;
  replaced.reserve(text.size());
  std::size_t begin = 0;
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, begin)) {
    replaced.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  text = replaced.append(text, begin);
}

/// The byte that "<0xNN>" spells.
std::optional<unsigned char> byte_of_spelling(std::string_view spelling) {
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling.back() != '>') return std::nullopt;
  unsigned value = 0;
  for (const char c : spelling.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'A' || c > 'F')) return std::nullopt;
    value = value * 16 + static_cast<unsigned>(digit ? c - '0' : c - 'A' + 10);
  }
  return static_cast<unsigned char>(value);
}

/// SentencePiece's BPE as llama.cpp runs it: the neighbours whose concatenation is the token of the highest
/// score merge first.
class sentencepiece_bpe final : public tokenizer {
 public:
  static result<std::unique_ptr<tokenizer>> create(tokenizer_data data) {
    if (data.scores.size() != data.tokens.size()) {
      return fail(error_code::file_malformed,
                  fmt::format("tokenizer.ggml.scores has {} entries for {} tokens.", data.scores.size(),
                              data.tokens.size()));
    }
    for (std::size_t id = 0; id < data.scores.size(); ++id) {
      if (std::isnan(data.scores[id])) {
        return fail(error_code::file_malformed,
                    fmt::format("tokenizer.ggml.scores[{}] is not a number.", id));
      }
    }
    std::vector<double> scores = std::move(data.scores);
    const bool space_prefix = data.add_space_prefix.value_or(true);
    auto tokens = vocabulary::create(data, true);
    if (!tokens) return tl::unexpected(tokens.error());
    std::unique_ptr<sentencepiece_bpe> made(
        new sentencepiece_bpe(std::move(*tokens), std::move(scores), space_prefix));
    if (auto done = made->read_tokens(); !done) return tl::unexpected(done.error());
    return made;
  }

  std::vector<token_id> encode(std::string_view text, bool parse_special) const override {
    std::vector<token_id> ids;
    ids.reserve(text.size() / 3 + 1);
    bool after_special = true;
    vocabulary_.for_each_part(
        text, parse_special,
        [&](std::string_view part) {
          std::string escaped;
          if (space_prefix_ && after_special) escaped = " ";
          escaped += part;
          replace_all(escaped, " ", escaped_space);
          encode_part(escaped, ids);
          after_special = false;
        },
        [&](token_id id) {
          ids.push_back(id);
          after_special = true;
        });
    return ids;
  }

  std::string token_bytes(token_id id, bool render_special) const override {
    return vocabulary_.stands_for_text(id) || render_special ? bytes_[id] : std::string();
  }

  std::string decode(const std::vector<token_id>& ids, bool render_special) const override {
    std::string text;
    bool first_word = space_prefix_;
    for (const token_id id : ids) {
      const std::string& bytes = bytes_[id];
      if (!vocabulary_.stands_for_text(id)) {
        if (render_special) text += bytes;
        continue;
      }
      const bool drop_space = first_word && bytes.starts_with(' ');
      text.append(bytes, drop_space ? 1 : 0);
      first_word = false;
    }
    return text;
  }

  std::size_t size() const noexcept override { return vocabulary_.size(); }
  std::optional<token_id> bos() const noexcept override { return vocabulary_.bos(); }
  std::optional<token_id> eos() const noexcept override { return vocabulary_.eos(); }
  const std::vector<token_id>& stop_tokens() const noexcept override { return vocabulary_.stop_tokens(); }
  std::optional<token_id> find_special(std::string_view spelling) const override {
    return vocabulary_.find_special(spelling);
  }

 private:
  sentencepiece_bpe(vocabulary tokens, std::vector<double> scores, bool space_prefix)
      : vocabulary_(std::move(tokens)), scores_(std::move(scores)), space_prefix_(space_prefix) {}

  /// Fills bytes_, longest_spelling_ and byte_tokens_.
  result<void> read_tokens() {
    std::array<bool, 256> found{};
    bytes_.resize(vocabulary_.size());
    for (token_id id = 0; id < vocabulary_.size(); ++id) {
      const std::string& spelling = vocabulary_.spelling(id);
      longest_spelling_ = std::max(longest_spelling_, spelling.size());
      if (vocabulary_.type(id) == token_type::byte) {
        const auto byte = byte_of_spelling(spelling);
        if (!byte) {
          return fail(
              error_code::file_malformed,
              fmt::format("tokenizer.ggml.tokens[{}], \"{}\", is a byte token but is not spelled <0xNN>.", id,
                          spelling));
        }
        bytes_[id].assign(1, static_cast<char>(*byte));
        byte_tokens_[*byte] = id;
        found[*byte] = true;
        continue;
      }
      bytes_[id] = spelling;
      if (vocabulary_.stands_for_text(id)) replace_all(bytes_[id], escaped_space, " ");
    }
    for (unsigned byte = 0; byte < found.size(); ++byte) {
      if (found[byte]) continue;
      if (!vocabulary_.unknown()) {
        return fail(
            error_code::file_malformed,
            fmt::format("tokenizer.ggml.tokens has no byte token <0x{:02X}> and no unknown token.", byte));
      }
      byte_tokens_[byte] = *vocabulary_.unknown();
    }
    return {};
  }

  /// The token that ordinary text with this spelling may become.
  std::optional<token_id> find_text_token(std::string_view spelling) const {
    const auto id = vocabulary_.find(spelling);
    if (!id || !vocabulary_.stands_for_text(*id) || vocabulary_.type(*id) == token_type::byte)
      return std::nullopt;
    return id;
  }

  /// Appends the tokens of escaped text. O(n log n) for n characters.
  void encode_part(std::string_view text, std::vector<token_id>& ids) const {
    constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();
    struct symbol {
      std::string_view text;  ///< empty once it was merged into its left neighbour
      std::uint32_t previous;
      std::uint32_t next;
    };
    struct candidate {
      double score;
      std::uint32_t left;
      std::size_t length;  ///< of both sides together, when it was considered
      bool operator<(const candidate& other) const noexcept {
        return score != other.score ? score < other.score : left > other.left;
      }
    };

    std::vector<symbol> symbols;
    symbols.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = next_utf8_sequence(text.substr(at)).length;
      const auto index = static_cast<std::uint32_t>(symbols.size());
      symbols.push_back({text.substr(at, length), index == 0 ? none : index - 1, index + 1});
      at += length;
    }
    symbols.back().next = none;

    const auto joined = [&](std::uint32_t left) {
      const std::string_view first = symbols[left].text;
      return std::string_view(first.data(), first.size() + symbols[symbols[left].next].text.size());
    };
    std::priority_queue<candidate> queue;
    const auto consider = [&](std::uint32_t left) {
      if (left == none || symbols[left].next == none) return;
      const std::string_view text_of_both = joined(left);
      if (text_of_both.size() > longest_spelling_) return;
      if (const auto id = find_text_token(text_of_both))
        queue.push({scores_[*id], left, text_of_both.size()});
    };
    for (std::uint32_t i = 0; i + 1 < symbols.size(); ++i) consider(i);

    while (!queue.empty()) {
      const candidate best = queue.top();
      queue.pop();
      symbol& left = symbols[best.left];
      // Stale when a merge since took one of the sides: sides only grow, so the length tells.
      if (left.text.empty() || left.next == none || joined(best.left).size() != best.length) continue;
      const std::uint32_t right = left.next;
      left.text = joined(best.left);
      left.next = symbols[right].next;
      symbols[right].text = {};
      if (left.next != none) symbols[left.next].previous = best.left;
      consider(left.previous);
      consider(best.left);
    }

    for (std::uint32_t i = 0; i != none; i = symbols[i].next) {
      if (const auto id = find_text_token(symbols[i].text)) {
        ids.push_back(*id);
        continue;
      }
      for (const char c : symbols[i].text) ids.push_back(byte_tokens_[static_cast<unsigned char>(c)]);
    }
  }

  vocabulary vocabulary_;
  std::vector<double> scores_;  ///< by id
  bool space_prefix_;
  std::size_t longest_spelling_ = 0;  ///< bounds the hashing of pairs that are no token
  std::vector<std::string> bytes_;    ///< what each token stands for, by id
  std::array<token_id, 256> byte_tokens_{};
};

}  // namespace

result<std::unique_ptr<tokenizer>> make_sentencepiece_bpe(tokenizer_data data) {
  return sentencepiece_bpe::create(std::move(data));
}

}  // namespace bitnet::engine
