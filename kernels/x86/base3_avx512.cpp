#include "kernels/base3_variants.hpp"

#include <immintrin.h>

#include <cstring>

namespace bitnet::kernels {

namespace {

constexpr std::size_t row_groups = base3_matrix::row_groups;
constexpr std::size_t group_rows = 16;
constexpr std::size_t chunk_cols = 4;
constexpr std::size_t chunk_bytes = 64;
constexpr std::size_t step_cols = 64;
constexpr std::size_t step_bytes = step_cols / chunk_cols * chunk_bytes;
constexpr std::size_t prefetch_ahead = 2048;
constexpr int split = 216;  // bytes from here on hold l = 8 and h = byte - 216

/// What a byte of 64 holds: the three codes of h and the two of l, two bits each.
struct tables {
  alignas(64) std::uint8_t high[64];   ///< by byte >> 3, whatever bit 5 of the index
  alignas(64) std::uint8_t low[64];    ///< by the low three bits of the byte
  alignas(64) std::uint8_t other[64];  ///< high, by the low six bits of a byte from 216 on
};

constexpr std::uint8_t fields(int h) {
  return static_cast<std::uint8_t>(h % 3 | h / 3 % 3 << 2 | h / 9 % 3 << 4);
}

constexpr tables make_tables() {
  tables t{};
  for (int i = 0; i < 64; ++i) {
    t.high[i] = fields(i % 32);
    t.low[i] = static_cast<std::uint8_t>(i % 8 % 3 | i % 8 / 3 << 2);
    t.other[i] = fields((i - split % 64 + 64) % 64 % 27);
  }
  return t;
}

constexpr tables lookup = make_tables();
constexpr char codes_of_eight = 0x0A;  // l = 8: both codes are 2

struct group_sums {
  __m512i group[row_groups];
};

inline __m512i broadcast(const std::int8_t* q) {
  std::int32_t four = 0;
  std::memcpy(&four, q, sizeof(four));
  return _mm512_set1_epi32(four);
}

/// sum += weights . activations; the sum stays in its register (see ternary_256.hpp).
inline void add(__m512i& sum, __m512i weights, __m512i activations) {
  sum = _mm512_dpbusd_epi32(sum, weights, activations);
#ifdef __AVX512F__
  asm("" : "+v"(sum));
#endif
}

/// Adds the products of 80 rows x 4 columns. Sums come out as their codes lie in the bytes: of group 2 all
/// three codes of h, of groups 1 and 4 scaled by 4.
template <std::size_t Tokens>
[[gnu::always_inline]] inline void add_chunk(const std::uint8_t* chunk, const std::int8_t* q,
                                             std::size_t q_stride, group_sums* sums) {
  const __m512i first = _mm512_set1_epi8(0x03);
  const __m512i second = _mm512_set1_epi8(0x0C);
  const __m512i x = _mm512_loadu_si512(chunk);
  const auto is_eight = _mm512_cmpge_epu8_mask(x, _mm512_set1_epi8(static_cast<char>(split)));
  __m512i high = _mm512_permutexvar_epi8(_mm512_srli_epi16(x, 3), _mm512_load_si512(lookup.high));
  high = _mm512_mask_permutexvar_epi8(high, is_eight, x, _mm512_load_si512(lookup.other));
  __m512i low = _mm512_permutexvar_epi8(x, _mm512_load_si512(lookup.low));
  low = _mm512_mask_mov_epi8(low, is_eight, _mm512_set1_epi8(codes_of_eight));
  const __m512i codes[row_groups] = {_mm512_and_si512(high, first), _mm512_and_si512(high, second), high,
                                     _mm512_and_si512(low, first), _mm512_and_si512(low, second)};
#pragma GCC unroll 4
  for (std::size_t t = 0; t < Tokens; ++t) {
    const __m512i a = broadcast(q + t * q_stride);
#pragma GCC unroll 5
    for (std::size_t g = 0; g < row_groups; ++g) add(sums[t].group[g], codes[g], a);
  }
}

/// Scales sums back: exactly the dot products with codes 0..2.
inline void scale_back(group_sums& sums) {
  const __m512i rest = _mm512_add_epi32(sums.group[0], sums.group[1]);
  sums.group[2] = _mm512_srai_epi32(_mm512_sub_epi32(sums.group[2], rest), 4);
  sums.group[1] = _mm512_srai_epi32(sums.group[1], 2);
  sums.group[4] = _mm512_srai_epi32(sums.group[4], 2);
}

void store(const base3_matrix& w, const activation_rows& x, std::size_t m, std::size_t block,
           group_sums& sums, float* y) {
  scale_back(sums);
  const __m512i offset = _mm512_set1_epi32(x.row_sum()[m]);
  const __m512 scale = _mm512_set1_ps(x.row_scale()[m] * w.scale());
  for (std::size_t g = 0; g < row_groups; ++g) {
    const std::size_t row = block * base3_matrix::block_rows + g * group_rows;
    if (row >= w.rows()) return;
    const __m512 values = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums.group[g], offset)), scale);
    if (w.rows() - row >= group_rows) {
      _mm512_storeu_ps(y + row, values);
    } else {
      alignas(64) float out[group_rows];
      _mm512_storeu_ps(out, values);
      for (std::size_t r = 0; r < w.rows() - row; ++r) y[row + r] = out[r];
    }
  }
}

