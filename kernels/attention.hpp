#pragma once

#include "kernels/vector_operators.hpp"

namespace bitnet::kernels {

// Attention and the KV block, over the same vector type V as kernels/vector_operators.hpp.
//
// KV block, all f16, in panels 16 wide so that every inner loop walks contiguous memory: for each KV head the
// keys transposed, [4 panels of positions][head_dim][16 positions], so that scores vectorise over positions;
// then for each KV head the values, [panels of dimensions][64 positions][16 dimensions], padded to whole
// panels.
//
// Arithmetic of one query row, the same however rows are grouped: a score is a chain of fused multiply-adds
// over head_dim in order; softmax is online over blocks of 64 absolute positions (maximum and sum by 16 lanes
// and the fixed tree); the output is a chain over positions in order. Slots past a row's last position are
// computed or not, as is convenient, but never get into a result.

inline constexpr std::size_t attention_max_head_dim = 256;
inline constexpr std::size_t panel_width = 16;
inline constexpr std::size_t key_panels = kv_block_tokens / panel_width;

[[maybe_unused]] static constexpr std::size_t value_panels(std::size_t head_dim) noexcept {
  return (head_dim + panel_width - 1) / panel_width;
}

[[maybe_unused]] static inline const std::uint16_t* keys_of(const std::byte* block, std::size_t head,
                                                            std::size_t head_dim) noexcept {
  return reinterpret_cast<const std::uint16_t*>(block) + head * head_dim * kv_block_tokens;
}

[[maybe_unused]] static inline const std::uint16_t* values_of(const std::byte* block, std::size_t head,
                                                              std::size_t kv_heads,
                                                              std::size_t head_dim) noexcept {
  return reinterpret_cast<const std::uint16_t*>(block) +
         (kv_heads * head_dim + head * value_panels(head_dim) * panel_width) * kv_block_tokens;
}

template <class V>
void store_kv(std::byte* kv_block, std::size_t slot, const float* k, const float* v, std::size_t kv_heads,
              std::size_t head_dim) {
  for (std::size_t h = 0; h < kv_heads; ++h) {
    auto* keys = const_cast<std::uint16_t*>(keys_of(kv_block, h, head_dim)) +
                 slot / panel_width * head_dim * panel_width + slot % panel_width;
    auto* values =
        const_cast<std::uint16_t*>(values_of(kv_block, h, kv_heads, head_dim)) + slot * panel_width;
    for (std::size_t i = 0; i < head_dim; i += panel_width) {
      const std::size_t n = head_dim - i < panel_width ? head_dim - i : panel_width;
      const float* key = k + h * head_dim + i;
      const float* value = v + h * head_dim + i;
      std::uint16_t half[panel_width];
      V::store_half(half, n == panel_width ? V::load(key) : load_first<V>(key, n, 0.0F));
      for (std::size_t j = 0; j < n; ++j) keys[(i + j) * panel_width] = half[j];
      V::store_half(values + i * kv_block_tokens,
                    n == panel_width ? V::load(value) : load_first<V>(value, n, 0.0F));
    }
  }
}

/// Panels side by side in a tile of R rows: as many of 4, 2 or 1 as keep the accumulators in registers.
template <class V>
constexpr std::size_t tile_panels(std::size_t rows) noexcept {
  return rows * 4 <= V::tile_accumulators ? 4 : rows * 2 <= V::tile_accumulators ? 2 : 1;
}

/// scores[R][64] of N panels: R queries, packed [head_dim][R], against keys (f16 or f32) [N][head_dim][16].
template <class V, std::size_t R, std::size_t N, class T>
void score_tile(const T* keys, const float* queries, std::size_t head_dim, float* scores) noexcept {
  typename V::f32 acc[R][N];
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n) acc[r][n] = V::set1(0.0F);
  for (std::size_t i = 0; i < head_dim; ++i) {
    typename V::f32 key[N];
    for (std::size_t n = 0; n < N; ++n) key[n] = V::load(keys + (n * head_dim + i) * panel_width);
    for (std::size_t r = 0; r < R; ++r) {
      const typename V::f32 q = V::set1(queries[i * R + r]);
      for (std::size_t n = 0; n < N; ++n) acc[r][n] = V::fma(q, key[n], acc[r][n]);
    }
  }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n) V::store(scores + r * kv_block_tokens + n * panel_width, acc[r][n]);
}

template <class V, std::size_t R, class T>
void score_rows(const T* keys, const float* queries, std::size_t head_dim, std::size_t positions,
                float* scores) noexcept {
  constexpr std::size_t N = tile_panels<V>(R);
  for (std::size_t j = 0; j < positions; j += N * panel_width)
    score_tile<V, R, N>(keys + j * head_dim, queries, head_dim, scores + j);
}

