#pragma once

#include "kernels/vector_operators.hpp"

namespace bitnet::kernels {

// Attention and the KV block, over the same vector type V as kernels/vector_operators.hpp.
//
// KV block, all f16: for each KV head the keys transposed, [head_dim][64], so that scores vectorise over
// positions, and then for each KV head the values, [64][value_stride], rows padded to whole vectors.
//
// Arithmetic of one query row, the same however rows are grouped: a score is a chain of fused multiply-adds
// over head_dim in order; softmax is online over blocks of 64 absolute positions (maximum and sum by 16 lanes
// and the fixed tree); the output is a chain over positions in order. Slots past a row's last position are
// computed or not, as is convenient, but never get into a result.

inline constexpr std::size_t attention_max_head_dim = 256;
inline constexpr std::size_t attention_lanes = 16;

[[maybe_unused]] static constexpr std::size_t value_stride(std::size_t head_dim) noexcept {
  return (head_dim + attention_lanes - 1) / attention_lanes * attention_lanes;
}

[[maybe_unused]] static inline const std::uint16_t* keys_of(const std::byte* block, std::size_t head,
                                                            std::size_t head_dim) noexcept {
  return reinterpret_cast<const std::uint16_t*>(block) + head * head_dim * kv_block_tokens;
}

[[maybe_unused]] static inline const std::uint16_t* values_of(const std::byte* block, std::size_t head,
                                                              std::size_t kv_heads,
                                                              std::size_t head_dim) noexcept {
  return reinterpret_cast<const std::uint16_t*>(block) +
         (kv_heads * head_dim + head * value_stride(head_dim)) * kv_block_tokens;
}

template <class V>
void store_kv(std::byte* kv_block, std::size_t slot, const float* k, const float* v, std::size_t kv_heads,
              std::size_t head_dim) {
  for (std::size_t h = 0; h < kv_heads; ++h) {
    auto* keys = const_cast<std::uint16_t*>(keys_of(kv_block, h, head_dim)) + slot;
    auto* values = const_cast<std::uint16_t*>(values_of(kv_block, h, kv_heads, head_dim)) +
                   slot * value_stride(head_dim);
    for (std::size_t i = 0; i < head_dim; i += V::lanes) {
      const std::size_t n = head_dim - i < V::lanes ? head_dim - i : V::lanes;
      const float* key = k + h * head_dim + i;
      const float* value = v + h * head_dim + i;
      std::uint16_t half[V::lanes];
      V::store_half(half, n == V::lanes ? V::load(key) : load_first<V>(key, n, 0.0F));
      for (std::size_t j = 0; j < n; ++j) keys[(i + j) * kv_block_tokens] = half[j];
      V::store_half(values + i, n == V::lanes ? V::load(value) : load_first<V>(value, n, 0.0F));
    }
  }
}

/// scores[R][64] of the first `vectors` * 16 positions: R queries, packed [head_dim][R], against keys
/// [head_dim][64].
template <class V, std::size_t R, std::size_t N>
void score_tile(const std::uint16_t* keys, const float* queries, std::size_t head_dim,
                float* scores) noexcept {
  typename V::f32 acc[R][N];
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n) acc[r][n] = V::set1(0.0F);
  for (std::size_t i = 0; i < head_dim; ++i) {
    typename V::f32 key[N];
    for (std::size_t n = 0; n < N; ++n) key[n] = V::load_half(keys + i * kv_block_tokens + n * V::lanes);
    for (std::size_t r = 0; r < R; ++r) {
      const typename V::f32 q = V::set1(queries[i * R + r]);
      for (std::size_t n = 0; n < N; ++n) acc[r][n] = V::fma(q, key[n], acc[r][n]);
    }
  }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n) V::store(scores + r * kv_block_tokens + n * V::lanes, acc[r][n]);
}

/// out[r][0..16 N) = out * factor[r] + sum over positions [first, last) of weights[r][position] * values.
template <class V, std::size_t R, std::size_t N>
void value_tile(const std::uint16_t* values, std::size_t stride, const float* weights, const float* factor,
                std::size_t first, std::size_t last, float* out) noexcept {
  typename V::f32 acc[R][N];
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n)
      acc[r][n] = V::mul(V::load(out + r * attention_max_head_dim + n * V::lanes), V::set1(factor[r]));
  for (std::size_t j = first; j < last; ++j) {
    typename V::f32 value[N];
    for (std::size_t n = 0; n < N; ++n) value[n] = V::load_half(values + j * stride + n * V::lanes);
    for (std::size_t r = 0; r < R; ++r) {
      const typename V::f32 w = V::set1(weights[r * kv_block_tokens + j]);
      for (std::size_t n = 0; n < N; ++n) acc[r][n] = V::fma(w, value[n], acc[r][n]);
    }
  }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n) V::store(out + r * attention_max_head_dim + n * V::lanes, acc[r][n]);
}

