#include "engine/vocabulary.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

namespace bitnet::engine {

namespace {

// Files sometimes forget to mark these as control tokens. Were they ordinary text, a user could forge a turn.
constexpr std::array<std::string_view, 14> control_spellings{
    "<|begin_of_text|>", "<|end_of_text|>", "<|endoftext|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>",        "<|eom_id|>",      "<|im_start|>",  "<|im_end|>",          "<|system|>",
    "<|user|>",          "<|assistant|>",   "<|end|>",       "<|startoftext|>"};

// Tokens that end a turn or a text. Files name one of them as EOS and rely on the reader to know the others.
constexpr std::array<std::string_view, 6> stop_spellings{"<|eot_id|>", "<|eom_id|>",      "<|im_end|>",
                                                         "<|end|>",    "<|end_of_text|>", "<|endoftext|>"};

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

result<std::optional<token_id>> checked_id(std::string_view key, std::optional<std::uint64_t> id,
                                           std::size_t size) {
  if (!id) return std::nullopt;
  if (*id >= size) {
    return fail(error_code::file_malformed,
                fmt::format("tokenizer.ggml.{} is {}, but the vocabulary has {} tokens.", key, *id, size));
  }
  return static_cast<token_id>(*id);
}

result<std::vector<token_type>> checked_types(const tokenizer_data& data) {
  std::vector<token_type> types(data.tokens.size(), token_type::normal);
  if (!data.token_types.empty() && data.token_types.size() != types.size()) {
    return fail(error_code::file_malformed,
                fmt::format("tokenizer.ggml.token_type has {} entries for {} tokens.",
                            data.token_types.size(), types.size()));
  }
  for (std::size_t id = 0; id < types.size(); ++id) {
    if (!data.token_types.empty()) {
      const std::int64_t type = data.token_types[id];
      // 0 means "undefined"; converters write it for padding.
      if (type < 0 || type > static_cast<std::int64_t>(token_type::byte)) {
        return fail(error_code::file_malformed,
                    fmt::format("tokenizer.ggml.token_type[{}] is {}, which is no token type.", id, type));
      }
      types[id] = type == 0 ? token_type::unused : static_cast<token_type>(type);
    }
    if (contains(control_spellings, data.tokens[id])) types[id] = token_type::control;
  }
  return types;
}

}  // namespace

spelling_matcher::spelling_matcher(std::vector<entry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end());
  for (const entry& e : entries_) starts_[static_cast<unsigned char>(e.first.front())] = true;
}

std::optional<spelling_matcher::entry> spelling_matcher::longest_at_start(
    std::string_view text) const noexcept {
  if (text.empty() || !starts_[static_cast<unsigned char>(text.front())]) return std::nullopt;
  std::optional<entry> best;
  auto first = entries_.begin();
  auto last = entries_.end();
  // [first, last) are the entries that begin with text[0, depth); the shortest of them comes first.
  for (std::size_t depth = 0; first != last; ++depth) {
    if (first->first.size() == depth) best = *first++;
    if (depth == text.size()) break;
    const auto next = static_cast<unsigned char>(text[depth]);
    const auto byte_of = [depth](const entry& e) { return static_cast<unsigned char>(e.first[depth]); };
    first = std::partition_point(first, last, [&](const entry& e) { return byte_of(e) < next; });
    last = std::partition_point(first, last, [&](const entry& e) { return byte_of(e) == next; });
  }
  return best;
}

result<vocabulary> vocabulary::create(tokenizer_data& data, bool adds_bos_by_default) {
  if (data.tokens.empty()) {
    return fail(error_code::file_malformed,
                "tokenizer.ggml.tokens is missing or empty; convert the model again.");
  }
  if (data.tokens.size() > std::numeric_limits<std::int32_t>::max()) {
    return fail(error_code::unsupported_model, "tokenizer.ggml.tokens has more than 2^31 entries.");
  }
  auto types = checked_types(data);
  if (!types) return tl::unexpected(types.error());

  vocabulary made;
  made.spellings_ = std::move(data.tokens);
  made.types_ = std::move(*types);
  const std::size_t size = made.spellings_.size();
  made.ids_.reserve(size);
  std::vector<spelling_matcher::entry> user_defined;
  std::vector<spelling_matcher::entry> special;
  for (token_id id = 0; id < size; ++id) {
    const std::string_view spelling = made.spellings_[id];
    const auto [place, inserted] = made.ids_.emplace(spelling, id);
    if (!inserted) {
      return fail(error_code::file_malformed,
                  fmt::format("tokenizer.ggml.tokens[{}] and [{}] are the same, \"{}\".", place->second, id,
                              spelling));
    }
    if (spelling.empty()) continue;
    if (made.types_[id] == token_type::user_defined) user_defined.emplace_back(spelling, id);
    if (made.types_[id] == token_type::user_defined || made.types_[id] == token_type::control) {
      special.emplace_back(spelling, id);
    }
  }
  made.user_defined_ = spelling_matcher(std::move(user_defined));
  made.all_special_ = spelling_matcher(std::move(special));

  const auto bos = checked_id("bos_token_id", data.bos_token_id, size);
  const auto eos = checked_id("eos_token_id", data.eos_token_id, size);
  const auto eot = checked_id("eot_token_id", data.eot_token_id, size);
  const auto unknown = checked_id("unknown_token_id", data.unknown_token_id, size);
  for (const auto* id : {&bos, &eos, &eot, &unknown}) {
    if (!*id) return tl::unexpected(id->error());
  }
  const bool add_bos = data.add_bos_token.value_or(adds_bos_by_default && bos->has_value());
  if (add_bos && !*bos) {
    return fail(error_code::file_malformed,
                "tokenizer.ggml.add_bos_token is true, but tokenizer.ggml.bos_token_id is missing.");
  }
  if (add_bos) made.bos_ = *bos;
  made.eos_ = *eos;
  made.unknown_ = *unknown;

  for (const auto& id : {*eos, *eot}) {
    if (id) made.stop_tokens_.push_back(*id);
  }
  for (const std::string_view spelling : stop_spellings) {
    if (const auto id = made.find_special(spelling)) made.stop_tokens_.push_back(*id);
  }
  std::sort(made.stop_tokens_.begin(), made.stop_tokens_.end());
  made.stop_tokens_.erase(std::unique(made.stop_tokens_.begin(), made.stop_tokens_.end()),
                          made.stop_tokens_.end());
  return made;
}

std::optional<token_id> vocabulary::find(std::string_view spelling) const {
  const auto place = ids_.find(spelling);
  if (place == ids_.end()) return std::nullopt;
  return place->second;
}

std::optional<token_id> vocabulary::find_special(std::string_view spelling) const {
  const auto id = find(spelling);
  if (!id || types_[*id] != token_type::control) return std::nullopt;
  return id;
}

void vocabulary::for_each_part(std::string_view text, bool parse_special,
                               const std::function<void(std::string_view)>& text_part,
                               const std::function<void(token_id)>& special) const {
  const spelling_matcher& matcher = parse_special ? all_special_ : user_defined_;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const auto match = matcher.longest_at_start(text.substr(i));
    if (!match) {
      ++i;
      continue;
    }
    if (i > begin) text_part(text.substr(begin, i - begin));
    special(match->second);
    i += match->first.size();
    begin = i;
  }
  if (begin < text.size()) text_part(text.substr(begin));
}

}  // namespace bitnet::engine
