#pragma once

#include "kernels/head_screen.hpp"

#include <immintrin.h>

// The screen's products on 256-bit vectors. Included once by each unit that is compiled for such an
// instruction set; everything has internal linkage on purpose (kernels/CMakeLists.txt).
//
// `Dot` is how a unit multiplies:
//   add(partial, codes, q)  adds products of codes 0..15 and signed activations to partial sums, which take
//   16
//                           products a lane of 16 bits, eight calls
//   flush(sum, partial)     adds partial sums to 32-bit sums: four columns a lane

namespace bitnet::kernels {
namespace {

constexpr std::size_t screen_groups = 4;  // vectors of eight rows in a block: rows 0, 8, 16, 24 and up
constexpr std::size_t flush_chunks = 8;
constexpr std::size_t screen_chunk_bytes = 64;

struct screen_sums {
  __m256i group[screen_groups];
};

/// Pins a sum to its register (see ternary_256.hpp).
inline void keep_sum([[maybe_unused]] __m256i& sum) {
#ifdef __AVX2__
  asm("" : "+x"(sum));
#endif
}

/// Four activations in every dword.
inline __m256i broadcast_four(const std::int8_t* q) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(q)));
}

/// Adds the products of 32 columns of one block with `Tokens` rows of activations from q.
template <typename Dot, std::size_t Tokens>
[[gnu::always_inline]] inline void add_columns(const std::uint8_t* packed, const std::int8_t* q,
                                               std::size_t q_stride, screen_sums (&sums)[Tokens]) {
  const __m256i code = _mm256_set1_epi8(0x0F);
#pragma GCC unroll 2
  for (std::size_t half = 0; half < 2; ++half) {
    __m256i low[Tokens] = {};
    __m256i high[Tokens] = {};
#pragma GCC unroll 8
    for (std::size_t chunk = 0; chunk < flush_chunks; ++chunk) {
      const __m256i x = _mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(packed + screen_chunk_bytes * chunk + 32 * half));
      const __m256i x_low = _mm256_and_si256(x, code);
      const __m256i x_high = _mm256_and_si256(_mm256_srli_epi16(x, 4), code);
#pragma GCC unroll 2
      for (std::size_t t = 0; t < Tokens; ++t) {
        const __m256i a = broadcast_four(q + t * q_stride + 4 * chunk);
        low[t] = Dot::add(low[t], x_low, a);
        keep_sum(low[t]);
        high[t] = Dot::add(high[t], x_high, a);
        keep_sum(high[t]);
      }
    }
#pragma GCC unroll 2
    for (std::size_t t = 0; t < Tokens; ++t) {
      sums[t].group[half] = Dot::flush(sums[t].group[half], low[t]);
      sums[t].group[half + 2] = Dot::flush(sums[t].group[half + 2], high[t]);
    }
  }
}

/// Rows [token, token + Tokens) of x with the blocks of a range; of one token several adjacent blocks side by
/// side, because several streams read memory faster than one.
template <typename Dot, std::size_t Tokens>
void score_blocks(const head_screen& w, const activation_rows& x, std::size_t token, std::int32_t* out,
                  std::size_t stride, work_range blocks) {
  constexpr std::size_t streams = Tokens == 1 ? 4 : 1;
  constexpr std::size_t columns = 4 * flush_chunks;
  constexpr std::size_t bytes = screen_chunk_bytes * flush_chunks;
  constexpr std::size_t prefetch_ahead = 2048;
  const std::size_t block_bytes = w.padded_cols() * 16;
  for (std::size_t block = blocks.first; block < blocks.last; block += streams) {
    const std::size_t n = blocks.last - block < streams ? blocks.last - block : streams;
    screen_sums sums[streams][Tokens] = {};
    const std::uint8_t* packed = w.block(block);
    const std::int8_t* q = x.row(token);
    for (std::size_t k = 0; k < w.padded_cols(); k += columns, packed += bytes, q += columns) {
      for (std::size_t s = 0; s < n; ++s) {
        const std::uint8_t* const from = packed + s * block_bytes;
        for (std::size_t line = 0; line < bytes; line += 64)
          _mm_prefetch(reinterpret_cast<const char*>(from + prefetch_ahead + line), _MM_HINT_T0);
        add_columns<Dot, Tokens>(from, q, x.row_stride(), sums[s]);
      }
    }
    for (std::size_t s = 0; s < n; ++s) {
      const std::size_t first = (block + s) * head_screen::block_rows;
      const std::size_t left = w.rows() - first;
      const std::size_t rows = left < head_screen::block_rows ? left : head_screen::block_rows;
      for (std::size_t t = 0; t < Tokens; ++t) {
        alignas(32) std::int32_t values[head_screen::block_rows];
        for (std::size_t g = 0; g < screen_groups; ++g)
          _mm256_store_si256(reinterpret_cast<__m256i*>(values + 8 * g), sums[s][t].group[g]);
        std::int32_t* const to = out + (token + t) * stride + first;
        for (std::size_t r = 0; r < rows; ++r) to[r] = values[r];
      }
    }
  }
}

template <typename Dot>
void score_rows(const head_screen& w, const activation_rows& x, const screen_scores& out, work_range blocks) {
  if (x.rows() == 1) {
    score_blocks<Dot, 1>(w, x, 0, out.scores, out.stride, blocks);
  } else {
    // Block by block, so that later tokens find the weights in the cache.
    for (std::size_t block = blocks.first; block < blocks.last; ++block) {
      std::size_t m = 0;
      for (; m + 2 <= x.rows(); m += 2)
        score_blocks<Dot, 2>(w, x, m, out.scores, out.stride, {block, block + 1});
      if (m < x.rows()) score_blocks<Dot, 1>(w, x, m, out.scores, out.stride, {block, block + 1});
    }
  }
  find_block_maxima(w, x.rows(), out, blocks);
}

/// Sixteen products of a row's weights and activations, widened so that nothing saturates: eight sums.
inline __m256i sixteen_products(const std::uint8_t* weights, const std::int8_t* q) {
  const __m256i w = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
  const __m256i a = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
  return _mm256_madd_epi16(w, a);
}

void rescore_rows(const head_screen& w, const float* scales, const activation_rows& x, std::size_t m,
                  const std::uint32_t* rows, std::size_t count, float* logits) {
  constexpr std::size_t step_cols = 64;
  const std::int32_t excess = head_matrix::int8_weight_offset * x.row_sum()[m];
  const float token_scale = x.row_scale()[m];
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t* const row = w.int8_row(rows[i]);
    const std::uint8_t* const next = w.int8_row(rows[i + 1 < count ? i + 1 : i]);
    __m256i sum = _mm256_setzero_si256();
    for (std::size_t s = 0; s < w.padded_cols() / step_cols; ++s) {
      const std::uint8_t* const weights = row + s * step_cols;
      const std::int8_t* const q = x.step(m, s);
      _mm_prefetch(reinterpret_cast<const char*>(next + s * step_cols), _MM_HINT_T0);
      for (std::size_t k = 0; k < step_cols; k += 16)
        sum = _mm256_add_epi32(sum, sixteen_products(weights + k, q + k));
    }
    alignas(32) std::int32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
    std::int32_t dot = -excess;
    for (const std::int32_t lane : lanes) dot += lane;
    logits[i] = static_cast<float>(dot) * (token_scale * scales[rows[i]]);
  }
}

}  // namespace
}  // namespace bitnet::kernels
