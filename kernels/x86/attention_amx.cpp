#include "kernels/attention.hpp"
#include "kernels/vector_variants.hpp"
#include "kernels/x86/amx_tiles.hpp"
#include "kernels/x86/vector_512.hpp"

#include <cstring>

// The arithmetic of kernels/attention.hpp on tiles: scores (16 rows x 16 positions, f32) += queries (16 rows
// x 32 dimensions) . keys (32 dimensions x 16 positions), and outputs likewise from weights and values.
// Blocks are stored in the order of the second operand, so that a tile is loaded from the cache as it lies
// there.

namespace bitnet::kernels {

namespace {

constexpr std::size_t tile_rows = 16;
constexpr std::size_t most_steps = attention_max_head_dim / dot_step;
constexpr std::size_t block_steps = kv_block_tokens / dot_step;
/// Bytes of a tile's row, and from one row of the second operand to the next.
constexpr std::size_t row_bytes = 64;
/// Numbers (bfloat16) of a tile.
constexpr std::size_t tile_numbers = tile_rows * dot_step;
static_assert(tile_numbers == step_panel);

/// The query rows of one KV head that walk the blocks together, so that a block stays in the caches for all
/// of them. On the stack, as the kernels do not allocate: 220 KiB. While one tile's products are worked on,
/// the tile unit computes the next one's: hence two of each.
struct tile_group {
  static constexpr std::size_t most_tiles = 4;
  static constexpr std::size_t rows = most_tiles * tile_rows;  // 16 tokens of 4 heads

