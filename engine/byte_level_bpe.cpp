#include "engine/byte_alphabet.hpp"
#include "engine/pre_tokenizer.hpp"
#include "engine/vocabulary.hpp"

#include <fmt/core.h>

#include <limits>
#include <queue>

namespace bitnet::engine {

namespace {

// The converters of the BitNet models left out tokenizer.ggml.pre; their vocabulary is Llama 3's.
constexpr std::size_t llama3_vocabulary_size = 128256;

struct merge {
  std::uint32_t rank;
  token_id merged;
};

using merge_table = boost::unordered_flat_map<std::uint64_t, merge>;

constexpr std::uint64_t pair_key(token_id left, token_id right) noexcept {
  return (static_cast<std::uint64_t>(left) << 32U) | right;
}

result<std::string> pre_tokenizer_name(const tokenizer_data& data) {
  if (data.pre) return *data.pre;
  const bool is_bitnet = data.architecture == "bitnet" || data.architecture == "bitnet-b1.58" ||
                         data.architecture == "bitnet-25";
  if (is_bitnet || data.tokens.size() == llama3_vocabulary_size) return std::string("llama-bpe");
  return fail(
      error_code::unsupported_model,
      "tokenizer.ggml.pre is missing and the vocabulary is not one we recognise; convert the model again "
      "with a current converter.");
}

class byte_level_bpe final : public tokenizer {
 public:
  static result<std::unique_ptr<tokenizer>> create(tokenizer_data data) {
    const auto name = pre_tokenizer_name(data);
    if (!name) return tl::unexpected(name.error());
    auto words = pre_tokenizer::create(*name);
    if (!words) return tl::unexpected(words.error());
    auto tokens = vocabulary::create(data, words->adds_bos_by_default());
    if (!tokens) return tl::unexpected(tokens.error());
    std::unique_ptr<byte_level_bpe> made(new byte_level_bpe(std::move(*tokens), std::move(*words)));
    if (auto done = made->read_tokens(); !done) return tl::unexpected(done.error());
    if (auto done = made->read_merges(data.merges); !done) return tl::unexpected(done.error());
    return made;
  }

  std::vector<token_id> encode(std::string_view text, bool parse_special) const override {
    std::vector<token_id> ids;
    ids.reserve(text.size() / 3 + 1);
    vocabulary_.for_each_part(
        text, parse_special,
        [&](std::string_view part) {
          for (const std::string_view word : pre_tokenizer_.split(part)) encode_word(word, ids);
        },
        [&](token_id id) { ids.push_back(id); });
    return ids;
  }

  std::string token_bytes(token_id id, bool render_special) const override {
    return vocabulary_.stands_for_text(id) || render_special ? bytes_[id] : std::string();
  }

