#include "engine/transformer.hpp"

#include "engine/pass_attention.hpp"
#include "engine/pass_products.hpp"
#include "engine/transformer_state.hpp"

#include <algorithm>
#include <cmath>

namespace bitnet::engine {

/// One member's part in a pass.
class forward_member {
 public:
  forward_member(transformer_state& s, kernels::team_member& team)
      : m_(s, team), s_(s), products_(m_), attention_(m_) {}

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
    if (m_.team.index() == 0) s_.keep_wanted();
    m_.team.barrier();
    forward_member wanted(s_, m_.team);
    if (wanted.m_.alone)
      std::copy_n(s_.shared.residual.row(0), s_.shared.residual.cols(), wanted.m_.tokens.residual.row(0));
    wanted.finish(last);
  }

 private:
  void finish(std::size_t last) {
    finish_layer(last);
    if (m_.alone) products_.add_projected();
    compute_logits();
  }

  /// A layer is x += attention(norm(x)); x += ffn(norm(x)). Up to its keys and values; false when the pass
  /// was cancelled.
  bool store_keys(std::size_t layer) {
    if (m_.team.index() == 0) report_progress(layer);
    const auto& block = s_.weights.blocks[layer];
    if (s_.few)
      project_in(layer, block, s_.weights.decode_blocks[layer]);
    else
      project_in(layer, block, block);
    attention_.rotate_and_store(layer);
    m_.barrier(operation::rope_and_store);
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
    if (layer != 0 && m_.alone) products_.add_projected();
    normalise(block.attn_norm, m_.tokens.block_input);
    m_.tokens_done(operation::attention_norm);
    products_.multiply<decltype(Linear::attn_q)>(
        {{linear.attn_q, s_.q}, {linear.attn_k, s_.k}, {linear.attn_v, s_.v}}, m_.tokens.block_input);
    m_.product_done(operation::qkv_matmul);
  }

  template <class Linear>
  void finish_layer(std::size_t layer, const block_weights& block, const Linear& linear) {
    using Matrix = decltype(Linear::attn_q);
    attention_.attend(layer);
    products_.expect<Matrix>({&linear.attn_output});
    m_.barrier(operation::attention);
    normalise_inner(s_.attended, block.attn_sub_norm, m_.tokens.output_input);
    m_.tokens_done(operation::attention_sub_norm);
    products_.project(linear.attn_output, m_.tokens.output_input);
    products_.expect<Matrix>({&linear.ffn_gate});
    m_.product_done(operation::output_matmul);

    if (m_.alone) products_.add_projected();
    normalise(block.ffn_norm, m_.tokens.block_input);
    m_.tokens_done(operation::ffn_norm);
    products_.multiply_gate_up(linear);
    products_.expect<Matrix>({&linear.ffn_down});
    m_.product_done(operation::gate_up_matmul);
    normalise_inner(s_.gate, block.ffn_sub_norm, m_.tokens.down_input);
    m_.tokens_done(operation::ffn_sub_norm);
    products_.project(linear.ffn_down, m_.tokens.down_input);
    products_.expect_layer<Linear>(layer + 1);
    m_.product_done(operation::down_matmul);
  }

  void embed() {
    for (auto r = m_.rows.first; r < m_.rows.last; ++r)
      s_.weights.embedding->row(s_.rows[r].token, m_.tokens.residual.row(r));
    m_.lap(operation::embedding);
  }

  void report_progress(std::size_t layer) {
    s_.progress->layer.store(static_cast<std::uint32_t>(layer), std::memory_order_relaxed);
    s_.progress->last_progress_ns.store(now_ns(), std::memory_order_relaxed);
    // Read by the others after the barrier before attention, written again only after the one that ends it.
    s_.cancelled = s_.progress->cancel.load(std::memory_order_relaxed);
  }

  /// out = quantise(rms_norm(residual)).
  void normalise(const std::vector<float>& weight, kernels::quantized_activations& out) {
    normalise(m_.tokens.residual, weight, out);
  }

  /// out = quantise(sub_norm(x)), or quantise(x) in models without sub-norms.
  void normalise_inner(const token_matrix& x, const std::vector<float>& weight,
                       kernels::quantized_activations& out) {
    if (!weight.empty()) return normalise(x, weight, out);
    for (auto r = m_.rows.first; r < m_.rows.last; ++r) quantise(x.row(r), out, r);
  }

  void normalise(const token_matrix& x, const std::vector<float>& weight,
                 kernels::quantized_activations& out) {
    auto& normed = s_.normed[m_.team.index()];
    for (auto first = m_.rows.first; first < m_.rows.last; first += transformer_state::normed_together) {
      const auto last = std::min(first + transformer_state::normed_together, m_.rows.last);
      s_.vector.rms_norm(x.row(first), x.cols(), weight.data(), m_.config.rms_epsilon, normed.row(0),
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
    if (!m_.alone || m_.team.index() == 0) s_.row_failed[r] = 1;
  }

  void compute_logits() {
    if (!m_.alone) m_.team.barrier();  // the residual of a row may be another member's
    s_.head.normalise(m_.team, m_.tokens.residual, s_.row_failed.data());
    if (!m_.alone) m_.team.barrier();  // the head is split over its rows, whatever the products are
    m_.lap(operation::output_norm);
    s_.head.multiply(m_.team);
    m_.barrier(operation::head_matmul);
    if (!s_.head.screens()) return;
    s_.head.select(m_.team);
    m_.barrier(operation::head_candidates);
    s_.head.rescore(m_.team);
    m_.team.barrier();
    s_.head.rank(m_.team);
    m_.lap(operation::head_candidates);
  }

  pass_member m_;
  transformer_state& s_;
  pass_products products_;
  pass_attention attention_;
};

transformer::transformer(const model_weights& weights, kernels::team& team, kernels::instruction_set isa,
                         const limits& most, forward_profile* profile)
    : state_(std::make_unique<transformer_state>(weights, team, isa, most, profile)) {}

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
