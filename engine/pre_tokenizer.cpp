#define PCRE2_CODE_UNIT_WIDTH 8

#include "engine/pre_tokenizer.hpp"

#include "engine/utf8.hpp"

#include <fmt/core.h>

#include <pcre2.h>

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

namespace bitnet::engine {

namespace {

// The patterns name white space as [\t-\r\x{85}\p{Z}], which is exactly Unicode's White_Space. PCRE2's own \s
// has U+180E too, which the tokenizers that these models were trained with do not count.
#define SPACE R"(\t-\r\x{85}\p{Z})"

// One alternation: contractions in any case, a word with at most one leading sign, up to three digits, signs
// with the line ends behind them, line ends with the space before them, space.
constexpr std::array llama3_patterns{
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^)" SPACE
    R"(\p{L}\p{N}]+[\r\n]*|[)" SPACE R"(]*[\r\n]+|[)" SPACE R"(]+(?![^)" SPACE R"(])|[)" SPACE R"(]+)"};

#define GPT2_PATTERN                                                                                     \
  R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" SPACE R"(\p{L}\p{N}]+|[)" SPACE R"(]+(?![^)" SPACE \
  R"(])|[)" SPACE R"(]+)"
constexpr std::array gpt2_patterns{GPT2_PATTERN};

// Applied one after the other, each inside the words of the one before.
constexpr std::array default_patterns{R"([\p{P}\$\+<=>\^~\|]+)", GPT2_PATTERN, R"(\p{N}+)",
                                      R"([0-9][0-9][0-9])"};

#undef GPT2_PATTERN
#undef SPACE

/// What a name of tokenizer.ggml.pre means; the facts are llama.cpp's (llama-vocab.cpp).
struct pre_tokenizer_rule {
  std::string_view name;
  std::span<const char* const> patterns;
  bool whole_words_first;
  bool adds_bos_by_default;
};

constexpr std::array rules{
    pre_tokenizer_rule{"llama-bpe", llama3_patterns, true, true},
    pre_tokenizer_rule{"llama3", llama3_patterns, true, true},
    pre_tokenizer_rule{"llama-v3", llama3_patterns, true, true},
    pre_tokenizer_rule{"falcon3", llama3_patterns, true, true},
    pre_tokenizer_rule{"falcon_e", llama3_patterns, true, true},
    pre_tokenizer_rule{"gpt-2", gpt2_patterns, false, false},
    pre_tokenizer_rule{"default", default_patterns, false, false},
};

/// A view of the longest prefix of `text` in which every character is valid, or in which none is.
struct text_run {
  std::string_view text;
  bool valid;
};

text_run next_run(std::string_view text) {
  std::size_t length = 0;
  bool valid = false;
  while (length < text.size()) {
    const utf8_sequence sequence = next_utf8_sequence(text.substr(length));
    const bool sequence_valid = sequence.status == utf8_status::valid;
    if (length == 0) valid = sequence_valid;
    if (sequence_valid != valid) break;
    length += sequence.length;
  }
  return {text.substr(0, length), valid};
}

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return {reinterpret_cast<const char*>(buffer.data())};
}

struct match_data_deleter {
  void operator()(pcre2_match_data* data) const noexcept { pcre2_match_data_free(data); }
};
struct match_context_deleter {
  void operator()(pcre2_match_context* context) const noexcept { pcre2_match_context_free(context); }
};
using match_data_ptr = std::unique_ptr<pcre2_match_data, match_data_deleter>;
using match_context_ptr = std::unique_ptr<pcre2_match_context, match_context_deleter>;

}  // namespace

struct pre_tokenizer::pattern {
  pcre2_code* code = nullptr;
  match_context_ptr context;

  pattern() = default;
  pattern(const pattern&) = delete;
  pattern& operator=(const pattern&) = delete;
  ~pattern() { pcre2_code_free(code); }

  static result<std::shared_ptr<const pattern>> compile(const char* text) {
    auto compiled = std::make_shared<pattern>();
    int error = 0;
    PCRE2_SIZE offset = 0;
    compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text), PCRE2_ZERO_TERMINATED, PCRE2_UTF,
                                   &error, &offset, nullptr);
    if (compiled->code == nullptr) {
      return fail(error_code::internal,
                  fmt::format("PCRE2 does not compile the pre-tokeniser's pattern: {} at {}.",
                              pcre2_message(error), offset));
    }
    // Without JIT (a kernel that forbids executable memory) the interpreter gives the same words, slower.
    static_cast<void>(pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE));
    compiled->context.reset(pcre2_match_context_create(nullptr));
    if (!compiled->context) return fail(error_code::out_of_memory, "No memory for the pre-tokeniser.");
    // Backtracking is bounded by the patterns themselves: they repeat single characters only.
    pcre2_set_match_limit(compiled->context.get(), std::numeric_limits<std::uint32_t>::max());
    return std::shared_ptr<const pattern>(std::move(compiled));
  }

  /// Appends the matches in `text`, which must be valid UTF-8, and what lies between them.
  void split(std::string_view text, std::vector<std::string_view>& words) const {
    const match_data_ptr data(pcre2_match_data_create(1, nullptr));
    std::size_t begin = 0;
    while (data && begin < text.size()) {
      // The text was checked once for all; checking at each match would make the time quadratic.
      int count = match(text, begin, PCRE2_NO_UTF_CHECK, data.get());
      if (count == PCRE2_ERROR_JIT_STACKLIMIT) {
        count = match(text, begin, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get());
      }
      if (count < 0) break;
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
      if (range[1] <= range[0]) break;
      if (range[0] > begin) words.push_back(text.substr(begin, range[0] - begin));
      words.push_back(text.substr(range[0], range[1] - range[0]));
      begin = range[1];
    }
    // No further match, or no memory for one: the rest is one word, so that no byte is lost.
    if (begin < text.size()) words.push_back(text.substr(begin));
  }

 private:
  int match(std::string_view text, std::size_t begin, std::uint32_t options, pcre2_match_data* data) const {
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin, options, data,
                       context.get());
  }
};

result<pre_tokenizer> pre_tokenizer::create(std::string_view name) {
  for (const pre_tokenizer_rule& rule : rules) {
    if (rule.name != name) continue;
    pre_tokenizer made;
    for (const char* text : rule.patterns) {
      auto compiled = pattern::compile(text);
      if (!compiled) return tl::unexpected(compiled.error());
      made.patterns_.push_back(std::move(*compiled));
    }
    made.whole_words_first_ = rule.whole_words_first;
    made.adds_bos_by_default_ = rule.adds_bos_by_default;
    return made;
  }
  std::string known;
  for (const pre_tokenizer_rule& rule : rules)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", rule.name);
  return fail(error_code::unsupported_model,
              fmt::format("The pre-tokeniser \"{}\" (tokenizer.ggml.pre) is not supported; known are {}.",
                          name, known));
}

std::vector<std::string_view> pre_tokenizer::split(std::string_view text) const {
  std::vector<std::string_view> words;
  words.reserve(text.size() / 4 + 1);
  while (!text.empty()) {
    const text_run run = next_run(text);
    text.remove_prefix(run.text.size());
    if (!run.valid) {
      words.push_back(run.text);
      continue;
    }
    std::vector<std::string_view> parts{run.text};
    for (const auto& step : patterns_) {
      std::vector<std::string_view> finer;
      finer.reserve(run.text.size() / 4 + 1);
      for (const std::string_view part : parts) step->split(part, finer);
      parts = std::move(finer);
    }
    words.insert(words.end(), parts.begin(), parts.end());
  }
  return words;
}

}  // namespace bitnet::engine
