#pragma once

#include "kernels/matmul.hpp"

#include <immintrin.h>

// Ternary products on 256-bit vectors. Included once by each unit that is compiled for such an instruction
// set; everything has internal linkage on purpose (kernels/CMakeLists.txt).
//
// `Dot` is how a unit multiplies:
//   static __m256i add(__m256i partial, __m256i codes, __m256i q)  adds products of unsigned codes and signed
//       activations to partial sums. A partial sum takes 64 products of codes 0..2, or 16 where the codes are
//       scaled by 4.
//   static __m256i flush(__m256i sum, __m256i partial)  adds partial sums to 32-bit sums: four columns a
//   lane.

namespace bitnet::kernels {
namespace {

constexpr std::size_t block_rows = ternary_matrix::block_rows;
constexpr std::size_t groups = 4;  // vectors of eight rows in a block: rows 0, 8, 16, 24 and up
constexpr std::size_t chunk_cols = 8;
constexpr std::size_t chunk_bytes = 64;

struct row_sums {
  __m256i group[groups];
};

inline __m256i load(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

/// Four activations in every dword.
inline __m256i broadcast(const std::int8_t* q) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(q)));
}

/// Pins a sum to its register. Without it GCC 12 copies and spills the sums of unrolled loops, which costs up
/// to half the speed.
inline void keep([[maybe_unused]] __m256i& sum) {
#ifdef __AVX2__
  asm("" : "+x"(sum));
#endif
}

void store_row(const row_sums& sums, std::int32_t row_sum, float scale, float* y, std::size_t rows) {
  const __m256i offset = _mm256_set1_epi32(row_sum);
  const __m256 factor = _mm256_set1_ps(scale);
  alignas(32) float out[block_rows];
  float* const to = rows == block_rows ? y : out;
  for (std::size_t g = 0; g < groups; ++g) {
    const __m256i dots = _mm256_sub_epi32(sums.group[g], offset);
    _mm256_storeu_ps(to + 8 * g, _mm256_mul_ps(_mm256_cvtepi32_ps(dots), factor));
  }
  if (rows != block_rows)
    for (std::size_t r = 0; r < rows; ++r) y[r] = out[r];
}

inline std::size_t rows_of_block(const ternary_matrix& w, std::size_t block) {
  const std::size_t left = w.rows() - block * block_rows;
  return left < block_rows ? left : block_rows;
}

// Few tokens, bound by the memory's bandwidth: codes go from the packed bytes straight into the multiplier.

/// Adds the products of 64 columns of one block with `Tokens` rows of activations from q. The sums of groups
/// 2 and 3 come out scaled by 4: their codes are masked where they lie, at bit 2.
template <typename Dot, std::size_t Tokens>
[[gnu::always_inline]] inline void add_step(const std::uint8_t* packed, const std::int8_t* q,
                                            std::size_t q_stride, row_sums (&sums)[Tokens]) {
  const __m256i low_field = _mm256_set1_epi8(0x03);
  const __m256i high_field = _mm256_set1_epi8(0x0C);
  // Halves of a chunk at a time: as many as leave enough registers.
  constexpr std::size_t halves = Tokens == 1 ? 2 : 1;
#pragma GCC unroll 2
  for (std::size_t half = 0; half < 2; half += halves) {
    __m256i low[Tokens][halves] = {};
    __m256i high[Tokens][halves] = {};
#pragma GCC unroll 8
    for (std::size_t chunk = 0; chunk < 8; ++chunk) {
#pragma GCC unroll 2
      for (std::size_t h = 0; h < halves; ++h) {
        const __m256i x = load(packed + chunk_bytes * chunk + 32 * (half + h));
        const __m256i z = _mm256_srli_epi16(x, 4);
        const __m256i x_low = _mm256_and_si256(x, low_field);
        const __m256i z_low = _mm256_and_si256(z, low_field);
        const __m256i x_high = _mm256_and_si256(x, high_field);
        const __m256i z_high = _mm256_and_si256(z, high_field);
#pragma GCC unroll 4
        for (std::size_t t = 0; t < Tokens; ++t) {
          const __m256i a = broadcast(q + t * q_stride + chunk_cols * chunk);
          const __m256i b = broadcast(q + t * q_stride + chunk_cols * chunk + 4);
          low[t][h] = Dot::add(low[t][h], x_low, a);
          keep(low[t][h]);
          high[t][h] = Dot::add(high[t][h], x_high, a);
          keep(high[t][h]);
          low[t][h] = Dot::add(low[t][h], z_low, b);
          keep(low[t][h]);
          high[t][h] = Dot::add(high[t][h], z_high, b);
          keep(high[t][h]);
        }
      }
    }
#pragma GCC unroll 4
    for (std::size_t t = 0; t < Tokens; ++t) {
#pragma GCC unroll 2
      for (std::size_t h = 0; h < halves; ++h) {
        sums[t].group[half + h] = Dot::flush(sums[t].group[half + h], low[t][h]);
        sums[t].group[half + h + 2] = Dot::flush(sums[t].group[half + h + 2], high[t][h]);
      }
    }
  }
}

