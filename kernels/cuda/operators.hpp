#pragma once

#include "kernels/vector.hpp"

#include <cstddef>
#include <cstdint>

// Launches of the device's operators. All are asynchronous on `stream` (cudaStream_t), allocate nothing, can
// be recorded in a graph, and throw device_error where a launch is refused. Pointers are device memory.
//
// Results have the bits of the CPU's kernels: integer products are exact, and every float operation is done
// in the same order (docs/cuda.md).

namespace bitnet::kernels::cuda {

/// Weights on the device, packed by packing.hpp.
struct weight_view {
  const std::uint8_t* tiles = nullptr;
  const float* row_scales = nullptr;  ///< [padded_rows]
  std::size_t rows = 0;               ///< without padding
  std::size_t padded_rows = 0;
  std::size_t padded_cols = 0;
};

/// int8 activations of a batch: rows of `stride` bytes, zero behind their columns.
struct activation_view {
  std::int8_t* values = nullptr;
  float* scales = nullptr;
  std::int32_t* sums = nullptr;
  std::size_t stride = 0;  ///< a multiple of 256, at least the weights' padded_cols
};

enum class weight_format : std::uint8_t { ternary, int8 };
enum class product_output : std::uint8_t { store, add };

/// y[t * y_stride + r] = (or +=) float(dot(x[t], w[r])) * (x.scales[t] * w.row_scales[r]) for `tokens` rows
/// of x. One token takes dp4a and the whole device's bandwidth; up to 64 split the columns over warps, more
/// are tiled 128 by 64; both on tensor cores.
void multiply(const weight_view& w, weight_format format, const activation_view& x, std::size_t tokens,
              float* y, std::size_t y_stride, product_output output, void* stream);

/// y[t * y_stride + r] with f16 weights [rows][cols] and float activations.
void multiply_f16(const std::uint16_t* w, std::size_t rows, std::size_t cols, const float* x,
                  std::size_t x_stride, std::size_t tokens, float* y, std::size_t y_stride, void* stream);

/// out[t][cols] = table[tokens[t]], converted where the table is f16.
void embed(const void* table, bool f16, std::size_t cols, const std::int32_t* tokens, std::size_t count,
           float* out, void* stream);

/// What a norm reads: rows of x, or activation(gate) * up of rows that hold gate and then up.
enum class norm_input : std::uint8_t { plain, squared_relu_gate, silu_gate };

struct norm_args {
  const float* x = nullptr;
  std::size_t x_stride = 0;
  norm_input input = norm_input::plain;
  const std::int32_t* rows = nullptr;  ///< row of x for each output row; null: the same
  const float* weight = nullptr;       ///< null: no norm, quantise what is there
  float epsilon = 0;
  std::size_t cols = 0;
  activation_view out;
  float* normed = nullptr;         ///< [count][cols], for an f16 head; null: not wanted
  std::int32_t* failed = nullptr;  ///< [row of x]: set to 1 where a value is NaN or infinite
};
/// out = quantise(rms_norm(x)), one block a row.
void normalise(const norm_args& args, std::size_t count, void* stream);

/// The device's KV cache: the parts of `layers` layers of a block lie one after the other.
struct kv_view {
  std::uint16_t* blocks = nullptr;
  std::size_t layers = 0;
  std::size_t layer_halves = 0;         ///< kv_block_bytes / 2
  const std::int32_t* table = nullptr;  ///< [chunk][table_stride] block ids
  std::size_t table_stride = 0;
};

/// Rows of [q | k | v], as the projection leaves them.
struct qkv_view {
  float* rows = nullptr;
  std::size_t stride = 0;
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
};

struct rope_args {
  qkv_view qkv;
  kv_view kv;
  std::size_t layer = 0;
  rope_kind kind = rope_kind::neox;
  const float* cos = nullptr;  ///< [position][head_dim / 2]
  const float* sin = nullptr;
  const std::int32_t* positions = nullptr;  ///< of each row
  const std::int32_t* chunks = nullptr;     ///< of each row
};
/// Rotates queries and keys in place, and writes keys and values to the cache.
void rotate_and_store(const rope_args& args, std::size_t rows, void* stream);

/// Some query rows that share a KV head: rows [first, first + count) of the chunk's queries times the heads
/// of the group, the query counting slower.
struct attention_tile {
  std::int32_t chunk = 0;
  std::int32_t kv_head = 0;
  std::int32_t first = 0;
  std::int32_t count = 0;
  std::int32_t row = 0;       ///< of the chunk's first query in the pass
  std::int32_t position = 0;  ///< of the chunk's first query
};

/// Rows a tile may have: few for decoding, more for prompts, whose rows then share what is read of the cache.
enum class tile_size : std::uint8_t { decode = 4, prefill = 16 };

struct attention_args {
  qkv_view qkv;
  kv_view kv;
  std::size_t layer = 0;
  float scale = 1;
  const attention_tile* tiles = nullptr;
  std::size_t tile_count = 0;  ///< at most 65535
  tile_size size = tile_size::decode;
  std::size_t most_blocks = 0;  ///< KV blocks of the longest sequence
  float* scores = nullptr;      ///< scratch: [tile][rows of a tile][64 * most_blocks]
  float* out = nullptr;         ///< [row][heads * head_dim]
};
/// Keys and values of all positions up to the last query must be stored. Two launches: scores of all blocks
/// at once, then softmax and values along the sequence.
void attend(const attention_args& args, void* stream);

/// A token that was chosen, and its logit; -1: none.
struct choice {
  std::int32_t token = -1;
  float value = 0;
};

/// choices[i] = the greatest of logits[i * stride ...] (the first of equals); none where one is NaN or
/// positive infinity, or all are negative infinity.
void choose_greatest(const float* logits, std::size_t stride, std::size_t vocabulary, std::size_t count,
                     choice* choices, void* stream);

/// So many are selected of a row.
inline constexpr std::size_t choices_a_row = 64;
/// Logits of a row that one block selects from.
inline constexpr std::size_t selection_slice = 2048;
constexpr std::size_t selection_slices(std::size_t vocabulary) noexcept {
  return (vocabulary + selection_slice - 1) / selection_slice;
}

/// choices[i * choices_a_row ...] = the greatest logits of row i in falling order, of equals the smaller
/// token first; none behind the last of the vocabulary. The first is as choose_greatest has it; where it is
/// none, the others mean nothing. `scratch`: [count][selection_slices(vocabulary)][choices_a_row]. Two
/// launches.
void choose_best(const float* logits, std::size_t stride, std::size_t vocabulary, std::size_t count,
                 std::uint64_t* scratch, choice* choices, void* stream);

}  // namespace bitnet::kernels::cuda
