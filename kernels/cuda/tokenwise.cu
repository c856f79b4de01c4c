// The operators that go token by token: embedding, norms with quantisation, rotation.

#include "kernels/cuda/exponential.cuh"
#include "kernels/cuda/layout.hpp"
#include "kernels/cuda/operators.hpp"
#include "kernels/cuda/ptx.cuh"

namespace bitnet::kernels::cuda {

namespace {

constexpr int norm_threads = 256;
constexpr std::uint32_t all_lanes = 0xFFFFFFFFU;

/// Combines a value of every thread; the result is everybody's. `shared` holds one value a warp. The order of
/// operands is not fixed by the number of threads, so `combine` must be exact: a maximum, integers.
template <class T, class F>
__device__ T combine_block(T value, T* shared, F combine) {
  for (int distance = 16; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(all_lanes, value, distance));
  __syncthreads();  // the last result may still be being read
  if (threadIdx.x % warp_lanes == 0) shared[threadIdx.x / warp_lanes] = value;
  __syncthreads();
  value = shared[0];
  for (unsigned i = 1; i < blockDim.x / warp_lanes; ++i) value = combine(value, shared[i]);
  return value;
}

__device__ __forceinline__ bool is_finite(float x) {
  return (__float_as_uint(x) & 0x7F800000U) != 0x7F800000U;
}

template <norm_input input>
__device__ __forceinline__ float input_value(const float* x, int cols, int i) {
  const float first = x[i];
  if (input == norm_input::plain) return first;
  const float up = x[cols + i];
  if (input == norm_input::squared_relu_gate) {
    const float positive = 0.0F > first ? 0.0F : first;  // in this order NaN passes
    return positive * positive * up;
  }
  return first / (1.0F + exponential_of(0.0F - first)) * up;
}

/// Sum of squares in the order of kernels/reduction.hpp: sixteen threads sum one residue each, from shared
/// memory that all threads fill.
template <norm_input input>
__device__ float sum_of_squares(const float* x, int cols, float* segment, int segment_size) {
  float sum = 0.0F;
  for (int start = 0; start < cols; start += segment_size) {
    const int n = min(segment_size, cols - start);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < n; i += norm_threads)
      segment[i] = input_value<input>(x, cols, start + i);
    __syncthreads();
    if (threadIdx.x < 16) {
#pragma unroll 8
      for (int i = static_cast<int>(threadIdx.x); i < n; i += 16)
        sum = __fmaf_rn(segment[i], segment[i], sum);
    }
  }
  if (threadIdx.x < warp_lanes) {
    for (int distance = 8; distance > 0; distance /= 2) sum += __shfl_xor_sync(all_lanes, sum, distance);
    __syncwarp();
    if (threadIdx.x == 0) segment[0] = sum;
  }
  __syncthreads();
  return segment[0];
}

template <norm_input input>
__global__ void __launch_bounds__(norm_threads) normalise_rows(norm_args a) {
  constexpr int segment_size = 4096;  // a multiple of 16: residues go on from segment to segment
  __shared__ float segment[segment_size];
  __shared__ float float_of_warp[norm_threads / warp_lanes];
  __shared__ std::int32_t int_of_warp[norm_threads / warp_lanes];
  const int cols = static_cast<int>(a.cols);
  const int thread = static_cast<int>(threadIdx.x);
  const auto from = a.rows != nullptr ? static_cast<std::size_t>(a.rows[blockIdx.x]) : blockIdx.x;
  const float* const x = a.x + from * a.x_stride;
  float inverse = 0.0F;
  if (a.weight != nullptr) {
    const float sum = sum_of_squares<input>(x, cols, segment, segment_size);
    inverse = 1.0F / sqrtf(sum / static_cast<float>(cols) + a.epsilon);
  }
  const auto normed = [&](int i) {
    const float v = input_value<input>(x, cols, i);
    return a.weight != nullptr ? v * inverse * a.weight[i] : v;
  };

  float greatest = 0.0F;
  std::int32_t broken = 0;
  for (int i = thread; i < cols; i += norm_threads) {
    const float v = normed(i);
    if (a.normed != nullptr) a.normed[blockIdx.x * a.cols + i] = v;
    if (!is_finite(v)) broken = 1;
    greatest = fmaxf(greatest, fabsf(v));
  }
  greatest = combine_block(greatest, float_of_warp, [](float p, float q) { return fmaxf(p, q); });
  broken = combine_block(broken, int_of_warp, [](std::int32_t p, std::int32_t q) { return p | q; });

  // The rule of kernels/matmul.hpp; a row that is not finite becomes zeros with the scale NaN.
  const float range = fmaxf(greatest, 1e-5F);
  const float scale = 127.0F / range;
  std::int32_t sum = 0;
  std::int8_t* const out = a.out.values + blockIdx.x * a.out.stride;
  for (int i = thread; i < static_cast<int>(a.out.stride); i += norm_threads) {
    int q = 0;
    if (i < cols && broken == 0)
      q = static_cast<int>(fminf(fmaxf(rintf(normed(i) * scale), -128.0F), 127.0F));
    out[i] = static_cast<std::int8_t>(q);
    sum += q;
  }
  sum = combine_block(sum, int_of_warp, [](std::int32_t p, std::int32_t q) { return p + q; });
  if (thread != 0) return;
  a.out.scales[blockIdx.x] = broken != 0 ? __uint_as_float(0x7FC00000U) : range / 127.0F;
  a.out.sums[blockIdx.x] = sum;
  if (broken != 0) a.failed[from] = 1;
}

template <class Value>
__global__ void embed_rows(const Value* table, int cols, const std::int32_t* tokens, float* out) {
  const Value* const row = table + static_cast<std::size_t>(tokens[blockIdx.x]) * cols;
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += static_cast<int>(blockDim.x)) {
    float value = 0.0F;
    if constexpr (sizeof(Value) == 2)
      value = float_from_half_bits(row[i]);
    else
      value = row[i];
    out[static_cast<std::size_t>(blockIdx.x) * cols + i] = value;
  }
}

