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

transformer::state::state(const model_weights& w, kernels::team& t, kernels::instruction_set isa,
                          const limits& most, forward_profile* p)
    : weights(w),
      team(t),
      matmul(kernels::matmul_kernels_for(isa)),
      vector(kernels::vector_kernels_for(isa)),
      base3(w.decode_blocks.empty() ? nullptr : kernels::base3_matmul_for(isa)),
      profile(p),
      rope(w.config),
      attention_scale(1.0F / std::sqrt(static_cast<float>(w.config.head_dim))),
      next_item(w.config.block_count),
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
  attention_items.reserve((most.rows + most.chunks) * w.config.kv_head_count);
  for (std::size_t i = 0; i < t.size(); ++i) {
    own.push_back(std::make_unique<token_buffers>(w.config, matmul, 1));
    normed.emplace_back(normed_together, longest_input(w.config));
    block_lists.emplace_back(kv_blocks_per_context(w.config));
  }
}

void transformer::state::prepare(std::span<const batch_chunk> batch) {
  chunks = batch;
  rows.clear();
  head.clear();
  attention_items.clear();
  for (std::uint32_t c = 0; c < batch.size(); ++c) {
    const auto& chunk = batch[c];
    const auto count = chunk.tokens.size();
    for (std::size_t first = 0; first < count; first += queries_per_item) {
      const auto queries = std::min(queries_per_item, count - first);
      for (std::uint32_t kv_head = 0; kv_head < weights.config.kv_head_count; ++kv_head)
        attention_items.push_back({c, kv_head, rows.size() + first, chunk.position + first, queries});
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (i + chunk.logits >= count) head.add(rows.size(), chunk.candidates);
      rows.push_back({chunk.tokens[i], c, chunk.position + i});
    }
    chunk_failed[c] = 0;
  }
  // Long pieces first, so that the members finish together.
  std::sort(attention_items.begin(), attention_items.end(),
            [](const attention_item& a, const attention_item& b) { return a.cost() > b.cost(); });
  for (auto& counter : next_item) counter.store(0, std::memory_order_relaxed);
  std::fill_n(row_failed.begin(), rows.size(), std::uint8_t{0});
  few = base3 != nullptr && rows.size() <= kernels::base3_max_tokens;
  cancelled = false;
  if (rows.size() > 1) shared.resize(rows.size());
  head.prepare(rows.size() == 1);
}

}  // namespace bitnet::engine
