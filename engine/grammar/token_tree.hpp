#pragma once

#include "engine/tokenizer.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet::engine::grammar {

/// The texts of a vocabulary as a tree of bytes, so that what tokens have in common is looked at once.
/// Tokens without text (control tokens) are not in it. Immutable.
class token_tree {
 public:
  explicit token_tree(const tokenizer& tokens);

  struct node {
    std::uint8_t byte;
    std::uint32_t depth;        ///< of the first level: 0
    std::uint32_t subtree_end;  ///< index after the last node below this one
    std::uint32_t first_token;  ///< in `ids`: the tokens that end here
    std::uint32_t token_count;
  };

  /// In depth-first order.
  std::span<const node> nodes() const noexcept { return nodes_; }
  std::span<const token_id> tokens_of(const node& n) const noexcept {
    return std::span(ids_).subspan(n.first_token, n.token_count);
  }
  std::size_t depth() const noexcept { return depth_; }
  std::size_t vocabulary_size() const noexcept { return vocabulary_size_; }

 private:
  std::vector<node> nodes_;
  std::vector<token_id> ids_;
  std::size_t depth_ = 0;  ///< bytes of the longest token
  std::size_t vocabulary_size_ = 0;
};

}  // namespace bitnet::engine::grammar
