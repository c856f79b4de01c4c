// Attention over the paged KV cache, with the arithmetic of kernels/attention.hpp, bit for bit: dot products
// in steps of 32 places, two chains of fused multiply-adds each; softmax online over blocks of 64 absolute
// positions, its sums by 16 lanes and the fixed tree. What has no order is what runs in parallel: scores of
// all blocks at once, outputs of all dimensions at once.

#include "kernels/cuda/exponential.cuh"
#include "kernels/cuda/layout.hpp"
#include "kernels/cuda/operators.hpp"
#include "kernels/cuda/ptx.cuh"

namespace bitnet::kernels::cuda {

namespace {

constexpr int attention_threads = 256;
constexpr int positions = static_cast<int>(kv_positions);
constexpr int most_head_dim = 256;
constexpr std::uint32_t all_lanes = 0xFFFFFFFFU;

/// Where a row of a tile is: its query and its head.
struct tile_row {
  int query;
  int head;
};
__device__ __forceinline__ tile_row row_of(const attention_tile& tile, int i, int group) {
  const int flat = tile.first + i;
  return {flat / group, tile.kv_head * group + flat % group};
}

/// Positions from `start` on that the query sees, itself included.
__device__ __forceinline__ int visible(const attention_tile& tile, int query, int start) {
  const int length = tile.position + query + 1;
  return max(0, min(positions, length - start));
}

/// Pairs of numbers; `offset` is that of the even one.
__device__ __forceinline__ const std::uint32_t* pairs_at(const std::uint16_t* kv, std::size_t offset) {
  return reinterpret_cast<const std::uint32_t*>(kv + offset);
}

__device__ __forceinline__ float rounded(float x) {
  return even_bfloat16(bfloat16_bits_from_float(x));
}

__device__ __forceinline__ const std::uint16_t* kv_of(const attention_args& a, const attention_tile& tile,
                                                      int block) {
  const auto id =
      static_cast<std::size_t>(a.kv.table[static_cast<std::size_t>(tile.chunk) * a.kv.table_stride + block]);
  return a.kv.blocks + (id * a.kv.layers + a.layer) * a.kv.layer_halves;
}

template <int rows>
__device__ __forceinline__ float* scores_of(const attention_args& a, int tile, int row) {
  return a.scores + (static_cast<std::size_t>(tile) * rows + row) * (a.most_blocks * kv_positions);
}

/// scores[row][position] of one tile and one KV block: a thread takes one position and rows / 4 rows.
template <int rows>
__global__ void __launch_bounds__(attention_threads) score_blocks(attention_args a) {
  constexpr int rows_a_thread = rows / (attention_threads / positions);
  __shared__ float queries[most_head_dim][rows];
  const attention_tile tile = a.tiles[blockIdx.y];
  const int group = static_cast<int>(a.qkv.heads / a.qkv.kv_heads);
  const int dim = static_cast<int>(a.qkv.head_dim);
  const int start = static_cast<int>(blockIdx.x) * positions;
  const int last_query = row_of(tile, tile.count - 1, group).query;
  if (visible(tile, last_query, start) == 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < rows * dim; i += attention_threads) {
    const int row = i / dim;
    float value = 0.0F;
    if (row < tile.count) {
      const tile_row at = row_of(tile, row, group);
      value = rounded(
          a.qkv.rows[static_cast<std::size_t>(tile.row + at.query) * a.qkv.stride + at.head * dim + i % dim] *
          a.scale);
    }
    queries[i % dim][row] = value;
  }
  __syncthreads();
  const int slot = static_cast<int>(threadIdx.x) % positions;
  const int first = static_cast<int>(threadIdx.x) / positions * rows_a_thread;
  const std::uint32_t* const keys =
      pairs_at(kv_of(a, tile, static_cast<int>(blockIdx.x)), key_offset(tile.kv_head, 0, slot, dim));
  constexpr int step = static_cast<int>(kv_step);
  float sums[rows_a_thread] = {};
  for (int i = 0; i < dim; i += step) {
    const int end = min(dim, i + step);  // dim is even
    float even[rows_a_thread] = {};
    float odd[rows_a_thread] = {};
#pragma unroll 8
    for (int k = i; k < end; k += 2) {
      const std::uint32_t pair = keys[k / 2 * kv_panel];
#pragma unroll
      for (int r = 0; r < rows_a_thread; ++r) {
        even[r] = fma_flushed(queries[k][first + r], even_bfloat16(pair), even[r]);
        odd[r] = fma_flushed(queries[k + 1][first + r], odd_bfloat16(pair), odd[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < rows_a_thread; ++r) sums[r] = add_flushed(sums[r], add_flushed(even[r], odd[r]));
  }
  for (int r = 0; r < rows_a_thread; ++r)
    if (first + r < tile.count)
      scores_of<rows>(a, static_cast<int>(blockIdx.y), first + r)[start + slot] = sums[r];
}

/// The running softmax of a row, kept by the 16 threads that work on it.
struct running_softmax {
  float maximum;
  float sum;
};

__device__ __forceinline__ float greatest_of_16(float x) {
  for (int distance = 8; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(all_lanes, x, distance);
    x = other > x ? other : x;
  }
  return x;
}
/// kernels/reduction.hpp's tree.
__device__ __forceinline__ float sum_of_16(float x) {
  for (int distance = 8; distance > 0; distance /= 2) x += __shfl_xor_sync(all_lanes, x, distance);
  return x;
}

/// Weights e^(score - maximum) of one row and block, rounded to bfloat16, four for each of its 16 threads;
/// returns what the sums so far are to be multiplied by.
__device__ __forceinline__ float weigh(running_softmax& row, const float* scores, int seen, int lane,
                                       float (&weights)[4]) {
  const float lowest = __uint_as_float(0xFF800000U);
  float top = lowest;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    weights[n] = n * 16 + lane < seen ? scores[n * 16 + lane] : lowest;
    top = weights[n] > top ? weights[n] : top;
  }
  top = greatest_of_16(top);
  const float previous = row.maximum;
  if (seen > 0) row.maximum = top > previous ? top : previous;
  float total = 0.0F;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    weights[n] = rounded(exponential_of(weights[n] - row.maximum));
    total = total + weights[n];
  }
  const float block_sum = sum_of_16(total);
  const float kept = exponential_of(previous - row.maximum);
  row.sum = __fmaf_rn(row.sum, kept, seen > 0 ? block_sum : 0.0F);
  return kept;
}

/// Softmax and values of one tile, block after block. For the softmax 16 threads share a row; for the values
/// a thread takes one dimension of some rows.
template <int rows>
__global__ void __launch_bounds__(attention_threads) weigh_values(attention_args a) {
  __shared__ float weights[positions][rows];
  __shared__ float factors[rows];
  __shared__ float totals[rows];
  const attention_tile tile = a.tiles[blockIdx.x];
  const int group = static_cast<int>(a.qkv.heads / a.qkv.kv_heads);
  const int dim = static_cast<int>(a.qkv.head_dim);
  const int thread = static_cast<int>(threadIdx.x);

  const int softmax_row = thread / 16;
  const bool softens = softmax_row < rows;  // whole warps: 16 * rows is a multiple of 32
  const int own_query = row_of(tile, min(softmax_row, tile.count - 1), group).query;
  running_softmax own{__uint_as_float(0xFF800000U), 0.0F};

  const int dims = static_cast<int>(round_up(dim, kv_panel));
  const int row_step = attention_threads / dims;  // threads of a dimension, each with every row_step-th row
  const int column = thread % dims;
  const int first_row = thread / dims;
  const bool sums_values = first_row < row_step;
  float sums[rows] = {};  // sums[n] is of row first_row + n * row_step

  const int last_query = row_of(tile, tile.count - 1, group).query;
  for (int block = 0; visible(tile, last_query, block * positions) > 0; ++block) {
    const int start = block * positions;
    if (softens) {
      const int seen = visible(tile, own_query, start);
      const int lane = thread % 16;
      float own_weights[4];
      const float* const scores =
          scores_of<rows>(a, static_cast<int>(blockIdx.x), min(softmax_row, tile.count - 1)) + start;
      const float kept = weigh(own, scores, seen, lane, own_weights);
#pragma unroll
      for (int n = 0; n < 4; ++n) weights[n * 16 + lane][softmax_row] = own_weights[n];
      if (lane == 0) {
        factors[softmax_row] = kept;
        totals[softmax_row] = own.sum;
      }
    }
    __syncthreads();
    if (sums_values) {
      // Positions that a row does not see weigh zero; those that no row sees may hold anything.
      const int most = visible(tile, last_query, start);
      float block_sums[rows] = {};
      constexpr int step = static_cast<int>(kv_step);
      for (int j = 0; j < most; j += step) {
        const int end = min(most, j + step);
        const std::uint32_t* const values =
            pairs_at(kv_of(a, tile, block),
                     value_offset(tile.kv_head, column, static_cast<std::size_t>(j), a.qkv.kv_heads, dim));
        float even[rows] = {};
        float odd[rows] = {};
#pragma unroll 4
        for (int k = j; k < end; k += 2) {
          const std::uint32_t pair = values[(k - j) / 2 * kv_panel];
          const float odd_value = k + 1 < end ? odd_bfloat16(pair) : 0.0F;
#pragma unroll
          for (int n = 0; n < rows; ++n) {
            const int row = first_row + n * row_step;
            if (row >= rows) continue;
            even[n] = fma_flushed(weights[k][row], even_bfloat16(pair), even[n]);
            odd[n] = fma_flushed(weights[k + 1][row], odd_value, odd[n]);
          }
        }
#pragma unroll
        for (int n = 0; n < rows; ++n)
          block_sums[n] = add_flushed(block_sums[n], add_flushed(even[n], odd[n]));
      }
#pragma unroll
      for (int n = 0; n < rows; ++n)
        if (first_row + n * row_step < rows)
          sums[n] = fma_flushed(sums[n], factors[first_row + n * row_step], block_sums[n]);
    }
    __syncthreads();  // before the next block's weights overwrite these
  }
  if (!sums_values || column >= dim) return;
#pragma unroll
  for (int n = 0; n < rows; ++n) {
    const int row = first_row + n * row_step;
    if (row >= tile.count) continue;
    const tile_row at = row_of(tile, row, group);
    a.out[(static_cast<std::size_t>(tile.row + at.query) * a.qkv.heads + at.head) * dim + column] =
        sums[n] * (1.0F / totals[row]) + 0.0F;
  }
}

template <int rows>
void attend_with(const attention_args& args, void* stream) {
  const dim3 threads(attention_threads);
  launch(score_blocks<rows>,
         dim3(static_cast<unsigned>(args.most_blocks), static_cast<unsigned>(args.tile_count)), threads,
         stream, args);
  launch(weigh_values<rows>, dim3(static_cast<unsigned>(args.tile_count)), threads, stream, args);
}

}  // namespace

void attend(const attention_args& args, void* stream) {
  if (args.size == tile_size::decode)
    attend_with<static_cast<int>(tile_size::decode)>(args, stream);
  else
    attend_with<static_cast<int>(tile_size::prefill)>(args, stream);
}

}  // namespace bitnet::kernels::cuda