/// Rows [token, token + Tokens) of x with the blocks of a range, walking several adjacent blocks side by
/// side: with the prefetch this reads as fast as a plain sum of the bytes (tests/bench).
template <typename Dot, std::size_t Tokens>
void multiply_few(const ternary_matrix& w, const activation_rows& x, std::size_t token, float* y,
                  std::size_t y_stride, work_range blocks) {
  constexpr std::size_t streams = Tokens == 1 ? 4 : 1;
  constexpr std::size_t step_cols = 64;
  constexpr std::size_t step_bytes = 512;
  constexpr std::size_t prefetch_ahead = 2048;
  const std::size_t block_bytes = w.padded_cols() * 8;
  for (std::size_t block = blocks.first; block < blocks.last; block += streams) {
    const std::size_t n = blocks.last - block < streams ? blocks.last - block : streams;
    row_sums sums[streams][Tokens] = {};
    const std::uint8_t* packed = w.block(block);
    const std::int8_t* q = x.row(token);
    for (std::size_t k = 0; k < w.padded_cols(); k += step_cols, packed += step_bytes, q += step_cols) {
      for (std::size_t s = 0; s < n; ++s) {
        const std::uint8_t* const step = packed + s * block_bytes;
        for (std::size_t line = 0; line < step_bytes; line += 64)
          _mm_prefetch(reinterpret_cast<const char*>(step + prefetch_ahead + line), _MM_HINT_T0);
        add_step<Dot, Tokens>(step, q, x.row_stride(), sums[s]);
      }
    }
    for (std::size_t s = 0; s < n; ++s) {
      for (std::size_t t = 0; t < Tokens; ++t) {
        row_sums& row = sums[s][t];
        row.group[2] = _mm256_srai_epi32(row.group[2], 2);
        row.group[3] = _mm256_srai_epi32(row.group[3], 2);
        store_row(row, x.row_sum()[token + t], x.row_scale()[token + t] * w.scale(),
                  y + (token + t) * y_stride + (block + s) * block_rows, rows_of_block(w, block + s));
      }
    }
  }
}

template <typename Dot>
void multiply_up_to_four(const ternary_matrix& w, const activation_rows& x, std::size_t token,
                         std::size_t tokens, float* y, std::size_t y_stride, work_range blocks) {
  switch (tokens) {
    case 1:
      multiply_few<Dot, 1>(w, x, token, y, y_stride, blocks);
      break;
    case 2:
      multiply_few<Dot, 2>(w, x, token, y, y_stride, blocks);
      break;
    case 3:
      multiply_few<Dot, 3>(w, x, token, y, y_stride, blocks);
      break;
    default:
      multiply_few<Dot, 4>(w, x, token, y, y_stride, blocks);
      break;
  }
}

// Many tokens, bound by the multiplier: a panel of codes is unpacked into the L1 cache and serves every
// token.

constexpr std::size_t panel_cols = 256;  // 64 steps of four columns: as many as a partial sum takes
constexpr std::size_t token_block = 64;  // their activations stay in the L2 cache, their sums in the L1 cache

/// Codes of one block: [step of four columns][group], one byte a code.
struct panel {
  alignas(64) std::uint8_t codes[panel_cols / 4][groups][32];
};

