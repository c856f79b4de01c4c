#pragma once

#include "engine/pass_member.hpp"

#include <algorithm>
#include <initializer_list>
#include <type_traits>

namespace bitnet::engine {

/// y = W x for the whole batch; y's columns are W's rows.
template <class Matrix>
struct product {
  const Matrix& w;
  token_matrix& y;
};

/// The products of one member. `Matrix` and `Linear`: of the weights themselves, or of the copy for few
/// tokens (decode_weights.hpp).
class pass_products {
 public:
  explicit pass_products(const pass_member& m)
      : m_(m), s_(m.state), fuses_(s_.matmul.fuses(s_.rows.size())) {}

  /// All products read the same input; their row blocks count as one range, shared evenly.
  template <class Matrix>
  void multiply(std::initializer_list<product<Matrix>> products, const kernels::quantized_activations& x) {
    std::size_t total = 0;
    for (const auto& p : products) total += p.w.block_count();
    const auto mine = m_.share(total);
    std::size_t start = 0;
    for (const auto& p : products) {
      const auto end = start + p.w.block_count();
      const auto first = std::clamp(mine.first, start, end);
      const auto last = std::clamp(mine.last, start, end);
      if (first < last)
        multiply(p.w, x, p.y.row(m_.product_rows().first), p.y.cols(), {first - start, last - start});
      start = end;
    }
  }

  /// residual += W x. A single token's sum is left to add_projected: each member has a residual of its own,
  /// and needs the whole product.
  template <class Matrix>
  void project(const Matrix& w, const kernels::quantized_activations& x) {
    if (m_.alone) return multiply<Matrix>({{w, s_.projected}}, x);
    if constexpr (std::is_same_v<Matrix, kernels::ternary_matrix>) {
      if (fuses_) {
        s_.matmul.add_ternary_matmul(w, x.part(m_.product_rows()),
                                     m_.tokens.residual.row(m_.product_rows().first),
                                     m_.tokens.residual.cols(), m_.share(w.block_count()));
        return;
      }
    }
    for_each_part(w, s_.projected, [&](const part& p) {
      multiply(w, x, p.results, p.cols, p.blocks);
      for (auto r = p.rows.first; r < p.rows.last; ++r)
        s_.vector.add(p.row(r), m_.tokens.residual.row(r) + p.first_col, p.cols);
    });
  }

  /// residual += the last product's output.
  void add_projected() {
    s_.vector.add(s_.projected.row(0), m_.tokens.residual.row(0), m_.config.embedding_length);
  }

  /// gate = activation(gate) * up.
  template <class Linear>
  void multiply_gate_up(const Linear& linear) {
    if constexpr (std::is_same_v<Linear, block_weights>) {
      if (fuses_ && m_.config.activation == ffn_activation::squared_relu) {
        s_.matmul.gated_matmul(linear.ffn_gate, linear.ffn_up, m_.tokens.block_input.part(m_.product_rows()),
                               s_.gate.row(m_.product_rows().first), s_.gate.cols(),
                               m_.share(linear.ffn_gate.block_count()));
        return;
      }
    }
    const auto function = m_.config.activation == ffn_activation::squared_relu ? s_.vector.squared_relu_gate
                                                                               : s_.vector.silu_gate;
    for_each_part(linear.ffn_gate, s_.up, [&](const part& p) {
      multiply(linear.ffn_gate, m_.tokens.block_input, s_.gate.row(p.rows.first), s_.gate.cols(), p.blocks);
      multiply(linear.ffn_up, m_.tokens.block_input, p.results, p.cols, p.blocks);
      for (auto r = p.rows.first; r < p.rows.last; ++r) {
        auto* const gate = s_.gate.row(r) + p.first_col;
        function(gate, p.row(r), gate, p.cols);
      }
    });
  }

  /// Before a barrier: the product after it will be with these matrices, as `multiply` shares them. One token
  /// at a time memory is what limits, and should not idle meanwhile.
  template <class Matrix>
  void expect(std::initializer_list<const Matrix*> matrices) {
    if (!m_.alone) return;
    std::size_t total = 0;
    for (const auto* w : matrices) total += w->block_count();
    auto first = m_.team.share(total).first;
    for (const auto* w : matrices) {
      if (first < w->block_count()) {
        kernels::prefetch_blocks(w->block(first), w->bytes().size() / w->block_count());
        return;
      }
      first -= w->block_count();
    }
  }

  /// The same for the first products of a layer, or the head after the last.
  template <class Linear>
  void expect_layer(std::size_t layer) {
    if (layer == s_.weights.blocks.size()) {
      s_.head.prefetch(m_.team);
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

 private:
  void multiply(const kernels::ternary_matrix& w, const kernels::quantized_activations& x, float* y,
                std::size_t y_stride, kernels::work_range blocks) {
    s_.matmul.ternary_matmul(w, x.part(m_.product_rows()), y, y_stride, blocks);
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
    const auto rows = m_.product_rows();
    const auto tokens = rows.last - rows.first;
    const auto mine = m_.share(w.block_count());
    const auto step =
        s_.few || m_.alone ? mine.last - mine.first : std::max(least_blocks, tokens_times_blocks / tokens);
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

  const pass_member& m_;
  transformer_state& s_;
  const bool fuses_;  ///< products are added and gated where they are computed
};

}  // namespace bitnet::engine
