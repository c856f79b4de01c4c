#pragma once

#include "engine/error.hpp"
#include "engine/grammar/states.hpp"
#include "engine/grammar/token_tree.hpp"

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace bitnet::engine::grammar {

/// What a JSON schema allows, for the tokens of one model. Shared by the sequences with this schema; owned by
/// one thread.
struct compiled_schema {
  states known;
  std::shared_ptr<const token_tree> tree;
};

/// One completion on its way through a schema. Its answers depend on the schema and the text alone.
class matcher {
 public:
  explicit matcher(std::shared_ptr<compiled_schema> schema);

  /// Adds a token's text. False where it cannot follow; the matcher is of no use then.
  bool advance(std::string_view bytes);

  bool may_end() const noexcept { return may_end_; }
  bool must_end() const noexcept { return places_.empty(); }

  /// The tokens that can follow. Fails (invalid_request) where the schema has so many ways at once that they
  /// cannot be followed, and where no token of the vocabulary continues the text.
  result<std::shared_ptr<const token_mask>> allowed_tokens();

 private:
  /// Finds the way again after the states were forgotten.
  void recall();
  bool walk(std::string_view bytes);

  std::shared_ptr<compiled_schema> schema_;
  std::string text_;
  state_id state_;
  std::uint64_t epoch_;
  std::uint64_t place_epoch_;
  std::vector<states::place> places_;  ///< of `state_`
  bool may_end_ = false;               ///< likewise
};

/// Compiled schemas by their text, the least recently used one forgotten first. Owned by one thread.
class schema_cache {
 public:
  /// `tokens` outlives the cache; without any, no schema can be used.
  explicit schema_cache(const tokenizer* tokens) : tokens_(tokens) {}

  result<matcher> match(std::string_view schema);

 private:
  struct entry {
    std::string text;
    std::shared_ptr<compiled_schema> compiled;
  };

  const tokenizer* tokens_;
  std::shared_ptr<const token_tree> tree_;  ///< built with the first schema
  std::list<entry> entries_;                ///< the last used one first
};

}  // namespace bitnet::engine::grammar
