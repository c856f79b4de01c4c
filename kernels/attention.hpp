#pragma once

#include "kernels/bfloat16.hpp"
#include "kernels/flush_subnormals.hpp"
#include "kernels/kv_block.hpp"
#include "kernels/vector_operators.hpp"

namespace bitnet::kernels {

// Attention over the same vector type V as kernels/vector_operators.hpp and the blocks of
// kernels/kv_block.hpp. kernels/x86/attention_amx.cpp does the same arithmetic on tiles.
//
// Arithmetic of one query row, the same however rows are grouped: scaled queries and weights are rounded to
// bfloat16. Dot products go in steps of 32 places: the products of the even places and those of the odd ones
// are two chains of fused multiply-adds from zero, and the sum of both is added to what there is; subnormals
// count as zero. That is what TDPBF16PS does (Intel SDM volume 2, TDPBF16PS; tests/unit/kernels/
// attention_test.cpp holds the CPU to it). Softmax is online over blocks of 64 absolute positions (maximum
// and sum by 16 lanes and the fixed tree, the sum of the rounded weights); output = output * factor + the
// block's dot products of weights and values, times the inverse of the sum at the end. A position that a row
// does not see weighs zero: whether it is computed makes no difference but in the sign of a zero, and a zero
// output is positive. Slots past a tile's last position never get into a result; within a tile, values must
// be finite.

/// One step of the dot products of R rows of floats with N panels of 16 columns: sink(row, panel, sums) for
/// each. Place p of row r is at x[p * place_stride + r * row_stride]; panels are `panel` apart. With `half`,
/// the last of the `pairs` pairs has no odd place.
template <class V, std::size_t R, std::size_t N, class Sink>
[[gnu::always_inline]] inline void add_step(const float* x, std::size_t row_stride, std::size_t place_stride,
                                            const std::uint16_t* y, std::size_t panel, std::size_t pairs,
                                            bool half, Sink sink) noexcept {
  typename V::f32 even[R][N];
  typename V::f32 odd[R][N];
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n) even[r][n] = odd[r][n] = V::set1(0.0F);
  for (std::size_t p = 0; p < pairs; ++p, x += 2 * place_stride, y += 2 * panel_width) {
    for (std::size_t n = 0; n < N; ++n) {
      const typename V::f32 column = V::load_even(y + n * panel);
      for (std::size_t r = 0; r < R; ++r) even[r][n] = V::fma(V::set1(x[r * row_stride]), column, even[r][n]);
    }
    if (half && p + 1 == pairs) break;
    for (std::size_t n = 0; n < N; ++n) {
      const typename V::f32 column = V::load_odd(y + n * panel);
      for (std::size_t r = 0; r < R; ++r)
        odd[r][n] = V::fma(V::set1(x[place_stride + r * row_stride]), column, odd[r][n]);
    }
  }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n) sink(r, n, V::add(even[r][n], odd[r][n]));
}

/// Panels side by side in a tile of R rows: as many as keep both chains of each in registers.
template <class V>
constexpr std::size_t tile_panels(std::size_t rows) noexcept {
  return rows * 8 <= V::tile_accumulators ? 4 : rows * 4 <= V::tile_accumulators ? 2 : 1;
}

/// scores[R][64] of the first `positions` positions of a block, rounded up to whole panels: R queries, packed
/// [places][R], against its keys.
template <class V, std::size_t R>
void score_rows(const std::uint16_t* keys, const float* queries, std::size_t head_dim, std::size_t positions,
                float* scores) noexcept {
  constexpr std::size_t N = tile_panels<V>(R);
  const std::size_t panel = key_dims(head_dim) * panel_width;
  for (std::size_t j = 0; j < positions; j += N * panel_width) {
    const std::uint16_t* const columns = keys + j / panel_width * panel;
    float* const sums = scores + j;
    for (std::size_t i = 0; i < head_dim; i += dot_step)
      add_step<V, R, N>(queries + i * R, 1, R, columns + i * panel_width, panel, step_pairs, false,
                        [&](std::size_t r, std::size_t n, typename V::f32 sum) {
                          float* const at = sums + r * kv_block_tokens + n * panel_width;
                          V::store(at, i == 0 ? sum : V::add(V::load(at), sum));
                        });
  }
}