void unpack(const std::uint8_t* packed, std::size_t cols, panel& to) {
  const __m256i field = _mm256_set1_epi8(0x03);
  for (std::size_t chunk = 0; chunk < cols / chunk_cols; ++chunk) {
    for (std::size_t half = 0; half < 2; ++half) {
      const __m256i x = load(packed + chunk_bytes * chunk + 32 * half);
      const auto store = [&](std::size_t step, std::size_t group, __m256i codes) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(to.codes[step][group]), _mm256_and_si256(codes, field));
      };
      store(2 * chunk, half, x);
      store(2 * chunk, half + 2, _mm256_srli_epi16(x, 2));
      store(2 * chunk + 1, half, _mm256_srli_epi16(x, 4));
      store(2 * chunk + 1, half + 2, _mm256_srli_epi16(x, 6));
    }
  }
}

/// Adds the products of `cols` columns of a panel with `Tokens` rows of activations.
template <typename Dot, std::size_t Tokens>
void add_panel(const panel& p, std::size_t cols, const std::int8_t* q, std::size_t q_stride, row_sums* sums) {
  __m256i partial[Tokens][groups] = {};
  for (std::size_t step = 0; step < cols / 4; ++step) {
#pragma GCC unroll 2
    for (std::size_t t = 0; t < Tokens; ++t) {
      const __m256i a = broadcast(q + t * q_stride + 4 * step);
#pragma GCC unroll 4
      for (std::size_t g = 0; g < groups; ++g) {
        partial[t][g] = Dot::add(partial[t][g], load(p.codes[step][g]), a);
        keep(partial[t][g]);
      }
    }
  }
#pragma GCC unroll 2
  for (std::size_t t = 0; t < Tokens; ++t)
#pragma GCC unroll 4
    for (std::size_t g = 0; g < groups; ++g) sums[t].group[g] = Dot::flush(sums[t].group[g], partial[t][g]);
}

template <typename Dot>
void multiply_many(const ternary_matrix& w, const activation_rows& x, std::size_t token, std::size_t tokens,
                   float* y, std::size_t y_stride, work_range blocks) {
  panel p;
  row_sums sums[token_block];
  for (std::size_t block = blocks.first; block < blocks.last; ++block) {
    for (std::size_t t = 0; t < tokens; ++t) sums[t] = {};
    for (std::size_t k = 0; k < w.padded_cols(); k += panel_cols) {
      const std::size_t cols = w.padded_cols() - k < panel_cols ? w.padded_cols() - k : panel_cols;
      unpack(w.block(block) + k * 8, cols, p);
      const std::int8_t* const q = x.row(token) + k;
      std::size_t t = 0;
      for (; t + 2 <= tokens; t += 2)
        add_panel<Dot, 2>(p, cols, q + t * x.row_stride(), x.row_stride(), sums + t);
      if (t < tokens) add_panel<Dot, 1>(p, cols, q + t * x.row_stride(), x.row_stride(), sums + t);
    }
    for (std::size_t t = 0; t < tokens; ++t)
      store_row(sums[t], x.row_sum()[token + t], x.row_scale()[token + t] * w.scale(),
                y + (token + t) * y_stride + block * block_rows, rows_of_block(w, block));
  }
}

template <typename Dot>
void multiply_ternary(const ternary_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                      work_range blocks) {
  for (std::size_t token = 0; token < x.rows();) {
    const std::size_t left = x.rows() - token;
    if (left <= 4) {
      multiply_up_to_four<Dot>(w, x, token, left, y, y_stride, blocks);
      return;
    }
    if (left <= 8) {
      // Two visits to a block: the second finds it in the cache.
      for (std::size_t b = blocks.first; b < blocks.last; ++b) {
        multiply_up_to_four<Dot>(w, x, token, left / 2, y, y_stride, {b, b + 1});
        multiply_up_to_four<Dot>(w, x, token + left / 2, left - left / 2, y, y_stride, {b, b + 1});
      }
      return;
    }
    const std::size_t tokens = left < token_block ? left : token_block;
    multiply_many<Dot>(w, x, token, tokens, y, y_stride, blocks);
    token += tokens;
  }
}

}  // namespace
}  // namespace bitnet::kernels
