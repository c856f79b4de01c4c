#include "engine/transformer_state.hpp"

#include <algorithm>
#include <cmath>

namespace bitnet::engine {

namespace {

/// Queries that one attention item covers: they share each block of keys while it is in the cache.
constexpr std::size_t queries_per_item = 16;

std::size_t longest_input(const model_config& config) noexcept {
  return std::max({std::size_t{config.embedding_length}, std::size_t{config.query_length()},
                   std::size_t{config.feed_forward_length}});
}

}  // namespace

token_buffers::token_buffers(const model_config& config, const kernels::matmul_kernels& matmul,
                             std::size_t rows)
    : residual(rows, config.embedding_length),
      matmul_(matmul),
      embedding_length_(config.embedding_length),
      query_length_(config.query_length()),
      feed_forward_length_(config.feed_forward_length) {
  resize(rows);
}

void token_buffers::resize(std::size_t rows) {
  const auto layout = matmul_.layout(rows);
  block_input.resize(rows, embedding_length_, layout);
  output_input.resize(rows, query_length_, layout);
  down_input.resize(rows, feed_forward_length_, layout);
}

transformer_state::transformer_state(const model_weights& w, kernels::team& t, kernels::instruction_set isa,
                                     const pass_limits& most, forward_profile* p)
    : weights(w),
      team(t),
      matmul(kernels::matmul_kernels_for(isa)),
      vector(kernels::vector_kernels_for(isa)),
      base3(w.decode_blocks.empty() ? nullptr : kernels::base3_matmul_for(isa)),
      profile(p),
      rope(w.config),
      attention_scale(1.0F / std::sqrt(static_cast<float>(w.config.head_dim))),
      taken_items(w.config.block_count * t.size()),
      chunk_failed(most.chunks),
      row_failed(most.rows),
      shared(w.config, matmul, most.rows),
      head(w, matmul, vector, isa, most.logits_rows, t.size()),
      q(most.rows, w.config.query_length()),
      k(most.rows, w.config.kv_length()),
      v(most.rows, w.config.kv_length()),
      attended(most.rows, w.config.query_length()),
      gate(most.rows, w.config.feed_forward_length),
      projected(most.rows, w.config.embedding_length),
      up(most.rows, w.config.feed_forward_length) {
  rows.reserve(most.rows);
  // Every chunk has at most one item that is not full, for each KV head.
  for (auto* work : {&attention, &last_attention}) {
    work->items.reserve((most.rows + most.chunks) * w.config.kv_head_count);
    work->first.resize(t.size() + 1);
  }
  wanted.reserve(most.rows);
  for (std::size_t i = 0; i < t.size(); ++i) {
    own.push_back(std::make_unique<token_buffers>(w.config, matmul, 1));
    normed.emplace_back(normed_together, longest_input(w.config));
    block_lists.emplace_back(kv_blocks_per_context(w.config));
  }
}

void transformer_state::prepare(std::span<const batch_chunk> batch) {
  chunks = batch;
  rows.clear();
  wanted.clear();
  head.clear();
  attention.items.clear();
  last_attention.items.clear();
  for (std::uint32_t c = 0; c < batch.size(); ++c) {
    const auto& chunk = batch[c];
    const auto count = chunk.tokens.size();
    const auto without = count - std::min(chunk.logits, count);
    add_attention(attention, c, rows.size(), rows.size(), chunk.position, count);
    add_attention(last_attention, c, rows.size() + without, wanted.size(), chunk.position + without,
                  count - without);
    for (std::size_t i = 0; i < count; ++i) {
      if (i >= without) {
        head.add(wanted.size(), chunk.candidates);
        wanted.push_back(rows.size());
      }
      rows.push_back({chunk.tokens[i], c, chunk.position + i});
    }
    chunk_failed[c] = 0;
  }
  deal(attention, rows.size());
  deal(last_attention, wanted.size());
  for (auto& counter : taken_items) counter.store(0, std::memory_order_relaxed);
  cancelled = false;
  all_wanted = wanted.size() == rows.size();
  resize(rows.size());
  head.prepare(wanted.size() == 1);
}

void transformer_state::add_attention(attention_work& work, std::uint32_t chunk, std::size_t row,
                                      std::size_t out_row, std::size_t position, std::size_t queries) const {
  for (std::size_t first = 0; first < queries; first += queries_per_item) {
    const auto some = std::min(queries_per_item, queries - first);
    for (std::uint32_t kv_head = 0; kv_head < weights.config.kv_head_count; ++kv_head)
      work.items.push_back({chunk, kv_head, row + first, out_row + first, position + first, some});
  }
}

void transformer_state::deal(attention_work& work, std::size_t count) const {
  // Queries and results of a member's own tokens are in its cache. A single token is everybody's.
  const auto owner = [&](const attention_item& item) {
    if (count <= 1) return item.kv_head % team.size();
    std::size_t member = 0;
    while (member + 1 < team.size() && item.out_row >= rows_of(member, count).last) ++member;
    return member;
  };
  std::sort(work.items.begin(), work.items.end(), [&](const attention_item& a, const attention_item& b) {
    const auto of_a = owner(a);
    const auto of_b = owner(b);
    return of_a != of_b ? of_a < of_b : a.cost() > b.cost();
  });
  std::size_t at = 0;
  for (std::size_t member = 0; member < team.size(); ++member) {
    work.first[member] = at;
    while (at < work.items.size() && owner(work.items[at]) == member) ++at;
  }
  work.first.back() = at;
}

kernels::work_range transformer_state::rows_of(std::size_t member, std::size_t count) const noexcept {
  if (count == 1) return {0, 1};
  if (!splits_tokens(count)) return kernels::share_of(count, member, team.size());
  // Whole tiles of the activations.
  constexpr auto tile = kernels::activation_rows::tile_rows;
  const auto tiles = kernels::share_of((count + tile - 1) / tile, member, team.size());
  return {tiles.first * tile, std::min(tiles.last * tile, count)};
}

void transformer_state::resize(std::size_t count) {
  std::fill_n(row_failed.begin(), count, std::uint8_t{0});
  few = base3 != nullptr && count <= kernels::base3_max_tokens;
  by_tokens = splits_tokens(count);
  if (count > 1) shared.resize(count);
}

void transformer_state::keep_wanted() {
  note_failures();
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    rows[i] = rows[wanted[i]];
    if (wanted[i] != i)
      std::copy_n(shared.residual.row(wanted[i]), shared.residual.cols(), shared.residual.row(i));
  }
  rows.resize(wanted.size());
  resize(rows.size());
}

void transformer_state::note_failures() noexcept {
  for (std::size_t r = 0; r < rows.size(); ++r) chunk_failed[rows[r].chunk] |= row_failed[r];
}

}  // namespace bitnet::engine