/// Vectors side by side in a tile of R rows: as many of 4, 2 or 1 as keep the accumulators in registers.
template <class V>
constexpr std::size_t tile_vectors(std::size_t rows) noexcept {
  return rows * 4 <= V::tile_accumulators ? 4 : rows * 2 <= V::tile_accumulators ? 2 : 1;
}

template <class V, std::size_t R>
void score_rows(const std::uint16_t* keys, const float* queries, std::size_t head_dim, std::size_t positions,
                float* scores) noexcept {
  constexpr std::size_t N = tile_vectors<V>(R);
  for (std::size_t j = 0; j < positions; j += N * V::lanes)
    score_tile<V, R, N>(keys + j, queries, head_dim, scores + j);
}

template <class V, std::size_t R>
void value_rows(const std::uint16_t* values, std::size_t stride, const float* weights, const float* factor,
                std::size_t first, std::size_t last, float* out) noexcept {
  constexpr std::size_t N = tile_vectors<V>(R);
  std::size_t c = 0;
  for (; c + N * V::lanes <= stride; c += N * V::lanes)
    value_tile<V, R, N>(values + c, stride, weights, factor, first, last, out + c);
  for (; c < stride; c += V::lanes)
    value_tile<V, R, 1>(values + c, stride, weights, factor, first, last, out + c);
}

/// A few query rows (token, head of the group) that share a KV head, with their running softmax.
template <class V, std::size_t R>
struct attention_tile {
  float queries[attention_max_head_dim * R];  // [head_dim][R], scaled
  float out[R * attention_max_head_dim];      // [R][256], sums of weights * values
  float maximum[V::lanes];
  float sum[V::lanes];
  std::size_t length[R];  // positions that the row sees

  void begin(const attention_args& a, std::size_t kv_head, std::size_t first_row) noexcept {
    const std::size_t group = a.heads / a.kv_heads;
    for (std::size_t r = 0; r < V::lanes; ++r) {
      maximum[r] = -__builtin_inff();
      sum[r] = 0.0F;
    }
    for (std::size_t r = 0; r < R; ++r) {
      const std::size_t token = (first_row + r) / group;
      const float* q = a.q + token * a.q_stride + (kv_head * group + (first_row + r) % group) * a.head_dim;
      for (std::size_t i = 0; i < a.head_dim; ++i) queries[i * R + r] = q[i] * a.scale;
      for (std::size_t i = 0; i < value_stride(a.head_dim); ++i) out[r * attention_max_head_dim + i] = 0.0F;
      length[r] = a.position + token + 1;
    }
  }

  /// Positions of the block starting at `start` that row r sees.
  std::size_t visible(std::size_t r, std::size_t start) const noexcept {
    if (length[r] <= start) return 0;
    return length[r] - start < kv_block_tokens ? length[r] - start : kv_block_tokens;
  }

  void add_block(const std::uint16_t* keys, const std::uint16_t* values, std::size_t head_dim,
                 std::size_t start) noexcept {
    // Rows are in order of position: the first sees least, the last most.
    const std::size_t fewest = visible(0, start);
    const std::size_t most = visible(R - 1, start);
    float weights[R * kv_block_tokens];
    float factor[V::lanes];
    score_rows<V, R>(keys, queries, head_dim, most, weights);
    weigh(weights, factor, start);
    value_rows<V, R>(values, value_stride(head_dim), weights, factor, 0, fewest, out);
    // What only some rows see, at the causal edge, row by row: a zero weight would not do, the value may be
    // infinite.
    const float one = 1.0F;
    for (std::size_t r = 0; r < R && fewest != most; ++r)
      if (visible(r, start) > fewest)
        value_rows<V, 1>(values, value_stride(head_dim), weights + r * kv_block_tokens, &one, fewest,
                         visible(r, start), out + r * attention_max_head_dim);
  }