  std::string decode(const std::vector<token_id>& ids, bool render_special) const override {
    std::string text;
    for (const token_id id : ids) {
      if (vocabulary_.stands_for_text(id) || render_special) text += bytes_[id];
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
  byte_level_bpe(vocabulary tokens, pre_tokenizer words)
      : vocabulary_(std::move(tokens)), pre_tokenizer_(std::move(words)) {}

  bool is_mergeable(token_id id) const noexcept {
    return vocabulary_.type(id) == token_type::normal || vocabulary_.type(id) == token_type::unused;
  }

  /// Fills bytes_, words_ and byte_tokens_.
  result<void> read_tokens() {
    bytes_.resize(vocabulary_.size());
    words_.reserve(vocabulary_.size());
    for (token_id id = 0; id < vocabulary_.size(); ++id) {
      const std::string& spelling = vocabulary_.spelling(id);
      auto bytes = is_mergeable(id) ? bytes_of_spelling(spelling) : std::nullopt;
      // Added tokens are spelled as they are, outside the alphabet of bytes.
      bytes_[id] = bytes ? std::move(*bytes) : spelling;
      if (is_mergeable(id) && bytes) words_.emplace(bytes_[id], id);
    }
    for (unsigned byte = 0; byte < byte_tokens_.size(); ++byte) {
      const char c = static_cast<char>(byte);
      const auto place = words_.find(std::string_view(&c, 1));
      if (place != words_.end()) {
        byte_tokens_[byte] = place->second;
      } else if (vocabulary_.unknown()) {
        byte_tokens_[byte] = *vocabulary_.unknown();
      } else {
        return fail(
            error_code::file_malformed,
            fmt::format("tokenizer.ggml.tokens has no token for the byte 0x{:02X} and no unknown token.",
                        byte));
      }
    }
    return {};
  }

  result<void> read_merges(const std::vector<std::string>& merges) {
    if (merges.size() >= std::numeric_limits<std::uint32_t>::max()) {
      return fail(error_code::unsupported_model, "tokenizer.ggml.merges has more than 2^32 entries.");
    }
    merges_.reserve(merges.size());
    std::string joined;
    for (std::uint32_t rank = 0; rank < merges.size(); ++rank) {
      const std::string_view text = merges[rank];
      const std::size_t space = text.find(' ', 1);
      if (space == std::string_view::npos)
        return bad_merge(rank, text, "is not two tokens separated by a space");
      const std::string_view left = text.substr(0, space);
      const std::string_view right = text.substr(space + 1);
      joined.assign(left).append(right);
      const auto left_id = vocabulary_.find(left);
      const auto right_id = vocabulary_.find(right);
      const auto merged_id = vocabulary_.find(joined);
      if (!left_id || !right_id || !merged_id) {
        return bad_merge(rank, text, "names or makes a token that tokenizer.ggml.tokens does not have");
      }
      // A merge that made a control token would let ordinary text forge it.
      if (!is_mergeable(*left_id) || !is_mergeable(*right_id) || !is_mergeable(*merged_id)) {
        return bad_merge(rank, text, "names or makes a special token");
      }
      merges_.emplace(pair_key(*left_id, *right_id), merge{rank, *merged_id});
    }
    return {};
  }

  static tl::unexpected<error> bad_merge(std::uint32_t rank, std::string_view text, std::string_view what) {
    return fail(error_code::file_malformed,
                fmt::format("tokenizer.ggml.merges[{}], \"{}\", {}.", rank, text, what));
  }

  /// Appends the tokens of one word: starting from its bytes, the pair of the smallest rank merges first, the
  /// leftmost of equals. O(n log n) for n bytes.
  void encode_word(std::string_view word, std::vector<token_id>& ids) const {
    if (word.size() == 1) {
      ids.push_back(byte_tokens_[static_cast<unsigned char>(word.front())]);
      return;
    }
    if (pre_tokenizer_.whole_words_first()) {
      if (const auto place = words_.find(word); place != words_.end()) {
        ids.push_back(place->second);
        return;
      }
    }

    constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();
    struct symbol {
      token_id id;
      std::uint32_t previous;
      std::uint32_t next;
    };
    struct candidate {
      std::uint32_t rank;
      std::uint32_t left;
      token_id left_id;
      token_id right_id;
      token_id merged;
      bool operator>(const candidate& other) const noexcept {
        return rank != other.rank ? rank > other.rank : left > other.left;
      }
    };

    std::vector<symbol> symbols(word.size());
    for (std::uint32_t i = 0; i < word.size(); ++i) {
      symbols[i] = {byte_tokens_[static_cast<unsigned char>(word[i])], i == 0 ? none : i - 1,
                    i + 1 == word.size() ? none : i + 1};
    }
    std::vector<candidate> storage;
    storage.reserve(word.size());
    std::priority_queue<candidate, std::vector<candidate>, std::greater<>> queue(std::greater<>{},
                                                                                 std::move(storage));
    const auto consider = [&](std::uint32_t left) {
      if (left == none || symbols[left].next == none) return;
      const token_id left_id = symbols[left].id;
      const token_id right_id = symbols[symbols[left].next].id;
      const auto place = merges_.find(pair_key(left_id, right_id));
      if (place != merges_.end())
        queue.push({place->second.rank, left, left_id, right_id, place->second.merged});
    };
    for (std::uint32_t i = 0; i + 1 < word.size(); ++i) consider(i);

    while (!queue.empty()) {
      const candidate best = queue.top();
      queue.pop();
      symbol& left = symbols[best.left];
      // A candidate is stale when a merge since took one of its sides.
      if (left.id != best.left_id || left.next == none || symbols[left.next].id != best.right_id) continue;
      const std::uint32_t right = left.next;
      left.id = best.merged;
      left.next = symbols[right].next;
      symbols[right].id = none;
      if (left.next != none) symbols[left.next].previous = best.left;
      consider(left.previous);
      consider(best.left);
    }
    for (std::uint32_t i = 0; i != none; i = symbols[i].next) ids.push_back(symbols[i].id);
  }

  vocabulary vocabulary_;
  pre_tokenizer pre_tokenizer_;
  std::vector<std::string> bytes_;                               ///< what each token stands for, by id
  boost::unordered_flat_map<std::string_view, token_id> words_;  ///< mergeable tokens; views into bytes_
  std::array<token_id, 256> byte_tokens_{};
  merge_table merges_;  ///< by pair_key
};

}  // namespace

result<std::unique_ptr<tokenizer>> make_byte_level_bpe(tokenizer_data data) {
  return byte_level_bpe::create(std::move(data));
}

}  // namespace bitnet::engine