  attention_rows tile[most_tiles];
  std::size_t tiles = 0;
  alignas(64) std::uint16_t queries[most_tiles][most_steps][tile_rows][dot_step];
  alignas(64) std::uint16_t weights[most_tiles][block_steps][tile_rows][dot_step];
  alignas(64) float out[rows * attention_max_head_dim];
  alignas(64) float maximum[most_tiles][tile_rows];
  alignas(64) float sum[most_tiles][tile_rows];
  alignas(64) float factor[most_tiles][tile_rows];
  alignas(64) float scores[2][tile_rows * kv_block_tokens];
  alignas(64) float value_sums[2][tile_rows * attention_max_head_dim];
  /// The values of a step that is not full, followed by zeros.
  alignas(64) std::uint16_t values[attention_max_head_dim * dot_step];
  std::size_t length[rows];
};

void begin_group(tile_group& group, const attention_args& a, std::size_t kv_head, std::size_t first_row,
                 std::size_t count) noexcept {
  const std::size_t steps = key_dims(a.head_dim) / dot_step;
  for (std::size_t done = 0; done < count; done += tile_rows) {
    const std::size_t index = group.tiles++;
    attention_rows& tile = group.tile[index];
    tile = {.count = count - done < tile_rows ? count - done : tile_rows,
            .out = group.out + done * attention_max_head_dim,
            .maximum = group.maximum[index],
            .sum = group.sum[index],
            .length = group.length + done};
    begin_rows<avx512_vector>(tile, a.head_dim);
    // Rows past the last must be numbers: tiles are multiplied whole.
    if (tile.count < tile_rows) {
      std::memset(group.queries[index], 0, steps * sizeof(group.queries[index][0]));
      std::memset(group.weights[index], 0, sizeof(group.weights[index]));
    }
    const __m512 scale = _mm512_set1_ps(a.scale);
    for (std::size_t r = 0; r < tile.count; ++r) {
      const std::size_t row = first_row + done + r;
      const float* const q = a.q + row_offset(a, kv_head, row, a.q_stride);
      for (std::size_t i = 0; i < steps * dot_step; i += panel_width) {
        const std::size_t left = i < a.head_dim ? a.head_dim - i : 0;
        const auto present = static_cast<__mmask16>(left >= panel_width ? 0xFFFF : (1U << left) - 1);
        avx512_vector::store_bfloat16(&group.queries[index][i / dot_step][r][i % dot_step],
                                      _mm512_mul_ps(_mm512_maskz_loadu_ps(present, q + i), scale));
      }
      tile.length[r] = row_length(a, row);
    }
  }
}

/// The rows of a tile, [steps][16][32], times 1, 2 or 4 panels of columns into the 16 columns each of `out`,
/// whose rows are `stride` floats apart. right(s): step s of the first panel; panels are `panel` numbers
/// apart.
template <std::size_t Panels, typename Right>
inline void multiply_panels(const std::uint16_t (*left)[tile_rows][dot_step], Right right, std::size_t panel,
                            std::size_t steps, float* out, std::size_t stride) noexcept {
  _tile_zero(0);
  if constexpr (Panels > 1) _tile_zero(1);
  if constexpr (Panels > 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::size_t s = 0; s < steps; ++s) {
    const std::uint16_t* const columns = right(s);
    _tile_loadd(4, left[s], row_bytes);
    _tile_loadd(5, columns, row_bytes);
    _tile_dpbf16ps(0, 4, 5);
    if constexpr (Panels > 1) {
      _tile_loadd(6, columns + panel, row_bytes);
      _tile_dpbf16ps(1, 4, 6);
    }
    if constexpr (Panels > 2) {
      _tile_loadd(7, columns + 2 * panel, row_bytes);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, columns + 3 * panel, row_bytes);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  const std::size_t out_bytes = stride * sizeof(float);
  _tile_stored(0, out, out_bytes);
  if constexpr (Panels > 1) _tile_stored(1, out + panel_width, out_bytes);
  if constexpr (Panels > 2) {
    _tile_stored(2, out + 2 * panel_width, out_bytes);
    _tile_stored(3, out + 3 * panel_width, out_bytes);
  }
}

/// GCC 12 does not know that the tile intrinsics read and write memory.
inline void memory_changed() noexcept {
  asm volatile("" : : : "memory");
}

/// Scores of a tile with the first `seen` positions of a block, [16][64].
inline void score_tiles(const std::uint16_t (*queries)[tile_rows][dot_step], const std::uint16_t* keys,
                        std::size_t steps, std::size_t seen, float* scores) noexcept {
  const std::size_t panel = steps * tile_numbers;
  const auto key_step = [keys](std::size_t s) { return keys + s * tile_numbers; };
  memory_changed();
  if (seen > 2 * panel_width)
    multiply_panels<4>(queries, key_step, panel, steps, scores, kv_block_tokens);
  else if (seen > panel_width)
    multiply_panels<2>(queries, key_step, panel, steps, scores, kv_block_tokens);
  else if (seen > 0)
    multiply_panels<1>(queries, key_step, panel, steps, scores, kv_block_tokens);
  memory_changed();
}

/// The values of a block, step by step: [panels][16 pairs of positions][16][2] each.
struct value_steps {
  const std::uint16_t* step[block_steps];
};

/// Weighted sums of the first `seen` positions of a block's values, [16][panels * 16].
inline void value_tiles(const std::uint16_t (*weights)[tile_rows][dot_step], const value_steps& values,
                        std::size_t panels, std::size_t seen, float* sums) noexcept {
  const std::size_t steps = (seen + dot_step - 1) / dot_step;
  const std::size_t stride = panels * panel_width;
  if (steps == 0) return;
  memory_changed();
  std::size_t c = 0;
  const auto value_step = [&](std::size_t s) { return values.step[s] + c * tile_numbers; };
  for (; c + 4 <= panels; c += 4)
    multiply_panels<4>(weights, value_step, tile_numbers, steps, sums + c * panel_width, stride);
  for (; c < panels; ++c)
    multiply_panels<1>(weights, value_step, tile_numbers, steps, sums + c * panel_width, stride);
  memory_changed();
}

/// Each row of x[16][16] reduced to a lane by the tree of kernels/reduction.hpp: lanes 8 apart first, then 4,
/// 2 and 1, the operands in this order.
template <class Operation>
inline __m512 reduce_rows(const float (*x)[tile_rows], Operation op) noexcept {
  __m512 v[8];
  for (std::size_t i = 0; i < 8; ++i) {
    const __m512 a = _mm512_load_ps(x[i]);
    const __m512 b = _mm512_load_ps(x[i + 8]);
    v[i] = op(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  }
  for (std::size_t i = 0; i < 4; ++i)
    v[i] = op(_mm512_shuffle_f32x4(v[i], v[i + 4], 0x88), _mm512_shuffle_f32x4(v[i], v[i + 4], 0xDD));
  for (std::size_t i = 0; i < 2; ++i)
    v[i] = op(_mm512_shuffle_ps(v[i], v[i + 2], 0x44), _mm512_shuffle_ps(v[i], v[i + 2], 0xEE));
  v[0] = op(_mm512_shuffle_ps(v[0], v[1], 0x88), _mm512_shuffle_ps(v[0], v[1], 0xDD));
  // Where each row has ended up.
  const __m512i lanes = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
  return _mm512_permutexvar_ps(lanes, v[0]);
}

/// kernels/attention.hpp: weigh, for a tile, a third of the instructions: rows are reduced sixteen at a time,
/// and two vectors are rounded by one instruction. `Whole`: all rows see the whole block.
template <bool Whole>
void weigh_tile(const attention_rows& tile, std::size_t start, const float* scores, float* factor,
                std::uint16_t (*weights)[tile_rows][dot_step]) noexcept {
  alignas(64) float lanes[tile_rows][tile_rows];
  const __m512 minus_infinity = _mm512_set1_ps(-__builtin_inff());
  // Panel n of row r; what the row does not see weighs nothing.
  const auto score = [&](std::size_t r, std::size_t n) {
    const float* const panel = scores + r * kv_block_tokens + n * panel_width;
    if constexpr (Whole) return _mm512_load_ps(panel);
    const std::size_t seen = visible_in_block(tile.length[r], start);
    const std::size_t before = n * panel_width;
    if (seen >= before + panel_width) return _mm512_load_ps(panel);
    if (seen <= before) return minus_infinity;
    return avx512_vector::keep_first(_mm512_load_ps(panel), seen - before, minus_infinity);
  };
  const __m512 before = _mm512_load_ps(tile.maximum);
  for (std::size_t r = 0; r < tile.count; ++r)
    _mm512_store_ps(lanes[r], _mm512_max_ps(_mm512_max_ps(score(r, 0), score(r, 1)),
                                            _mm512_max_ps(score(r, 2), score(r, 3))));
  for (std::size_t r = tile.count; r < tile_rows; ++r) _mm512_store_ps(lanes[r], minus_infinity);
  const __m512 top = reduce_rows(lanes, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); });
  const __m512 maximum = _mm512_max_ps(top, before);
  _mm512_store_ps(tile.maximum, maximum);

  for (std::size_t r = 0; r < tile.count; ++r) {
    const __m512 shift = _mm512_set1_ps(tile.maximum[r]);
    const auto weight = [&](std::size_t n) {
      return exponential_of_negative<avx512_vector>(_mm512_sub_ps(score(r, n), shift));
    };
    __m512 total = _mm512_setzero_ps();
    for (std::size_t step = 0; step < block_steps; ++step) {
      // To nearest even, as store_bfloat16 rounds; there are no subnormal weights.
      const auto rounded =
          reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(weight(2 * step + 1), weight(2 * step)));
      _mm512_store_si512(weights[step][r], rounded);
      for (const __m256i half : {_mm512_castsi512_si256(rounded), _mm512_extracti64x4_epi64(rounded, 1)})
        total = _mm512_add_ps(total, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)));
    }
    _mm512_store_ps(lanes[r], total);
  }
  const __m512 sums = reduce_rows(lanes, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
  // Before a row's first block the maximum is -inf and the sums are zero.
  const __m512 kept = exponential<avx512_vector>(_mm512_sub_ps(before, maximum));
  _mm512_store_ps(factor, kept);
  _mm512_store_ps(tile.sum, _mm512_fmadd_ps(_mm512_load_ps(tile.sum), kept, sums));
}