/// Tokens [token, token + Tokens) with `Streams` adjacent blocks in lockstep; y is token 0's row.
template <std::size_t Tokens, std::size_t Streams>
void multiply_blocks(const base3_matrix& w, const activation_rows& x, std::size_t token, float* y,
                     std::size_t y_stride, std::size_t block) {
  const std::size_t block_bytes = w.padded_cols() / step_cols * step_bytes;
  const std::uint8_t* const packed = w.block(block);
  const std::int8_t* q = x.row(token);
  group_sums sums[Streams][Tokens] = {};
  for (std::size_t at = 0; at < block_bytes; at += step_bytes) {
    // At the end of a block, where the same stream goes on: in the block that follows those of the others.
    const std::size_t ahead =
        prefetch_ahead + (at + prefetch_ahead >= block_bytes ? (Streams - 1) * block_bytes : 0);
    // Copies for GCC 12, which keeps only the arrays of an inner loop in registers.
    group_sums step[Streams][Tokens];
#pragma GCC unroll 4
    for (std::size_t s = 0; s < Streams; ++s)
#pragma GCC unroll 4
      for (std::size_t t = 0; t < Tokens; ++t) step[s][t] = sums[s][t];
    const std::uint8_t* chunk = packed + at;
    for (std::size_t k = 0; k < step_cols; k += chunk_cols, chunk += chunk_bytes, q += chunk_cols) {
#pragma GCC unroll 4
      for (std::size_t s = 0; s < Streams; ++s) {
        const std::uint8_t* const from = chunk + s * block_bytes;
        _mm_prefetch(reinterpret_cast<const char*>(from + ahead), _MM_HINT_T0);
        add_chunk<Tokens>(from, q, x.row_stride(), step[s]);
      }
    }
#pragma GCC unroll 4
    for (std::size_t s = 0; s < Streams; ++s)
#pragma GCC unroll 4
      for (std::size_t t = 0; t < Tokens; ++t) sums[s][t] = step[s][t];
  }
  for (std::size_t s = 0; s < Streams; ++s)
    for (std::size_t t = 0; t < Tokens; ++t)
      store(w, x, token + t, block + s, sums[s][t], y + (token + t) * y_stride);
}

template <std::size_t Tokens>
void multiply(const base3_matrix& w, const activation_rows& x, std::size_t token, float* y,
              std::size_t y_stride, work_range blocks) {
  constexpr std::size_t streams = Tokens == 1 ? 3 : Tokens == 2 ? 2 : 1;
  std::size_t block = blocks.first;
  for (; block + streams <= blocks.last; block += streams)
    multiply_blocks<Tokens, streams>(w, x, token, y, y_stride, block);
  for (; block < blocks.last; ++block) multiply_blocks<Tokens, 1>(w, x, token, y, y_stride, block);
}

}  // namespace

void base3_matmul_avx512(const base3_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                         work_range blocks) {
  for (std::size_t token = 0; token < x.rows(); token += base3_max_tokens) {
    switch (x.rows() - token) {
      case 1:
        multiply<1>(w, x, token, y, y_stride, blocks);
        break;
      case 2:
        multiply<2>(w, x, token, y, y_stride, blocks);
        break;
      case 3:
        multiply<3>(w, x, token, y, y_stride, blocks);
        break;
      default:
        multiply<4>(w, x, token, y, y_stride, blocks);
        break;
    }
  }
}

}  // namespace bitnet::kernels
