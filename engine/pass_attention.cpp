#include "engine/pass_attention.hpp"

#include <algorithm>

namespace bitnet::engine {

void pass_attention::rotate_and_store(std::size_t layer) {
  if (m_.alone) {  // queries and keys on two members, where there are two
    if (m_.team.index() == 0) rotate_and_store_key(layer, 0);
    if (m_.team.index() + 1 == m_.team.size()) rotate_query(0);
    return;
  }
  // Positions of a panel share their cache lines, which come from memory: those of the next panel are on
  // their way meanwhile.
  for (auto r = m_.rows.first, next = r; r < m_.rows.last; r = next) {
    next = end_of_panel(r);
    if (r == m_.rows.first) prefetch_slots(layer, {r, next});
    if (next < m_.rows.last) prefetch_slots(layer, {next, end_of_panel(next)});
    for (; r < next; ++r) {
      rotate_query(r);
      rotate_and_store_key(layer, r);
    }
  }
}

/// The end of this member's rows from r on whose keys lie in one panel of a KV block.
std::size_t pass_attention::end_of_panel(std::size_t r) const noexcept {
  const auto panel = [&](std::size_t row) { return s_.rows[row].position / kernels::kv_panel_tokens; };
  auto end = r + 1;
  while (end < m_.rows.last && s_.rows[end].chunk == s_.rows[r].chunk && panel(end) == panel(r)) ++end;
  return end;
}

void pass_attention::prefetch_slots(std::size_t layer, kernels::work_range rows) const noexcept {
  const auto slot = s_.rows[rows.first].position % kernels::kv_block_tokens;
  kernels::prefetch_kv(kv_block(layer, rows.first), slot, slot + rows.last - rows.first,
                       m_.config.kv_head_count, m_.config.head_dim);
}

std::byte* pass_attention::kv_block(std::size_t layer, std::size_t r) const noexcept {
  const auto& row = s_.rows[r];
  return s_.cache->data(s_.chunks[row.chunk].blocks[row.position / kernels::kv_block_tokens], layer);
}

void pass_attention::rotate_query(std::size_t r) {
  const auto position = s_.rows[r].position;
  s_.vector.rope(s_.q.row(r), m_.config.head_count, m_.config.head_dim, s_.rope.cos(position),
                 s_.rope.sin(position), m_.config.rope);
}

void pass_attention::rotate_and_store_key(std::size_t layer, std::size_t r) {
  const auto& row = s_.rows[r];
  s_.vector.rope(s_.k.row(r), m_.config.kv_head_count, m_.config.head_dim, s_.rope.cos(row.position),
                 s_.rope.sin(row.position), m_.config.rope);
  s_.vector.store_kv(kv_block(layer, r), row.position % kernels::kv_block_tokens, s_.k.row(r), s_.v.row(r),
                     m_.config.kv_head_count, m_.config.head_dim);
}

void pass_attention::attend(std::size_t layer) {
  const auto& work = layer + 1 < s_.weights.blocks.size() ? s_.attention : s_.last_attention;
  // Its own pieces first, then what others have not come to.
  for (std::size_t i = 0; i < m_.team.size(); ++i) {
    const auto owner = (m_.team.index() + i) % m_.team.size();
    auto& taken = s_.taken_items[layer * m_.team.size() + owner];
    for (;;) {
      const auto index = work.first[owner] + taken.fetch_add(1, std::memory_order_relaxed);
      if (index >= work.first[owner + 1]) break;
      attend(layer, work.items[index]);
    }
  }
}

void pass_attention::attend(std::size_t layer, const attention_item& item) {
  auto& list = s_.block_lists[m_.team.index()];
  const auto& chunk = s_.chunks[item.chunk];
  const auto blocks =
      (item.position + item.queries + kernels::kv_block_tokens - 1) / kernels::kv_block_tokens;
  for (std::size_t b = 0; b < blocks; ++b) list[b] = s_.cache->data(chunk.blocks[b], layer);
  const kernels::attention_args args{.q = s_.q.row(item.row),
                                     .q_stride = s_.q.cols(),
                                     .out = s_.attended.row(item.out_row),
                                     .out_stride = s_.attended.cols(),
                                     .kv_blocks = list.data(),
                                     .query_count = item.queries,
                                     .position = item.position,
                                     .heads = m_.config.head_count,
                                     .kv_heads = m_.config.kv_head_count,
                                     .head_dim = m_.config.head_dim,
                                     .scale = s_.attention_scale};
  s_.vector.attention(args, item.kv_head, item.kv_head + 1);
}

}  // namespace bitnet::engine