__device__ __forceinline__ std::uint16_t* layer_of_block(const kv_view& kv, int chunk, int position,
                                                         std::size_t layer) {
  const auto block = static_cast<std::size_t>(kv.table[static_cast<std::size_t>(chunk) * kv.table_stride +
                                                       position / static_cast<int>(kv_positions)]);
  return kv.blocks + (block * kv.layers + layer) * kv.layer_halves;
}

/// (a, b) -> (a cos - b sin, b cos + a sin), each with one fused multiply-add.
__global__ void rotate_rows(rope_args a) {
  const int row = static_cast<int>(blockIdx.x);
  const int half = static_cast<int>(a.qkv.head_dim / 2);
  const int dim = static_cast<int>(a.qkv.head_dim);
  const int heads = static_cast<int>(a.qkv.heads);
  const int kv_heads = static_cast<int>(a.qkv.kv_heads);
  const int position = a.positions[row];
  const int slot = position % static_cast<int>(kv_positions);
  float* const q = a.qkv.rows + static_cast<std::size_t>(row) * a.qkv.stride;
  std::uint16_t* const kv = layer_of_block(a.kv, a.chunks[row], position, a.layer);
  // Queries and keys lie side by side: heads + kv_heads heads.
  for (int i = static_cast<int>(threadIdx.x); i < (heads + kv_heads) * half;
       i += static_cast<int>(blockDim.x)) {
    const int head = i / half;
    const int pair = i % half;
    const int first = a.kind == rope_kind::neox ? pair : 2 * pair;
    const int second = a.kind == rope_kind::neox ? pair + half : 2 * pair + 1;
    const float c = a.cos[static_cast<std::size_t>(position) * half + pair];
    const float s = a.sin[static_cast<std::size_t>(position) * half + pair];
    const float x = q[head * dim + first];
    const float y = q[head * dim + second];
    const float rotated_x = __fmaf_rn(-y, s, x * c);
    const float rotated_y = __fmaf_rn(x, s, y * c);
    q[head * dim + first] = rotated_x;
    q[head * dim + second] = rotated_y;
    if (head < heads) continue;
    kv[key_offset(head - heads, first, slot, dim)] = bfloat16_bits_from_float(rotated_x);
    kv[key_offset(head - heads, second, slot, dim)] = bfloat16_bits_from_float(rotated_y);
  }
  const float* const v = q + (heads + kv_heads) * dim;
  for (int i = static_cast<int>(threadIdx.x); i < kv_heads * dim; i += static_cast<int>(blockDim.x))
    kv[value_offset(i / dim, i % dim, slot, kv_heads, dim)] = bfloat16_bits_from_float(v[i]);
}

}  // namespace

void embed(const void* table, bool f16, std::size_t cols, const std::int32_t* tokens, std::size_t count,
           float* out, void* stream) {
  const dim3 grid(static_cast<unsigned>(count));
  if (f16)
    launch(embed_rows<std::uint16_t>, grid, dim3(256), stream, static_cast<const std::uint16_t*>(table),
           static_cast<int>(cols), tokens, out);
  else
    launch(embed_rows<float>, grid, dim3(256), stream, static_cast<const float*>(table),
           static_cast<int>(cols), tokens, out);
}

void normalise(const norm_args& args, std::size_t count, void* stream) {
  const dim3 grid(static_cast<unsigned>(count));
  switch (args.input) {
    case norm_input::plain:
      return launch(normalise_rows<norm_input::plain>, grid, dim3(norm_threads), stream, args);
    case norm_input::squared_relu_gate:
      return launch(normalise_rows<norm_input::squared_relu_gate>, grid, dim3(norm_threads), stream, args);
    case norm_input::silu_gate:
      return launch(normalise_rows<norm_input::silu_gate>, grid, dim3(norm_threads), stream, args);
  }
}

void rotate_and_store(const rope_args& args, std::size_t rows, void* stream) {
  launch(rotate_rows, dim3(static_cast<unsigned>(rows)), dim3(256), stream, args);
}

}  // namespace bitnet::kernels::cuda
