#include "kernels/matmul_variants.hpp"
#include "kernels/x86/avx2_operators.hpp"
#include "kernels/x86/avx512_operators.hpp"

#include <immintrin.h>

#include <cstring>

namespace bitnet::kernels {

namespace avx512 {

namespace {

constexpr std::size_t block_rows = 32;
static_assert(block_rows == ternary_matrix::block_rows && block_rows == head_matrix::block_rows());
constexpr std::size_t step_cols = 64;
constexpr std::size_t tile_bytes = 1024;
constexpr std::size_t prefetch_ahead = 2048;
constexpr std::size_t max_tokens = 8;    // 16 sums: GCC 12 spills where a loop has more than about 20
constexpr std::size_t token_block = 64;  // their activations stay in the L2 cache

/// Sums of one token with one block: rows 0..15 and 16..31.
struct row_sums {
  __m512i half[2];
};

inline __m512i load(const void* p) {
  return _mm512_loadu_si512(p);
}

/// Four activations in every dword.
inline __m512i broadcast(const std::int8_t* q) {
  std::int32_t four = 0;
  std::memcpy(&four, q, sizeof(four));
  return _mm512_set1_epi32(four);
}

/// Pins a sum to its register (see ternary_256.hpp).
inline void keep([[maybe_unused]] __m512i& sum) {
#ifdef __AVX512F__
  asm("" : "+v"(sum));
#endif
}

/// sum += weights . activations, four columns a lane.
inline void add(__m512i& sum, __m512i weights, __m512i activations) {
  sum = _mm512_dpbusd_epi32(sum, weights, activations);
  keep(sum);
}

inline void prefetch(const std::uint8_t* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
}

/// y[0 .. rows) = float(dots) * scales.
inline void store_half(__m512i dots, __m512 scales, float* y, std::size_t rows) {
  const __m512 values = _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales);
  if (rows >= 16) {
    _mm512_storeu_ps(y, values);
    return;
  }
  alignas(64) float out[16];
  _mm512_storeu_ps(out, values);
  for (std::size_t r = 0; r < rows; ++r) y[r] = out[r];
}

struct ternary_product {
  static constexpr std::size_t step_bytes = 512;
  static constexpr std::size_t chunk_cols = 8;
  static constexpr std::size_t lines = 1;  // a chunk, at distances of tile_bytes
  static const std::uint8_t* block(const ternary_matrix& w, std::size_t b) { return w.block(b); }

  /// Adds the products of 8 columns with `Tokens` rows of activations from q. The sums of rows 16..31 come
  /// out scaled by 4: their codes are masked where they lie, at bit 2.
  template <std::size_t Tokens>
  [[gnu::always_inline]] static void add_chunk(const std::uint8_t* chunk, const std::int8_t* q,
                                               std::size_t q_stride, row_sums* sums) {
    const __m512i low_field = _mm512_set1_epi8(0x03);
    const __m512i high_field = _mm512_set1_epi8(0x0C);
    const __m512i x = load(chunk);
    const __m512i z = _mm512_srli_epi16(x, 4);
    const __m512i x_low = _mm512_and_si512(x, low_field);
    const __m512i z_low = _mm512_and_si512(z, low_field);
    const __m512i x_high = _mm512_and_si512(x, high_field);
    const __m512i z_high = _mm512_and_si512(z, high_field);
#pragma GCC unroll 8
    for (std::size_t t = 0; t < Tokens; ++t) {
      const __m512i a = broadcast(q + t * q_stride);
      const __m512i b = broadcast(q + t * q_stride + 4);
      add(sums[t].half[0], x_low, a);
      add(sums[t].half[1], x_high, a);
      add(sums[t].half[0], z_low, b);
      add(sums[t].half[1], z_high, b);
    }
  }

  /// Writes `rows` outputs of token m; y points at the block's first.
  static void store(const ternary_matrix& w, const quantized_activations& x, std::size_t m, std::size_t,
                    std::size_t rows, const row_sums& sums, float* y) {
    const __m512i offset = _mm512_set1_epi32(x.row_sum()[m]);
    const __m512 scale = _mm512_set1_ps(x.row_scale()[m] * w.scale());
    store_half(_mm512_sub_epi32(sums.half[0], offset), scale, y, rows);
    if (rows > 16)
      store_half(_mm512_sub_epi32(_mm512_srai_epi32(sums.half[1], 2), offset), scale, y + 16, rows - 16);
  }
};

struct head_product {
  static constexpr std::size_t step_bytes = 2048;
  static constexpr std::size_t chunk_cols = 4;
  static constexpr std::size_t lines = 2;
  static const std::uint8_t* block(const head_matrix& w, std::size_t b) { return w.int8_block(b); }