/// out = out * factor + sums, whose rows are panels * 16 floats apart.
inline void add_value_sums(const attention_rows& tile, const float* factor, const float* sums,
                           std::size_t panels) noexcept {
  for (std::size_t r = 0; r < tile.count; ++r) {
    const __m512 kept = _mm512_set1_ps(factor[r]);
    float* const out = tile.out + r * attention_max_head_dim;
    for (std::size_t i = 0; i < panels * panel_width; i += panel_width, sums += panel_width)
      _mm512_store_ps(out + i, _mm512_fmadd_ps(_mm512_load_ps(out + i), kept, _mm512_load_ps(sums)));
  }
}

/// Positions of the block from `start` on that the last row of a tile sees.
inline std::size_t seen_by(const attention_rows& tile, std::size_t start) noexcept {
  return visible_in_block(tile.length[tile.count - 1], start);
}

void score_block(tile_group& group, const attention_args& a, const std::uint16_t* keys,
                 std::size_t start) noexcept {
  const std::size_t steps = key_dims(a.head_dim) / dot_step;
  const auto score = [&](std::size_t t) {
    score_tiles(group.queries[t], keys, steps, seen_by(group.tile[t], start), group.scores[t % 2]);
  };
  score(0);
  for (std::size_t t = 0; t < group.tiles; ++t) {
    if (t + 1 < group.tiles) score(t + 1);
    const attention_rows& tile = group.tile[t];
    if (seen_by(tile, start) == 0) continue;
    if (visible_in_block(tile.length[0], start) == kv_block_tokens)
      weigh_tile<true>(tile, start, group.scores[t % 2], group.factor[t], group.weights[t]);
    else
      weigh_tile<false>(tile, start, group.scores[t % 2], group.factor[t], group.weights[t]);
  }
}

