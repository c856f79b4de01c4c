#pragma once

#include "engine/pass_member.hpp"

namespace bitnet::engine {

/// One member's part of the attention of a pass.
class pass_attention {
 public:
  explicit pass_attention(const pass_member& m) : m_(m), s_(m.state) {}

  /// Rotates the queries and keys of this member's tokens and stores their keys and values.
  void rotate_and_store(std::size_t layer);

  /// When all keys and values are stored: split over (chunk, queries, KV head), to each member those of its
  /// own tokens first, then what others have not come to.
  void attend(std::size_t layer);

 private:
  std::size_t end_of_panel(std::size_t r) const noexcept;
  void prefetch_slots(std::size_t layer, kernels::work_range rows) const noexcept;
  std::byte* kv_block(std::size_t layer, std::size_t r) const noexcept;
  void rotate_query(std::size_t r);
  void rotate_and_store_key(std::size_t layer, std::size_t r);
  void attend(std::size_t layer, const attention_item& item);

  const pass_member& m_;
  transformer_state& s_;
};

}  // namespace bitnet::engine