/// out[R][256] of N panels: out * factor[r] + sum over positions [first, last) of weights[r][position] *
/// values.
template <class V, std::size_t R, std::size_t N, class T>
void value_tile(const T* values, const float* weights, const float* factor, std::size_t first,
                std::size_t last, float* out) noexcept {
  typename V::f32 acc[R][N];
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n)
      acc[r][n] = V::mul(V::load(out + r * attention_max_head_dim + n * panel_width), V::set1(factor[r]));
  for (std::size_t j = first; j < last; ++j) {
    typename V::f32 value[N];
    for (std::size_t n = 0; n < N; ++n) value[n] = V::load(values + (n * kv_block_tokens + j) * panel_width);
    for (std::size_t r = 0; r < R; ++r) {
      const typename V::f32 w = V::set1(weights[r * kv_block_tokens + j]);
      for (std::size_t n = 0; n < N; ++n) acc[r][n] = V::fma(w, value[n], acc[r][n]);
    }
  }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n)
      V::store(out + r * attention_max_head_dim + n * panel_width, acc[r][n]);
}

template <class V, std::size_t R, class T>
void value_rows(const T* values, std::size_t panels, const float* weights, const float* factor,
                std::size_t first, std::size_t last, float* out) noexcept {
  constexpr std::size_t N = tile_panels<V>(R);
  std::size_t c = 0;
  for (; c + N <= panels; c += N)
    value_tile<V, R, N>(values + c * kv_block_tokens * panel_width, weights, factor, first, last,
                        out + c * panel_width);
  for (; c < panels; ++c)
    value_tile<V, R, 1>(values + c * kv_block_tokens * panel_width, weights, factor, first, last,
                        out + c * panel_width);
}

/// Running softmax of a tile: a few query rows (token, head of the group) that share a KV head.
struct attention_rows {
  std::size_t count;
  float* queries;       ///< [head_dim][count], scaled
  float* out;           ///< [count][256], sums of weights * values
  float* maximum;       ///< [16], one a row
  float* sum;           ///< [16]
  std::size_t* length;  ///< [count], positions that the row sees; ascending
};

/// Positions of the block from `start` on that a row of `length` sees.
[[maybe_unused]] static inline std::size_t visible_in_block(std::size_t length, std::size_t start) noexcept {
  if (length <= start) return 0;
  return length - start < kv_block_tokens ? length - start : kv_block_tokens;
}

