#pragma once

#include "engine/error.hpp"
#include "engine/model_config.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::engine {

class gguf_file;

/// Text to token ids and back. Immutable and thread-safe after construction.
class tokenizer {
 public:
  virtual ~tokenizer() = default;

  /// Encodes UTF-8 text (invalid bytes survive through byte tokens). With `parse_special`, the spellings of
  /// control tokens in `text` become those tokens; without, they are ordinary text, so that a user's text can
  /// never forge a control token. BOS is not added: see `bos`.
  virtual std::vector<token_id> encode(std::string_view text, bool parse_special) const = 0;

  /// The bytes that a token stands for: possibly part of a UTF-8 character; empty for control tokens unless
  /// `render_special`. Precondition: id < size().
  virtual std::string token_bytes(token_id id, bool render_special = false) const = 0;

  /// token_bytes of all ids, joined; SentencePiece vocabularies lose the leading space of a text's first
  /// word.
  virtual std::string decode(const std::vector<token_id>& ids, bool render_special = false) const = 0;

  virtual std::size_t size() const noexcept = 0;
  virtual std::optional<token_id> bos() const noexcept = 0;  ///< set only where the model wants it added
  virtual std::optional<token_id> eos() const noexcept = 0;
  /// All ids that end a generation: EOS, and end-of-turn tokens such as <|eot_id|> that files forget to name.
  virtual const std::vector<token_id>& stop_tokens() const noexcept = 0;
  /// The id of a control token by its exact spelling.
  virtual std::optional<token_id> find_special(std::string_view spelling) const = 0;
};

/// What tokenizer.ggml.token_type says of a token.
enum class token_type : std::uint8_t { normal = 1, unknown, control, user_defined, unused, byte };

/// The tokenizer.* keys of a model file as they stand there, unchecked; names are the keys' last parts.
struct tokenizer_data {
  std::string architecture;               ///< general.architecture
  std::string model;                      ///< "gpt2" (byte-level BPE) or "llama" (SentencePiece-type BPE)
  std::optional<std::string> pre;         ///< pre-tokeniser of a byte-level BPE
  std::vector<std::string> tokens;        ///< spellings by id
  std::vector<std::int64_t> token_types;  ///< by id, values of `token_type`; empty: all normal
  std::vector<double> scores;             ///< by id; SentencePiece only
  std::vector<std::string> merges;        ///< "left right", best first; byte-level only
  std::optional<std::uint64_t> bos_token_id;
  std::optional<std::uint64_t> eos_token_id;
  std::optional<std::uint64_t> eot_token_id;
  std::optional<std::uint64_t> unknown_token_id;
  std::optional<bool> add_bos_token;
  std::optional<bool> add_space_prefix;
};

/// Checks `data` and builds the tokenizer that it describes. Refuses unknown models and pre-tokenisers
/// (unsupported_model) and lists that contradict each other (file_malformed), naming the entry.
result<std::unique_ptr<tokenizer>> make_tokenizer(tokenizer_data data);

/// make_tokenizer of `file`'s tokenizer.* keys.
result<std::unique_ptr<tokenizer>> load_tokenizer(const gguf_file& file);

/// Turns a stream of token bytes into valid UTF-8: holds back an unfinished character at the end of what it
/// was given, replaces invalid bytes by U+FFFD.
class utf8_stream {
 public:
  /// Returns the text that is complete now.
  std::string push(std::string_view bytes);
  /// What was still held back, made valid. Call at the end.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace bitnet::engine