  /// Turns scores into weights e^(score - maximum) in place; factor[r] rescales what was summed before.
  void weigh(float* scores, float* factor, std::size_t start) noexcept {
    using f32 = typename V::f32;
    constexpr std::size_t vectors = kv_block_tokens / V::lanes;
    const f32 minus_infinity = V::set1(-__builtin_inff());
    float block_sum[V::lanes] = {};
    float previous[V::lanes];
    for (std::size_t r = 0; r < V::lanes; ++r) previous[r] = maximum[r];
    for (std::size_t r = 0; r < R; ++r) {
      const std::size_t seen = visible(r, start);
      if (seen == 0) continue;
      float* row = scores + r * kv_block_tokens;
      f32 s[vectors];
      for (std::size_t n = 0; n < vectors; ++n) {
        const std::size_t before = n * V::lanes;
        if (seen >= before + V::lanes)
          s[n] = V::load(row + before);
        else if (seen <= before)
          s[n] = minus_infinity;
        else
          s[n] = V::keep_first(V::load(row + before), seen - before, minus_infinity);
      }
      const float top = V::reduce_max(V::max(V::max(s[0], s[1]), V::max(s[2], s[3])));
      maximum[r] = top > previous[r] ? top : previous[r];
      const f32 shift = V::set1(maximum[r]);
      f32 total = V::set1(0.0F);
      for (std::size_t n = 0; n < vectors; ++n) {
        const f32 e = exponential<V>(V::sub(s[n], shift));
        V::store(row + n * V::lanes, e);
        total = V::add(total, e);
      }
      block_sum[r] = V::reduce_add(total);
    }
    // Rows that see nothing here keep their maximum: e^0 = 1 leaves them as they are. Before a row's first
    // block the maximum is -inf and the sums are zero.
    const f32 kept = exponential<V>(V::sub(V::load(previous), V::load(maximum)));
    V::store(factor, kept);
    V::store(sum, V::fma(V::load(sum), kept, V::load(block_sum)));
  }

  void finish(const attention_args& a, std::size_t kv_head, std::size_t first_row) const noexcept {
    const std::size_t group = a.heads / a.kv_heads;
    for (std::size_t r = 0; r < R; ++r) {
      const std::size_t token = (first_row + r) / group;
      float* y = a.out + token * a.out_stride + (kv_head * group + (first_row + r) % group) * a.head_dim;
      const typename V::f32 total = V::set1(sum[r]);
      for (std::size_t i = 0; i < a.head_dim; i += V::lanes) {
        const typename V::f32 v = V::div(V::load(out + r * attention_max_head_dim + i), total);
        if (a.head_dim - i >= V::lanes)
          V::store(y + i, v);
        else
          store_first<V>(y + i, a.head_dim - i, v);
      }
    }
  }
};

template <class V, std::size_t R>
void attend_rows(const attention_args& a, std::size_t kv_head, std::size_t first_row) noexcept {
  attention_tile<V, R> tile;
  tile.begin(a, kv_head, first_row);
  for (std::size_t start = 0; start < tile.length[R - 1]; start += kv_block_tokens) {
    const std::byte* block = a.kv_blocks[start / kv_block_tokens];
    tile.add_block(keys_of(block, kv_head, a.head_dim), values_of(block, kv_head, a.kv_heads, a.head_dim),
                   a.head_dim, start);
  }
  tile.finish(a, kv_head, first_row);
}

/// The rows that V::tile_rows does not divide: R is found at run time.
template <class V, std::size_t R>
void attend_rest(const attention_args& a, std::size_t kv_head, std::size_t first_row,
                 std::size_t rows) noexcept {
  if constexpr (R > 0) {
    if (rows == R)
      attend_rows<V, R>(a, kv_head, first_row);
    else
      attend_rest<V, R - 1>(a, kv_head, first_row, rows);
  }
}

template <class V>
void attention(const attention_args& a, std::size_t first_kv_head, std::size_t last_kv_head) {
  const std::size_t rows = a.query_count * (a.heads / a.kv_heads);
  for (std::size_t h = first_kv_head; h < last_kv_head; ++h)
    for (std::size_t row = 0; row < rows; row += V::tile_rows) {
      const std::size_t rest = rows - row;
      attend_rest<V, V::tile_rows>(a, h, row, rest < V::tile_rows ? rest : V::tile_rows);
    }
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