void add_values(tile_group& group, const attention_args& a, const value_steps& values,
                std::size_t start) noexcept {
  const std::size_t panels = value_panels(a.head_dim);
  const auto multiply = [&](std::size_t t) {
    value_tiles(group.weights[t], values, panels, seen_by(group.tile[t], start), group.value_sums[t % 2]);
  };
  multiply(0);
  for (std::size_t t = 0; t < group.tiles; ++t) {
    if (t + 1 < group.tiles) multiply(t + 1);
    if (seen_by(group.tile[t], start) != 0)
      add_value_sums(group.tile[t], group.factor[t], group.value_sums[t % 2], panels);
  }
}

/// Starts to read what the first `seen` positions need of `panels` panels of values, from memory perhaps.
inline void prefetch_values(const std::uint16_t* values, std::size_t panels, std::size_t seen) noexcept {
  for (std::size_t first = 0; first < seen; first += dot_step, values += panels * tile_numbers) {
    const std::size_t places = seen - first < dot_step ? seen - first : dot_step;
    for (std::size_t c = 0; c < panels; ++c)
      for (std::size_t p = 0; p < places; p += 2) prefetch(values + c * tile_numbers + p * panel_width);
  }
}

/// The same of keys; their panels are of positions.
inline void prefetch_keys(const std::uint16_t* keys, std::size_t dims, std::size_t seen) noexcept {
  const std::size_t panels = (seen + panel_width - 1) / panel_width;
  for (std::size_t i = 0; i < panels * dims; i += 2) prefetch(keys + i * panel_width);
}

/// The first `seen` positions of a block's values. A step that is not full is copied, with zeros after them:
/// what is in the block there may not be numbers.
value_steps first_values(tile_group& group, const std::uint16_t* values, std::size_t panels,
                         std::size_t seen) noexcept {
  value_steps result;
  for (std::size_t s = 0; s < block_steps; ++s) result.step[s] = values + s * panels * tile_numbers;
  const std::size_t places = seen % dot_step;
  if (places == 0) return result;
  const std::uint16_t*& last = result.step[seen / dot_step];
  const __m512i even = _mm512_set1_epi32(0xFFFF);
  for (std::size_t c = 0; c < panels; ++c)
    for (std::size_t p = 0; p < step_pairs; ++p) {
      const std::size_t at = c * tile_numbers + p * 2 * panel_width;
      __m512i pair = _mm512_setzero_si512();
      if (2 * p < places) pair = _mm512_loadu_si512(last + at);
      if (2 * p + 1 == places) pair = _mm512_and_si512(pair, even);
      _mm512_store_si512(group.values + at, pair);
    }
  last = group.values;
  return result;
}

[[gnu::noinline]] void attend_tiles(const attention_args& a, std::size_t kv_head, std::size_t first_row,
                                    std::size_t count) noexcept {
  tile_group group;
  begin_group(group, a, kv_head, first_row, count);
  const std::size_t positions = row_length(a, first_row + count - 1);
  const std::size_t panels = value_panels(a.head_dim);
  for (std::size_t start = 0; start < positions; start += kv_block_tokens) {
    const std::byte* const block = a.kv_blocks[start / kv_block_tokens];
    const std::size_t seen = visible_in_block(positions, start);
    const std::uint16_t* const values = values_of(block, kv_head, a.kv_heads, a.head_dim);
    prefetch_values(values, panels, seen);
    score_block(group, a, keys_of(block, kv_head, a.head_dim), start);
    if (const std::size_t next = start + kv_block_tokens; next < positions)
      prefetch_keys(keys_of(a.kv_blocks[next / kv_block_tokens], kv_head, a.head_dim), key_dims(a.head_dim),
                    visible_in_block(positions, next));
    add_values(group, a, first_values(group, values, panels, seen), start);
  }
  for (std::size_t t = 0; t < group.tiles; ++t)
    finish_rows<avx512_vector>(group.tile[t], a, kv_head, first_row + t * tile_rows);
}

void attention_on_tiles(const attention_args& a, std::size_t first_kv_head, std::size_t last_kv_head) {
  const flush_subnormals scope;
  configure_tiles();
  const std::size_t rows = a.query_count * (a.heads / a.kv_heads);
  for (std::size_t h = first_kv_head; h < last_kv_head; ++h)
    for (std::size_t row = 0; row < rows; row += tile_group::rows)
      attend_tiles(a, h, row, rows - row < tile_group::rows ? rows - row : tile_group::rows);
  // Tiles in use would be saved at every context switch.
  _tile_release();
}

}  // namespace

const attention_function amx_attention = attention_on_tiles;

}  // namespace bitnet::kernels