/// out[R][256] of N panels: out * factor[r] + sum over the first `positions` positions of
/// weights[r][position]
/// * values. `step_values`: numbers from a step of the values to the next.
template <class V, std::size_t R, std::size_t N>
void value_tile(const std::uint16_t* values, std::size_t step_values, const float* weights,
                const float* factor, std::size_t positions, float* out) noexcept {
  alignas(64) float block[R][N][panel_width];
  const auto step = [&](std::size_t first, auto sink) {
    const std::size_t places = positions - first < dot_step ? positions - first : dot_step;
    add_step<V, R, N>(weights + first, kv_block_tokens, 1, values + first / dot_step * step_values,
                      step_panel, (places + 1) / 2, places % 2 != 0, sink);
  };
  const auto finish = [&](std::size_t r, std::size_t n, typename V::f32 sum) {
    float* const at = out + r * attention_max_head_dim + n * panel_width;
    V::store(at, V::fma(V::load(at), V::set1(factor[r]), sum));
  };
  if (positions <= dot_step) {
    step(0, finish);
    return;
  }
  step(0, [&](std::size_t r, std::size_t n, typename V::f32 sum) { V::store(block[r][n], sum); });
  step(dot_step, [&](std::size_t r, std::size_t n, typename V::f32 sum) {
    finish(r, n, V::add(V::load(block[r][n]), sum));
  });
}

template <class V, std::size_t R>
void value_rows(const std::uint16_t* values, std::size_t panels, const float* weights, const float* factor,
                std::size_t positions, float* out) noexcept {
  constexpr std::size_t N = tile_panels<V>(R);
  const std::size_t step_values = panels * step_panel;
  std::size_t c = 0;
  for (; c + N <= panels; c += N)
    value_tile<V, R, N>(values + c * step_panel, step_values, weights, factor, positions,
                        out + c * panel_width);
  for (; c < panels; ++c)
    value_tile<V, R, 1>(values + c * step_panel, step_values, weights, factor, positions,
                        out + c * panel_width);
}

/// Running softmax of a tile: a few query rows (token, head of the group) that share a KV head.
struct attention_rows {
  std::size_t count;    ///< at most 16
  float* out;           ///< [count][256], sums of weights * values
  float* maximum;       ///< [16], one a row
  float* sum;           ///< [16]
  std::size_t* length;  ///< [count], positions that the row sees; ascending
};

/// Before the first block.
template <class V>
void begin_rows(const attention_rows& rows, std::size_t head_dim) noexcept {
  V::store(rows.maximum, V::set1(-__builtin_inff()));
  V::store(rows.sum, V::set1(0.0F));
  for (std::size_t r = 0; r < rows.count; ++r)
    for (std::size_t i = 0; i < value_panels(head_dim) * panel_width; ++i)
      rows.out[r * attention_max_head_dim + i] = 0.0F;
}

/// Positions of the block from `start` on that a row of `length` sees.
[[maybe_unused]] static inline std::size_t visible_in_block(std::size_t length, std::size_t start) noexcept {
  if (length <= start) return 0;
  return length - start < kv_block_tokens ? length - start : kv_block_tokens;
}

/// Turns scores[count][64] into weights e^(score - maximum), rounded to bfloat16. factor[16] rescales what
/// was summed before.
template <class V>
void weigh(const attention_rows& rows, std::size_t start, float* scores, float* factor) noexcept {
  using f32 = typename V::f32;
  const f32 minus_infinity = V::set1(-__builtin_inff());
  float block_sum[V::lanes] = {};
  const f32 previous = V::load(rows.maximum);
  for (std::size_t r = 0; r < rows.count; ++r) {
    const std::size_t seen = visible_in_block(rows.length[r], start);
    float* const row = scores + r * kv_block_tokens;
    if (seen == 0) {
      for (std::size_t i = 0; i < kv_block_tokens; i += V::lanes) V::store(row + i, V::set1(0.0F));
      continue;
    }
    f32 s[key_panels];
    for (std::size_t n = 0; n < key_panels; ++n) {
      const std::size_t before = n * panel_width;
      if (seen >= before + panel_width)
        s[n] = V::load(row + before);
      else if (seen <= before)
        s[n] = minus_infinity;
      else
        s[n] = V::keep_first(V::load(row + before), seen - before, minus_infinity);
    }
    const float top = V::reduce_max(V::max(V::max(s[0], s[1]), V::max(s[2], s[3])));
    rows.maximum[r] = top > rows.maximum[r] ? top : rows.maximum[r];
    const f32 shift = V::set1(rows.maximum[r]);
    f32 total = V::set1(0.0F);
    for (std::size_t n = 0; n < key_panels; ++n) {
      const f32 e = V::round_to_bfloat16(exponential<V>(V::sub(s[n], shift)));
      V::store(row + n * panel_width, e);
      total = V::add(total, e);
    }
    block_sum[r] = V::reduce_add(total);
  }
  // Rows that see nothing here keep their maximum: e^0 = 1 leaves them as they are. Before a row's first
  // block the maximum is -inf and the sums are zero.
  const f32 kept = exponential<V>(V::sub(previous, V::load(rows.maximum)));
  V::store(factor, kept);
  V::store(rows.sum, V::fma(V::load(rows.sum), kept, V::load(block_sum)));
}

