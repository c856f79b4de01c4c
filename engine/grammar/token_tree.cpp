#include "engine/grammar/token_tree.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace bitnet::engine::grammar {

token_tree::token_tree(const tokenizer& tokens) : vocabulary_size_(tokens.size()) {
  std::vector<std::pair<std::string, token_id>> texts;
  for (token_id id = 0; id < tokens.size(); ++id)
    if (auto text = tokens.token_bytes(id); !text.empty()) texts.emplace_back(std::move(text), id);
  std::sort(texts.begin(), texts.end());

  std::vector<std::uint32_t> open;  // the node of each byte of the text before
  const auto close_to = [&](std::size_t depth) {
    for (; open.size() > depth; open.pop_back())
      nodes_[open.back()].subtree_end = static_cast<std::uint32_t>(nodes_.size());
  };
  const std::string none;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto& text = texts[i].first;
    const auto& before = i == 0 ? none : texts[i - 1].first;
    const auto common =
        std::mismatch(text.begin(), text.end(), before.begin(), before.end()).first - text.begin();
    close_to(static_cast<std::size_t>(common));
    while (open.size() < text.size()) {
      const auto at = open.size();
      open.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back({static_cast<std::uint8_t>(text[at]), static_cast<std::uint32_t>(at), 0,
                        static_cast<std::uint32_t>(ids_.size()), 0});
    }
    ++nodes_[open.back()].token_count;
    ids_.push_back(texts[i].second);
    depth_ = std::max(depth_, text.size());
  }
  close_to(0);
}

}  // namespace bitnet::engine::grammar
