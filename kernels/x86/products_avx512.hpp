#pragma once

#include "kernels/matmul.hpp"

#include <immintrin.h>

#include <cstring>

// How products with AVX-512 VNNI walk a matrix. Included by each unit that is compiled for it; everything has
// internal linkage on purpose (kernels/CMakeLists.txt).
//
// `Product` says what the weights of a matrix are:
//   output                  what a dot product becomes
//   step_bytes, chunk_cols  bytes of 64 columns of a block; columns of a chunk
//   lines                   lines of the cache that a chunk takes, at distances of tile_bytes
//   block(w, b)             the first byte of a block
//   add_chunk<Tokens>(chunk, q, q_stride, sums)  adds the products of a chunk with rows of activations from q
//   store(w, x, token, block, rows, sums, y)     writes so many outputs of a block; y points at the first

namespace bitnet::kernels::avx512 {
namespace {

constexpr std::size_t block_rows = 32;
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

/// Which of several visits to a block this is. All visits together prefetch the block that follows, so that
/// memory is read while the multiplier works, not before.
struct visit {
  std::size_t index = 0;
  std::size_t count = 1;
};

/// Rows [token, token + Tokens) of x with `Streams` adjacent blocks, chunk by chunk in lockstep: several
/// streams read memory faster than one, and their sums hide the latency of the multiplier.
template <typename Product, std::size_t Tokens, std::size_t Streams, typename Matrix>
void multiply_blocks(const Matrix& w, const activation_rows& x, std::size_t token,
                     typename Product::output* y, std::size_t y_stride, std::size_t block, visit turn) {
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
void multiply_few(const Matrix& w, const activation_rows& x, std::size_t token, typename Product::output* y,
                  std::size_t y_stride, work_range blocks, visit turn) {
  constexpr std::size_t streams = Tokens <= 2 ? 4 : Tokens <= 4 ? 2 : 1;
  std::size_t block = blocks.first;
  for (; block + streams <= blocks.last; block += streams)
    multiply_blocks<Product, Tokens, streams>(w, x, token, y, y_stride, block, turn);
  for (; block < blocks.last; ++block)
    multiply_blocks<Product, Tokens, 1>(w, x, token, y, y_stride, block, turn);
}

template <typename Product, typename Matrix>
void multiply_up_to_eight(const Matrix& w, const activation_rows& x, std::size_t token, std::size_t tokens,
                          typename Product::output* y, std::size_t y_stride, work_range blocks, visit turn) {
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
void multiply(const Matrix& w, const activation_rows& x, typename Product::output* y, std::size_t y_stride,
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
}  // namespace bitnet::kernels::avx512