/// Rows of the next tile where `count` are left: the sizes that are instantiated.
template <class V>
constexpr std::size_t tile_size(std::size_t count) noexcept {
  if (count >= V::tile_rows) return V::tile_rows;
  for (const std::size_t size : {std::size_t{8}, std::size_t{4}, std::size_t{3}, std::size_t{2}})
    if (count >= size) return size;
  return 1;
}

template <std::size_t R>
struct row_count {
  static constexpr std::size_t value = R;
};

/// step(row_count<R>()) for a tile of R rows, one of these sizes.
template <class V, class Step>
void with_row_count(std::size_t rows, Step step) noexcept {
  constexpr std::size_t full = V::tile_rows;
  if (rows == full) return step(row_count<full>());
  if constexpr (full > 8)
    if (rows == 8) return step(row_count<8>());
  if constexpr (full > 4)
    if (rows == 4) return step(row_count<4>());
  if constexpr (full > 3)
    if (rows == 3) return step(row_count<3>());
  if constexpr (full > 2)
    if (rows == 2) return step(row_count<2>());
  step(row_count<1>());
}

/// The query rows of one KV head that walk the blocks together, so that a block stays in the L1 cache for all
/// of them: first with the keys, then with the values. On the stack, as the kernels do not allocate.
template <class V>
struct attention_group {
  static constexpr std::size_t rows = 72;  // 18 tokens of 4 heads
  /// Full ones, and up to three for the rest (tile_size).
  static constexpr std::size_t most_tiles = rows / V::tile_rows + 3;

  attention_rows tile[most_tiles];
  const float* tile_queries[most_tiles];
  std::size_t tiles = 0;
  alignas(64) float queries[rows * attention_max_head_dim];  ///< a tile's are [places][rows of it]
  alignas(64) float out[rows * attention_max_head_dim];
  alignas(64) float weights[most_tiles * V::tile_rows * kv_block_tokens];  ///< of the block that is walked
  alignas(64) float maximum[most_tiles][V::lanes];
  alignas(64) float sum[most_tiles][V::lanes];
  std::size_t length[rows];
};

/// Where a row's floats are in q and out; row = token * (heads / kv_heads) + head of the group.
[[maybe_unused]] static inline std::size_t row_offset(const attention_args& a, std::size_t kv_head,
                                                      std::size_t row, std::size_t stride) noexcept {
  const std::size_t group = a.heads / a.kv_heads;
  return row / group * stride + (kv_head * group + row % group) * a.head_dim;
}

/// Positions that a row sees.
[[maybe_unused]] static inline std::size_t row_length(const attention_args& a, std::size_t row) noexcept {
  return a.position + row / (a.heads / a.kv_heads) + 1;
}

/// Cuts the rows [first_row, first_row + count) into tiles and packs their queries.
template <class V>
void begin_group(attention_group<V>& group, const attention_args& a, std::size_t kv_head,
                 std::size_t first_row, std::size_t count) noexcept {
  for (std::size_t done = 0; done < count;) {
    const std::size_t index = group.tiles++;
    attention_rows& tile = group.tile[index];
    tile = {.count = tile_size<V>(count - done),
            .out = group.out + done * attention_max_head_dim,
            .maximum = group.maximum[index],
            .sum = group.sum[index],
            .length = group.length + done};
    begin_rows<V>(tile, a.head_dim);
    float* const queries = group.queries + done * attention_max_head_dim;
    group.tile_queries[index] = queries;
    for (std::size_t r = 0; r < tile.count; ++r) {
      const std::size_t row = first_row + done + r;
      const float* const q = a.q + row_offset(a, kv_head, row, a.q_stride);
      for (std::size_t i = 0; i < key_dims(a.head_dim); ++i)
        queries[i * tile.count + r] =
            i < a.head_dim ? float_from_bfloat16(bfloat16_from_float(q[i] * a.scale)) : 0.0F;
      tile.length[r] = row_length(a, row);
    }
    done += tile.count;
  }
}