  /// Adds the products of 4 columns, a line of each of two tiles, with `Tokens` rows of activations from q.
  template <std::size_t Tokens>
  [[gnu::always_inline]] static void add_chunk(const std::uint8_t* chunk, const std::int8_t* q,
                                               std::size_t q_stride, row_sums* sums) {
    const __m512i weights_0 = load(chunk);
    const __m512i weights_1 = load(chunk + tile_bytes);
#pragma GCC unroll 8
    for (std::size_t t = 0; t < Tokens; ++t) {
      const __m512i a = broadcast(q + t * q_stride);
      add(sums[t].half[0], weights_0, a);
      add(sums[t].half[1], weights_1, a);
    }
  }

  static void store(const head_matrix& w, const quantized_activations& x, std::size_t m, std::size_t block,
                    std::size_t rows, const row_sums& sums, float* y) {
    // The stored weights are 128 too large.
    const __m512i excess = _mm512_slli_epi32(_mm512_set1_epi32(x.row_sum()[m]), 7);
    const __m512 row_scale = _mm512_set1_ps(x.row_scale()[m]);
    const float* const scales = w.row_scales() + block * block_rows;
    for (std::size_t h = 0; h < 2 && rows > 16 * h; ++h)
      store_half(_mm512_sub_epi32(sums.half[h], excess),
                 _mm512_mul_ps(row_scale, _mm512_loadu_ps(scales + 16 * h)), y + 16 * h, rows - 16 * h);
  }
};

/// Which of several visits to a block this is. All visits together prefetch the block that follows, so that
/// memory is read while the multiplier works, not before.
struct visit {
  std::size_t index = 0;
  std::size_t count = 1;
};

/// Rows [token, token + Tokens) of x with `Streams` adjacent blocks, chunk by chunk in lockstep: several
/// streams read memory faster than one, and their sums hide the latency of the multiplier.
template <typename Product, std::size_t Tokens, std::size_t Streams, typename Matrix>
void multiply_blocks(const Matrix& w, const quantized_activations& x, std::size_t token, float* y,
                     std::size_t y_stride, std::size_t block, visit turn) {
  const std::size_t block_bytes = w.padded_cols() / step_cols * Product::step_bytes;
  const std::uint8_t* const packed = Product::block(w, block);
  const std::int8_t* q = x.row(token);
  row_sums sums[Streams][Tokens] = {};
  std::size_t until_prefetch = turn.index;
  for (std::size_t at = 0; at < block_bytes; at += Product::step_bytes) {
    std::size_t ahead = prefetch_ahead;
    if (turn.count == 1) {
      // At the end of a block, where the same stream goes on: in the block that follows those of the others.
      if (at + prefetch_ahead >= block_bytes) ahead += (Streams - 1) * block_bytes;
    } else if (until_prefetch-- == 0) {
      until_prefetch = turn.count - 1;
      ahead = block_bytes;
    } else {
      ahead = 0;
    }
    const std::uint8_t* chunk = packed + at;
    // Copies for GCC 12, which keeps only the arrays of an inner loop in registers.
    row_sums step[Streams][Tokens];
#pragma GCC unroll 4
    for (std::size_t s = 0; s < Streams; ++s)
#pragma GCC unroll 8
      for (std::size_t t = 0; t < Tokens; ++t) step[s][t] = sums[s][t];
    for (std::size_t k = 0; k < step_cols; k += Product::chunk_cols, chunk += 64, q += Product::chunk_cols) {
#pragma GCC unroll 4
      for (std::size_t s = 0; s < Streams; ++s) {
        const std::uint8_t* const from = chunk + s * block_bytes;
#pragma GCC unroll 2
        for (std::size_t line = 0; line < Product::lines; ++line) prefetch(from + ahead + line * tile_bytes);
        Product::template add_chunk<Tokens>(from, q, x.row_stride(), step[s]);
      }
    }
#pragma GCC unroll 4
    for (std::size_t s = 0; s < Streams; ++s)
#pragma GCC unroll 8
      for (std::size_t t = 0; t < Tokens; ++t) sums[s][t] = step[s][t];
  }
  for (std::size_t s = 0; s < Streams; ++s) {
    const std::size_t first = (block + s) * block_rows;
    const std::size_t rows = w.rows() - first < block_rows ? w.rows() - first : block_rows;
    for (std::size_t t = 0; t < Tokens; ++t)
      Product::store(w, x, token + t, block + s, rows, sums[s][t], y + (token + t) * y_stride + first);
  }
}

/// Rows [token, token + Tokens) of x with a range of blocks: as many side by side as leave registers.
template <typename Product, std::size_t Tokens, typename Matrix>
void multiply_few(const Matrix& w, const quantized_activations& x, std::size_t token, float* y,
                  std::size_t y_stride, work_range blocks, visit turn) {
  constexpr std::size_t streams = Tokens <= 2 ? 4 : Tokens <= 4 ? 2 : 1;
  std::size_t block = blocks.first;
  for (; block + streams <= blocks.last; block += streams)
    multiply_blocks<Product, Tokens, streams>(w, x, token, y, y_stride, block, turn);
  for (; block < blocks.last; ++block)
    multiply_blocks<Product, Tokens, 1>(w, x, token, y, y_stride, block, turn);
}

template <typename Product, typename Matrix>
void multiply_up_to_eight(const Matrix& w, const quantized_activations& x, std::size_t token,
                          std::size_t tokens, float* y, std::size_t y_stride, work_range blocks, visit turn) {
  switch (tokens) {
    case 1:
      multiply_few<Product, 1>(w, x, token, y, y_stride, blocks, turn);
      break;
    case 2:
      multiply_few<Product, 2>(w, x, token, y, y_stride, blocks, turn);
      break;
    case 3:
      multiply_few<Product, 3>(w, x, token, y, y_stride, blocks, turn);
      break;
    case 4:
      multiply_few<Product, 4>(w, x, token, y, y_stride, blocks, turn);
      break;
    case 5:
      multiply_few<Product, 5>(w, x, token, y, y_stride, blocks, turn);
      break;
    case 6:
      multiply_few<Product, 6>(w, x, token, y, y_stride, blocks, turn);
      break;
    case 7:
      multiply_few<Product, 7>(w, x, token, y, y_stride, blocks, turn);
      break;
    default:
      multiply_few<Product, 8>(w, x, token, y, y_stride, blocks, turn);
      break;
  }
}

template <typename Product, typename Matrix>
void multiply(const Matrix& w, const quantized_activations& x, float* y, std::size_t y_stride,
              work_range blocks) {
  if (x.rows() <= max_tokens) {
    if (x.rows() != 0) multiply_up_to_eight<Product>(w, x, 0, x.rows(), y, y_stride, blocks, {});
    return;
  }
  for (std::size_t first = 0; first < x.rows(); first += token_block) {
    const std::size_t last = x.rows() - first < token_block ? x.rows() : first + token_block;
    // Block by block, so that later tokens find the weights in the cache.
    for (std::size_t b = blocks.first; b < blocks.last; ++b) {
      visit turn{.index = 0, .count = (last - first + max_tokens - 1) / max_tokens};
      for (std::size_t token = first; token < last; token += max_tokens, ++turn.index) {
        const std::size_t tokens = last - token < max_tokens ? last - token : max_tokens;
        multiply_up_to_eight<Product>(w, x, token, tokens, y, y_stride, {b, b + 1}, turn);
      }
    }
  }
}

}  // namespace

void ternary_matmul(const ternary_matrix& w, const quantized_activations& x, float* y, std::size_t y_stride,
                    work_range blocks) {
  multiply<ternary_product>(w, x, y, y_stride, blocks);
}

void head_int8(const head_matrix& w, const quantized_activations& x, float* y, std::size_t y_stride,
               work_range blocks) {
  multiply<head_product>(w, x, y, y_stride, blocks);
}

}  // namespace avx512

const matmul_kernels avx512_vnni_matmul_kernels{.isa = instruction_set::avx512_vnni,
                                                .quantize_row = avx2::quantize_row,
                                                .ternary_matmul = avx512::ternary_matmul,
                                                .head_int8 = avx512::head_int8,
                                                .head_f16 = avx2::head_f16};

}  // namespace bitnet::kernels
