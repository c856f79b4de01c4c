#include "engine/transformer.hpp"

#include "engine/transformer_state.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <initializer_list>
#include <type_traits>

namespace bitnet::engine {

namespace {

std::int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// y = W x for the whole batch; y's columns are W's rows.
template <class Matrix>
struct product {
  const Matrix& w;
  token_matrix& y;
};

}  // namespace

/// One member's part in a pass. Steps that go token by token are split over the tokens; with a single token
/// each member does them all on buffers of its own, which is cheaper than a barrier. Products are split over
/// tokens where there are enough for everybody, so that what a member computes stays in its cache and it
/// waits for the others only around attention; otherwise over row blocks. Attention is split over (chunk,
/// queries, KV head), to each member those of its own tokens first.
class forward_member {
 public:
  forward_member(transformer::state& s, kernels::team_member& member)
      : s_(s),
        member_(member),
        config_(s.weights.config),
        alone_(s.rows.size() == 1),
        tokens_(alone_ ? *s.own[member.index()] : s.shared),
        by_tokens_(s.by_tokens),
        fuses_(s.matmul.fuses(s.rows.size())),
        my_rows_(s.rows_of(member.index())),
        lap_start_(now_ns()) {}

  void run() {
    embed();
    const auto last = s_.weights.blocks.size() - 1;
    for (std::size_t layer = 0; layer < last; ++layer) {
      if (!store_keys(layer)) return;
      finish_layer(layer);
    }
    if (!store_keys(last)) return;
    // What the last layer computes beside keys and values, only tokens with logits need.
    if (s_.wanted.empty()) return;
    if (s_.all_wanted) return finish(last);
    if (member_.index() == 0) s_.keep_wanted();
    member_.barrier();
    forward_member wanted(s_, member_);
    if (wanted.alone_)
      std::copy_n(s_.shared.residual.row(0), s_.shared.residual.cols(), wanted.tokens_.residual.row(0));
    wanted.finish(last);
  }

 private:
  void finish(std::size_t last) {
    finish_layer(last);
    if (alone_) add_projected();
    compute_logits();
  }

  /// A layer is x += attention(norm(x)); x += ffn(norm(x)). Up to its keys and values; false when the pass
  /// was cancelled.
  bool store_keys(std::size_t layer) {
    if (member_.index() == 0) report_progress(layer);
    const auto& block = s_.weights.blocks[layer];
    if (s_.few)
      project_in(layer, block, s_.weights.decode_blocks[layer]);
    else
      project_in(layer, block, block);
    rotate_and_store(layer);
    barrier(operation::rope_and_store);
    return !s_.cancelled;
  }

  /// The rest of it.
  void finish_layer(std::size_t layer) {
    const auto& block = s_.weights.blocks[layer];
    if (s_.few)
      finish_layer(layer, block, s_.weights.decode_blocks[layer]);
    else
      finish_layer(layer, block, block);
  }

  /// q, k, v = W norm(x). `linear` holds the linear weights: of the block itself, or of the copy for few
  /// tokens.
  template <class Linear>
  void project_in(std::size_t layer, const block_weights& block, const Linear& linear) {
    // After the first layer, what the FFN before projected is still to be added.
    if (layer != 0 && alone_) add_projected();
    normalise(block.attn_norm, tokens_.block_input);
    tokens_done(operation::attention_norm);
    multiply<decltype(Linear::attn_q)>({{linear.attn_q, s_.q}, {linear.attn_k, s_.k}, {linear.attn_v, s_.v}},
                                       tokens_.block_input);
    product_done(operation::qkv_matmul);
  }