/// Turns scores[count][64] into weights e^(score - maximum) in place; factor[r] rescales what was summed
/// before.
template <class V>
void weigh(const attention_rows& rows, std::size_t start, float* scores, float* factor) noexcept {
  using f32 = typename V::f32;
  const f32 minus_infinity = V::set1(-__builtin_inff());
  float block_sum[V::lanes] = {};
  const f32 previous = V::load(rows.maximum);
  for (std::size_t r = 0; r < rows.count; ++r) {
    const std::size_t seen = visible_in_block(rows.length[r], start);
    if (seen == 0) continue;
    float* row = scores + r * kv_block_tokens;
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
      const f32 e = exponential<V>(V::sub(s[n], shift));
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

/// Scores of a tile with the block from `start` on into weights[R][64], as far as a row sees.
template <class V, std::size_t R, class T>
void score_block(const attention_rows& rows, const T* keys, std::size_t head_dim, std::size_t start,
                 float* weights) noexcept {
  score_rows<V, R>(keys, rows.queries, head_dim, visible_in_block(rows.length[R - 1], start), weights);
}

/// Turns the scores of score_block into weights and adds the values, so weighted.
template <class V, std::size_t R, class T>
void add_values(const attention_rows& rows, const T* values, std::size_t head_dim, std::size_t start,
                float* weights) noexcept {
  const std::size_t fewest = visible_in_block(rows.length[0], start);
  const std::size_t most = visible_in_block(rows.length[R - 1], start);
  if (most == 0) return;
  float factor[V::lanes];
  weigh<V>(rows, start, weights, factor);
  const std::size_t panels = value_panels(head_dim);
  value_rows<V, R>(values, panels, weights, factor, 0, fewest, rows.out);
  if (fewest == most) return;
  // What only some rows see, at the causal edge, row by row: a zero weight would not do, the value may be
  // infinite.
  const float one = 1.0F;
  for (std::size_t r = 0; r < R; ++r) {
    const std::size_t seen = visible_in_block(rows.length[r], start);
    if (seen > fewest)
      value_rows<V, 1>(values, panels, weights + r * kv_block_tokens, &one, fewest, seen,
                       rows.out + r * attention_max_head_dim);
  }
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

/// The query rows of one KV head that walk the blocks together, so that a block is read, and widened to f32,
/// once for all of them. On the stack, as the kernels do not allocate: 170 KiB, beside 64 for a widened half
/// of a block.
template <class V>
struct attention_group {
  static constexpr std::size_t rows = 72;  // 18 tokens of 4 heads
  /// Full ones, and up to three for the rest (tile_size).
  static constexpr std::size_t most_tiles = rows / V::tile_rows + 3;

  attention_rows tile[most_tiles];
  std::size_t tiles = 0;
  alignas(64) float queries[rows * attention_max_head_dim];
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

/// Cuts the rows [first_row, first_row + count) into tiles and packs their queries.
template <class V>
void begin_group(attention_group<V>& group, const attention_args& a, std::size_t kv_head,
                 std::size_t first_row, std::size_t count) noexcept {
  for (std::size_t done = 0; done < count;) {
    const std::size_t index = group.tiles++;
    attention_rows& tile = group.tile[index];
    tile = {.count = tile_size<V>(count - done),
            .queries = group.queries + done * attention_max_head_dim,
            .out = group.out + done * attention_max_head_dim,
            .maximum = group.maximum[index],
            .sum = group.sum[index],
            .length = group.length + done};
    V::store(tile.maximum, V::set1(-__builtin_inff()));
    V::store(tile.sum, V::set1(0.0F));
    for (std::size_t r = 0; r < tile.count; ++r) {
      const std::size_t row = first_row + done + r;
      const float* q = a.q + row_offset(a, kv_head, row, a.q_stride);
      for (std::size_t i = 0; i < a.head_dim; ++i) tile.queries[i * tile.count + r] = q[i] * a.scale;
      for (std::size_t i = 0; i < value_panels(a.head_dim) * panel_width; ++i)
        tile.out[r * attention_max_head_dim + i] = 0.0F;
      tile.length[r] = a.position + row / (a.heads / a.kv_heads) + 1;
    }
    done += tile.count;
  }
}

template <class V>
void finish_group(const attention_group<V>& group, const attention_args& a, std::size_t kv_head,
                  std::size_t first_row) noexcept {
  std::size_t row = first_row;
  for (std::size_t t = 0; t < group.tiles; ++t)
    for (std::size_t r = 0; r < group.tile[t].count; ++r, ++row) {
      const float* sums = group.tile[t].out + r * attention_max_head_dim;
      float* y = a.out + row_offset(a, kv_head, row, a.out_stride);
      const typename V::f32 total = V::set1(group.tile[t].sum[r]);
      for (std::size_t i = 0; i < a.head_dim; i += V::lanes) {
        const typename V::f32 v = V::div(V::load(sums + i), total);
        if (a.head_dim - i >= V::lanes)
          V::store(y + i, v);
        else
          store_first<V>(y + i, a.head_dim - i, v);
      }
    }
}

template <class V>
void widen(const std::uint16_t* from, std::size_t n, float* to) noexcept {
  for (std::size_t i = 0; i < n; i += V::lanes) V::store(to + i, V::load(from + i));
}

template <class V>
void attend_group(const attention_args& a, std::size_t kv_head, std::size_t first_row,
                  std::size_t count) noexcept {
  // Below this many full tiles, converting a block anew for each costs less than writing it out.
  constexpr std::size_t tiles_worth_widening = 3;
  const std::size_t full_tiles = count / V::tile_rows;
  const bool widens = full_tiles >= tiles_worth_widening;
  constexpr std::size_t tile_weights = V::tile_rows * kv_block_tokens;
  attention_group<V> group;
  begin_group(group, a, kv_head, first_row, count);
  const std::size_t positions = a.position + (first_row + count - 1) / (a.heads / a.kv_heads) + 1;
  for (std::size_t start = 0; start < positions; start += kv_block_tokens) {
    const std::byte* block = a.kv_blocks[start / kv_block_tokens];
    const std::uint16_t* keys = keys_of(block, kv_head, a.head_dim);
    const std::uint16_t* values = values_of(block, kv_head, a.kv_heads, a.head_dim);
    // All tiles with the keys, then all with the values: widened, either fills most of an L1 cache.
    alignas(64) float wide[attention_max_head_dim * kv_block_tokens];
    if (widens) widen<V>(keys, a.head_dim * kv_block_tokens, wide);
    float* weights = group.weights;
    for (std::size_t t = 0; t < group.tiles; ++t, weights += tile_weights) {
      const attention_rows& tile = group.tile[t];
      if (widens && t < full_tiles)
        score_block<V, V::tile_rows>(tile, wide, a.head_dim, start, weights);
      else
        with_row_count<V>(tile.count, [&](auto rows) {
          score_block<V, decltype(rows)::value>(tile, keys, a.head_dim, start, weights);
        });
    }
    if (widens) widen<V>(values, value_panels(a.head_dim) * panel_width * kv_block_tokens, wide);
    weights = group.weights;
    for (std::size_t t = 0; t < group.tiles; ++t, weights += tile_weights) {
      const attention_rows& tile = group.tile[t];
      if (widens && t < full_tiles)
        add_values<V, V::tile_rows>(tile, wide, a.head_dim, start, weights);
      else
        with_row_count<V>(tile.count, [&](auto rows) {
          add_values<V, decltype(rows)::value>(tile, values, a.head_dim, start, weights);
        });
    }
  }
  finish_group(group, a, kv_head, first_row);
}

template <class V>
void attention(const attention_args& a, std::size_t first_kv_head, std::size_t last_kv_head) {
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
