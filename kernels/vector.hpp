#pragma once

#include "kernels/instruction_set.hpp"

#include <cstddef>
#include <cstdint>

namespace bitnet::kernels {

/// Which pairs of a head a rotation mixes: `neox` (i, i + d/2), `interleaved` (2i, 2i + 1; llama.cpp's NORM).
enum class rope_kind : std::uint8_t { neox, interleaved };

/// Positions a KV block holds. Attention walks blocks aligned to absolute positions, whatever the chunking.
inline constexpr std::size_t kv_block_tokens = 64;

/// Positions of a block whose keys share cache lines.
inline constexpr std::size_t kv_panel_tokens = 16;

/// Bytes of one KV block of one layer: keys and values (bfloat16) of `kv_block_tokens` positions for all KV
/// heads. The inner layout is that of `store_kv` and `attention`.
std::size_t kv_block_bytes(std::size_t kv_heads, std::size_t head_dim) noexcept;

/// Starts to fetch what `store_kv` will write of the slots [first, last), which lie in one panel.
void prefetch_kv(const std::byte* kv_block, std::size_t first, std::size_t last, std::size_t kv_heads,
                 std::size_t head_dim) noexcept;

/// Attention of consecutive query tokens of one sequence at positions [position, position + query_count).
/// Keys and values of every position up to the last query are stored already. Causal: a query sees itself and
/// what is before it. Grouped: query head h uses KV head h / (heads / kv_heads).
struct attention_args {
  const float* q;  ///< [query_count][q_stride], a row holds heads * head_dim rotated floats
  std::size_t q_stride;
  float* out;  ///< [query_count][out_stride], same shape
  std::size_t out_stride;
  const std::byte* const* kv_blocks;  ///< block b of this layer holds positions [64 b, 64 b + 64)
  std::size_t query_count;
  std::size_t position;  ///< absolute position of the first query
  std::size_t heads;
  std::size_t kv_heads;
  std::size_t head_dim;  ///< even, at most 256
  float scale;           ///< usually 1 / sqrt(head_dim)
};

/// What vector_kernels::attention says.
using attention_function = void (*)(const attention_args& args, std::size_t first_kv_head,
                                    std::size_t last_kv_head);

/// Float operators of one instruction set. All instruction sets give the same bits: reductions use 16 strided
/// partial sums and the fixed tree of kernels/reduction.hpp, multiply-adds are fused where written so,
/// exp is our own polynomial. Single-threaded, no allocation, no alignment required unless said.
struct vector_kernels {
  instruction_set isa;

  /// out = x / sqrt(mean(x^2) + eps) * weight for `rows` rows of n floats, `x_stride` and `out_stride` apart;
  /// out may be x. Rows together take less time than one by one: a sum is one chain of dependent steps.
  void (*rms_norm)(const float* x, std::size_t x_stride, const float* weight, float eps, float* out,
                   std::size_t out_stride, std::size_t rows, std::size_t n);

  /// inout += x.
  void (*add)(const float* x, float* inout, std::size_t n);

  /// out = e^x within 1 ulp; 0 where e^x < 2^-126 (no subnormal results), +inf above the largest float, NaN
  /// for NaN. out may be x. It is the exponential of `silu_gate`, `softmax` and `attention`.
  void (*exponentials)(const float* x, float* out, std::size_t n);

  /// out = relu(gate)^2 * up; out may be gate or up.
  void (*squared_relu_gate)(const float* gate, const float* up, float* out, std::size_t n);

  /// out = gate / (1 + exp(-gate)) * up; out may be gate or up.
  void (*silu_gate)(const float* gate, const float* up, float* out, std::size_t n);

  /// Rotates `heads` heads of `head_dim` floats in place; cos and sin hold the head_dim / 2 values of the
  /// position.
  void (*rope)(float* x, std::size_t heads, std::size_t head_dim, const float* cos, const float* sin,
               rope_kind kind);

  /// In place softmax over n logits divided by `temperature` (> 0); -inf entries become 0. All entries become
  /// NaN where one is NaN or +inf, or all are -inf.
  void (*softmax)(float* x, std::size_t n, float temperature);

  /// Index of the greatest entry, the first of equals; n where any entry is NaN, or for n == 0.
  std::size_t (*argmax)(const float* x, std::size_t n);

  /// Writes the keys and values (kv_heads * head_dim floats each) of one position into its block; slot =
  /// position % 64.
  void (*store_kv)(std::byte* kv_block, std::size_t slot, const float* k, const float* v,
                   std::size_t kv_heads, std::size_t head_dim);

  /// Computes the query heads that belong to the KV heads [first, last) of `args`: work can be split over
  /// KV heads and over queries (by making several args). Results do not depend on the split. Uses up to 300
  /// KiB of stack. Fastest with 64 query heads a KV head at a time, for example 16 tokens of 4. Keys and
  /// values of the positions that the queries see must be finite, for their own sake and for the tokens
  /// before them.
  attention_function attention;
};

/// Precondition: is_supported(isa). avx_vnni shares avx2's, amx_int8 avx512_vnni's but for the attention.
const vector_kernels& vector_kernels_for(instruction_set isa) noexcept;

}  // namespace bitnet::kernels