  template <class Linear>
  void finish_layer(std::size_t layer, const block_weights& block, const Linear& linear) {
    using Matrix = decltype(Linear::attn_q);
    attend(layer);
    expect<Matrix>({&linear.attn_output});
    barrier(operation::attention);
    normalise_inner(s_.attended, block.attn_sub_norm, tokens_.output_input);
    tokens_done(operation::attention_sub_norm);
    project(linear.attn_output, tokens_.output_input);
    expect<Matrix>({&linear.ffn_gate});
    product_done(operation::output_matmul);

    if (alone_) add_projected();
    normalise(block.ffn_norm, tokens_.block_input);
    tokens_done(operation::ffn_norm);
    multiply_gate_up(linear);
    expect<Matrix>({&linear.ffn_down});
    product_done(operation::gate_up_matmul);
    normalise_inner(s_.gate, block.ffn_sub_norm, tokens_.down_input);
    tokens_done(operation::ffn_sub_norm);
    project(linear.ffn_down, tokens_.down_input);
    expect_layer<Linear>(layer + 1);
    product_done(operation::down_matmul);
  }

  void embed() {
    for (auto r = my_rows_.first; r < my_rows_.last; ++r)
      s_.weights.embedding->row(s_.rows[r].token, tokens_.residual.row(r));
    lap(operation::embedding);
  }

  void report_progress(std::size_t layer) {
    s_.progress->layer.store(static_cast<std::uint32_t>(layer), std::memory_order_relaxed);
    s_.progress->last_progress_ns.store(now_ns(), std::memory_order_relaxed);
    // Read by the others after the barrier before attention, written again only after the one that ends it.
    s_.cancelled = s_.progress->cancel.load(std::memory_order_relaxed);
  }

  /// residual += W x. A single token's sum is left to add_projected: each member has a residual of its own,
  /// and needs the whole product.
  template <class Matrix>
  void project(const Matrix& w, const kernels::quantized_activations& x) {
    if (alone_) return multiply<Matrix>({{w, s_.projected}}, x);
    if constexpr (std::is_same_v<Matrix, kernels::ternary_matrix>) {
      if (fuses_) {
        s_.matmul.add_ternary_matmul(w, x.part(product_rows()), tokens_.residual.row(product_rows().first),
                                     tokens_.residual.cols(), share(w.block_count()));
        return;
      }
    }
    for_each_part(w, s_.projected, [&](const part& p) {
      multiply(w, x, p.results, p.cols, p.blocks);
      for (auto r = p.rows.first; r < p.rows.last; ++r)
        s_.vector.add(p.row(r), tokens_.residual.row(r) + p.first_col, p.cols);
    });
  }

  /// residual += the last product's output.
  void add_projected() {
    s_.vector.add(s_.projected.row(0), tokens_.residual.row(0), config_.embedding_length);
  }

  /// out = quantise(rms_norm(residual)).
  void normalise(const std::vector<float>& weight, kernels::quantized_activations& out) {
    normalise(tokens_.residual, weight, out);
  }

  /// out = quantise(sub_norm(x)), or quantise(x) in models without sub-norms.
  void normalise_inner(const token_matrix& x, const std::vector<float>& weight,
                       kernels::quantized_activations& out) {
    if (!weight.empty()) return normalise(x, weight, out);
    for (auto r = my_rows_.first; r < my_rows_.last; ++r) quantise(x.row(r), out, r);
  }

  void normalise(const token_matrix& x, const std::vector<float>& weight,
                 kernels::quantized_activations& out) {
    auto& normed = s_.normed[member_.index()];
    for (auto first = my_rows_.first; first < my_rows_.last; first += transformer::state::normed_together) {
      const auto last = std::min(first + transformer::state::normed_together, my_rows_.last);
      s_.vector.rms_norm(x.row(first), x.cols(), weight.data(), config_.rms_epsilon, normed.row(0),
                         normed.cols(), last - first, x.cols());
      for (auto r = first; r < last; ++r) quantise(normed.row(r - first), out, r);
    }
  }

  /// A row that holds NaN or infinity gets the scale NaN.
  void quantise(const float* x, kernels::quantized_activations& out, std::size_t r) {
    s_.matmul.quantize_row(x, out, r);
    if (std::isnan(out.row_scale()[r])) note_failure(r);
  }

  void note_failure(std::size_t r) {
    if (!alone_ || member_.index() == 0) s_.row_failed[r] = 1;
  }