/// The rows of a tile, `first_row` the first of them, into their places.
template <class V>
void finish_rows(const attention_rows& rows, const attention_args& a, std::size_t kv_head,
                 std::size_t first_row) noexcept {
  for (std::size_t r = 0; r < rows.count; ++r) {
    const float* const sums = rows.out + r * attention_max_head_dim;
    float* const y = a.out + row_offset(a, kv_head, first_row + r, a.out_stride);
    const typename V::f32 inverse = V::set1(1.0F / rows.sum[r]);
    for (std::size_t i = 0; i < a.head_dim; i += V::lanes) {
      const typename V::f32 v = V::add(V::mul(V::load(sums + i), inverse), V::set1(0.0F));
      if (a.head_dim - i >= V::lanes)
        V::store(y + i, v);
      else
        store_first<V>(y + i, a.head_dim - i, v);
    }
  }
}

template <class V>
[[gnu::noinline]] void attend_group(const attention_args& a, std::size_t kv_head, std::size_t first_row,
                                    std::size_t count) noexcept {
  constexpr std::size_t tile_weights = V::tile_rows * kv_block_tokens;
  attention_group<V> group;
  begin_group(group, a, kv_head, first_row, count);
  const std::size_t positions = row_length(a, first_row + count - 1);
  for (std::size_t start = 0; start < positions; start += kv_block_tokens) {
    const std::byte* block = a.kv_blocks[start / kv_block_tokens];
    const std::uint16_t* keys = keys_of(block, kv_head, a.head_dim);
    const std::uint16_t* values = values_of(block, kv_head, a.kv_heads, a.head_dim);
    const auto seen = [&](const attention_rows& tile) {
      return visible_in_block(tile.length[tile.count - 1], start);
    };
    for (std::size_t t = 0; t < group.tiles; ++t)
      with_row_count<V>(group.tile[t].count, [&](auto rows) {
        score_rows<V, decltype(rows)::value>(keys, group.tile_queries[t], a.head_dim, seen(group.tile[t]),
                                             group.weights + t * tile_weights);
      });
    for (std::size_t t = 0; t < group.tiles; ++t) {
      const attention_rows& tile = group.tile[t];
      if (seen(tile) == 0) continue;
      float* const weights = group.weights + t * tile_weights;
      float factor[V::lanes];
      weigh<V>(tile, start, weights, factor);
      with_row_count<V>(tile.count, [&](auto rows) {
        value_rows<V, decltype(rows)::value>(values, value_panels(a.head_dim), weights, factor, seen(tile),
                                             tile.out);
      });
    }
  }
  std::size_t row = first_row;
  for (std::size_t t = 0; t < group.tiles; ++t) {
    finish_rows<V>(group.tile[t], a, kv_head, row);
    row += group.tile[t].count;
  }
}

template <class V>
void attention(const attention_args& a, std::size_t first_kv_head, std::size_t last_kv_head) {
  const flush_subnormals scope;
  constexpr std::size_t step = attention_group<V>::rows;
  const std::size_t rows = a.query_count * (a.heads / a.kv_heads);
  for (std::size_t h = first_kv_head; h < last_kv_head; ++h)
    for (std::size_t row = 0; row < rows; row += step)
      attend_group<V>(a, h, row, rows - row < step ? rows - row : step);
}

/// The table of one instruction set.
template <class V>
constexpr vector_kernels make_vector_kernels(instruction_set isa) noexcept {
  return {
      .isa = isa,
      .rms_norm = rms_norm<V>,
      .add = add<V>,
      .exponentials = exponentials<V>,
      .squared_relu_gate = squared_relu_gate<V>,
      .silu_gate = silu_gate<V>,
      .rope = rope<V>,
      .softmax = softmax<V>,
      .argmax = argmax<V>,
      .store_kv = store_kv<V>,
      .attention = attention<V>,
  };
}

}  // namespace bitnet::kernels