  /// The tokens that this member multiplies.
  kernels::work_range product_rows() const noexcept {
    return by_tokens_ ? my_rows_ : kernels::work_range{0, s_.rows.size()};
  }

  /// This member's share of the row blocks of a product with its tokens.
  kernels::work_range share(std::size_t blocks) const noexcept {
    return by_tokens_ ? kernels::work_range{0, blocks} : member_.share(blocks);
  }

  /// All products read the same input; their row blocks count as one range, shared evenly.
  template <class Matrix>
  void multiply(std::initializer_list<product<Matrix>> products, const kernels::quantized_activations& x) {
    std::size_t total = 0;
    for (const auto& p : products) total += p.w.block_count();
    const auto mine = share(total);
    std::size_t start = 0;
    for (const auto& p : products) {
      const auto end = start + p.w.block_count();
      const auto first = std::clamp(mine.first, start, end);
      const auto last = std::clamp(mine.last, start, end);
      if (first < last)
        multiply(p.w, x, p.y.row(product_rows().first), p.y.cols(), {first - start, last - start});
      start = end;
    }
  }

  /// Before a barrier: the product after it will be with these matrices, as `multiply` shares them. One token
  /// at a time memory is what limits, and should not idle meanwhile.
  template <class Matrix>
  void expect(std::initializer_list<const Matrix*> matrices) {
    if (!alone_) return;
    std::size_t total = 0;
    for (const auto* w : matrices) total += w->block_count();
    auto first = member_.share(total).first;
    for (const auto* w : matrices) {
      if (first < w->block_count()) {
        kernels::prefetch_blocks(w->block(first), w->bytes().size() / w->block_count());
        return;
      }
      first -= w->block_count();
    }
  }

  template <class Linear>
  void expect_layer(std::size_t layer) {
    if (layer == s_.weights.blocks.size()) {
      s_.head.prefetch(member_);
      return;
    }
    using Matrix = decltype(Linear::attn_q);
    const Linear* next = nullptr;
    if constexpr (std::is_same_v<Linear, decode_block>)
      next = &s_.weights.decode_blocks[layer];
    else
      next = &s_.weights.blocks[layer];
    expect<Matrix>({&next->attn_q, &next->attn_k, &next->attn_v});
  }

  void multiply(const kernels::ternary_matrix& w, const kernels::quantized_activations& x, float* y,
                std::size_t y_stride, kernels::work_range blocks) {
    s_.matmul.ternary_matmul(w, x.part(product_rows()), y, y_stride, blocks);
  }
  void multiply(const kernels::base3_matrix& w, const kernels::quantized_activations& x, float* y,
                std::size_t y_stride, kernels::work_range blocks) {
    s_.base3(w, x, y, y_stride, blocks);
  }

  /// Some row blocks of a product with this member's tokens, and where their results go for a moment.
  struct part {
    kernels::work_range blocks;
    kernels::work_range rows;  ///< tokens
    std::size_t first_col;
    std::size_t cols;
    float* results;  ///< as the kernels want them: of token rows.first at first_col

    const float* row(std::size_t r) const noexcept { return results + (r - rows.first) * cols + first_col; }
  };

  /// The member's share of a product in parts whose results stay in the cache until they have been used: each
  /// part takes the place of the one before, in what of `room` belongs to this member.
  template <class Matrix, class Use>
  void for_each_part(const Matrix& w, token_matrix& room, Use use) {
    constexpr std::size_t least_blocks = 8;
    constexpr std::size_t tokens_times_blocks = 1024;  // 128 KB
    constexpr auto block_rows = Matrix::block_rows;
    const auto rows = product_rows();
    const auto tokens = rows.last - rows.first;
    const auto mine = share(w.block_count());
    const auto step =
        s_.few || alone_ ? mine.last - mine.first : std::max(least_blocks, tokens_times_blocks / tokens);
    for (auto first = mine.first; first < mine.last; first += step) {
      part p;
      p.blocks = {first, std::min(first + step, mine.last)};
      p.rows = rows;
      p.first_col = p.blocks.first * block_rows;
      p.cols = std::min(p.blocks.last * block_rows, room.cols()) - p.first_col;
      p.results = room.row(rows.first) + (tokens - 1) * mine.first * block_rows;
      use(p);
    }
  }

  /// gate = activation(gate) * up.
  template <class Linear>
  void multiply_gate_up(const Linear& linear) {
    if constexpr (std::is_same_v<Linear, block_weights>) {
      if (fuses_ && config_.activation == ffn_activation::squared_relu) {
        s_.matmul.gated_matmul(linear.ffn_gate, linear.ffn_up, tokens_.block_input.part(product_rows()),
                               s_.gate.row(product_rows().first), s_.gate.cols(),
                               share(linear.ffn_gate.block_count()));
        return;
      }
    }
    const auto function = config_.activation == ffn_activation::squared_relu ? s_.vector.squared_relu_gate
                                                                             : s_.vector.silu_gate;
    for_each_part(linear.ffn_gate, s_.up, [&](const part& p) {
      multiply(linear.ffn_gate, tokens_.block_input, s_.gate.row(p.rows.first), s_.gate.cols(), p.blocks);
      multiply(linear.ffn_up, tokens_.block_input, p.results, p.cols, p.blocks);
      for (auto r = p.rows.first; r < p.rows.last; ++r) {
        auto* const gate = s_.gate.row(r) + p.first_col;
        function(gate, p.row(r), gate, p.cols);
      }
    });
  }

  void rotate_and_store(std::size_t layer) {
    if (alone_) {  // queries and keys on two members, where there are two
      if (member_.index() == 0) rotate_and_store_key(layer, 0);
      if (member_.index() + 1 == member_.size()) rotate_query(0);
      return;
    }
    // Positions of a panel share their cache lines, which come from memory: those of the next panel are on
    // their way meanwhile.
    for (auto r = my_rows_.first, next = r; r < my_rows_.last; r = next) {
      next = end_of_panel(r);
      if (r == my_rows_.first) prefetch_slots(layer, {r, next});
      if (next < my_rows_.last) prefetch_slots(layer, {next, end_of_panel(next)});
      for (; r < next; ++r) {
        rotate_query(r);
        rotate_and_store_key(layer, r);
      }
    }
  }

  /// The end of this member's rows from r on whose keys lie in one panel of a KV block.
  std::size_t end_of_panel(std::size_t r) const noexcept {
    const auto panel = [&](std::size_t row) { return s_.rows[row].position / kernels::kv_panel_tokens; };
    auto end = r + 1;
    while (end < my_rows_.last && s_.rows[end].chunk == s_.rows[r].chunk && panel(end) == panel(r)) ++end;
    return end;
  }

  void prefetch_slots(std::size_t layer, kernels::work_range rows) const noexcept {
    const auto slot = s_.rows[rows.first].position % kernels::kv_block_tokens;
    kernels::prefetch_kv(kv_block(layer, rows.first), slot, slot + rows.last - rows.first,
                         config_.kv_head_count, config_.head_dim);
  }

  std::byte* kv_block(std::size_t layer, std::size_t r) const noexcept {
    const auto& row = s_.rows[r];
    return s_.cache->data(s_.chunks[row.chunk].blocks[row.position / kernels::kv_block_tokens], layer);
  }

  void rotate_query(std::size_t r) {
    const auto position = s_.rows[r].position;
    s_.vector.rope(s_.q.row(r), config_.head_count, config_.head_dim, s_.rope.cos(position),
                   s_.rope.sin(position), config_.rope);
  }

  void rotate_and_store_key(std::size_t layer, std::size_t r) {
    const auto& row = s_.rows[r];
    s_.vector.rope(s_.k.row(r), config_.kv_head_count, config_.head_dim, s_.rope.cos(row.position),
                   s_.rope.sin(row.position), config_.rope);
    s_.vector.store_kv(kv_block(layer, r), row.position % kernels::kv_block_tokens, s_.k.row(r), s_.v.row(r),
                       config_.kv_head_count, config_.head_dim);
  }

  void attend(std::size_t layer) {
    const auto& work = layer + 1 < s_.weights.blocks.size() ? s_.attention : s_.last_attention;
    // Its own pieces first, then what others have not come to.
    for (std::size_t i = 0; i < member_.size(); ++i) {
      const auto owner = (member_.index() + i) % member_.size();
      auto& taken = s_.taken_items[layer * member_.size() + owner];
      for (;;) {
        const auto index = work.first[owner] + taken.fetch_add(1, std::memory_order_relaxed);
        if (index >= work.first[owner + 1]) break;
        attend(layer, work.items[index]);
      }
    }
  }

  void attend(std::size_t layer, const attention_item& item) {
    auto& list = s_.block_lists[member_.index()];
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
                                       .heads = config_.head_count,
                                       .kv_heads = config_.kv_head_count,
                                       .head_dim = config_.head_dim,
                                       .scale = s_.attention_scale};
    s_.vector.attention(args, item.kv_head, item.kv_head + 1);
  }

  void compute_logits() {
    if (!alone_) member_.barrier();  // the residual of a row may be another member's
    s_.head.normalise(member_, tokens_.residual, s_.row_failed.data());
    if (!alone_) member_.barrier();  // the head is split over its rows, whatever the products are
    lap(operation::output_norm);
    s_.head.multiply(member_);
    barrier(operation::head_matmul);
    if (!s_.head.screens()) return;
    s_.head.select(member_);
    barrier(operation::head_candidates);
    s_.head.rescore(member_);
    member_.barrier();
    s_.head.rank(member_);
    lap(operation::head_candidates);
  }

  void barrier(operation op) {
    member_.barrier();
    lap(op);
  }

  /// Ends a step that went token by token.
  void tokens_done(operation op) {
    if (!alone_ && !by_tokens_) member_.barrier();
    lap(op);
  }

  /// Ends a product whose results go to steps token by token.
  void product_done(operation op) {
    if (!by_tokens_) member_.barrier();
    lap(op);
  }

  void lap(operation op) {
    if (s_.profile == nullptr || member_.index() != 0) return;
    const auto now = now_ns();
    s_.profile->seconds[static_cast<std::size_t>(op)] += 1e-9 * static_cast<double>(now - lap_start_);
    lap_start_ = now;
  }

  transformer::state& s_;
  kernels::team_member& member_;
  const model_config& config_;
  const bool alone_;  ///< one token: every member has its own token buffers
  token_buffers& tokens_;
  const bool by_tokens_;  ///< products are split over tokens
  const bool fuses_;      ///< products are added and gated where they are computed
  const kernels::work_range my_rows_;
  std::int64_t lap_start_;
};

transformer::transformer(const model_weights& weights, kernels::team& team, kernels::instruction_set isa,
                         const limits& most, forward_profile* profile)
    : state_(std::make_unique<state>(weights, team, isa, most, profile)) {}

transformer::~transformer() = default;

forward_status transformer::forward(std::span<const batch_chunk> chunks, kv_cache& cache,
                                    struct progress& progress) {
  auto& s = *state_;
  s.cache = &cache;
  s.progress = &progress;
  s.prepare(chunks);
  s.team.run([&s](kernels::team_member& member) { forward_member(s, member).run(); });
  if (s.cancelled) return forward_status::cancelled;
  s.note_failures();
  if (s.profile != nullptr) ++s.profile->passes;
  progress.last_progress_ns.store(now_ns(), std::memory_order_relaxed);
  return forward_status::complete;
}

std::span<float> transformer::logits(std::size_t index) noexcept {
  return state_->head.logits(index);
}

std::span<const candidate> transformer::candidates(std::size_t index) const noexcept {
  return state_->head.candidates(index);
}

bool transformer::failed(std::size_t chunk) const noexcept {
  return state_->chunk_failed[chunk] != 0;
}

}  // namespace bitnet::engine
