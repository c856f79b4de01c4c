#include "kernels/cuda/layout.hpp"
#include "kernels/cuda/operators.hpp"
#include "kernels/cuda/ptx.cuh"

#include <algorithm>

namespace bitnet::kernels::cuda {

namespace {

constexpr int warps_per_block = 4;
constexpr int threads_per_block = warps_per_block * static_cast<int>(warp_lanes);

/// One product, as the kernels take it.
struct product {
  const uint4* tiles;
  const float* row_scales;
  int rows;
  int octets;       ///< padded rows / 8
  int tiles_a_row;  ///< padded columns / tile columns
  const std::int8_t* x;
  const float* x_scales;
  const std::int32_t* x_sums;
  int x_stride;
  int tokens;
  float* y;
  int y_stride;
  bool add;
};

// A format says how the 16 bytes that a lane holds of a tile become operands. A "chunk" is 64 columns, of
// which a lane has 16: four operands of four columns, for as many consecutive activations.

struct ternary_tiles {
  static constexpr int cols = static_cast<int>(ternary_tile_cols);
  static constexpr int chunks = 4;
  static constexpr bool stores_codes = true;  ///< weight + 1: the sum of the activations is to be subtracted
  static __device__ __forceinline__ std::uint32_t word(const uint4& w, int chunk) {
    return chunk == 0 ? w.x : chunk == 1 ? w.y : chunk == 2 ? w.z : w.w;
  }
  static __device__ __forceinline__ std::uint32_t operand(const uint4& w, int chunk, int quarter) {
    return word(w, chunk) >> (2 * quarter) & 0x03030303U;
  }
};

struct int8_tiles {
  static constexpr int cols = static_cast<int>(int8_tile_cols);
  static constexpr int chunks = 1;
  static constexpr bool stores_codes = false;
  static __device__ __forceinline__ std::uint32_t operand(const uint4& w, int, int quarter) {
    return quarter == 0 ? w.x : quarter == 1 ? w.y : quarter == 2 ? w.z : w.w;
  }
};

__device__ __forceinline__ std::uint32_t quarter_of(const int4& v, int quarter) {
  return static_cast<std::uint32_t>(quarter == 0 ? v.x : quarter == 1 ? v.y : quarter == 2 ? v.z : v.w);
}

/// 16 activations of a token, from column `col`; zeros for tokens that are not there.
__device__ __forceinline__ int4 load_activations(const product& p, int token, int col) {
  if (token >= p.tokens) return make_int4(0, 0, 0, 0);
  return __ldg(reinterpret_cast<const int4*>(p.x + static_cast<std::size_t>(token) * p.x_stride + col));
}

template <class Format>
__device__ __forceinline__ void write_result(const product& p, int row, int token, std::int32_t dot) {
  if (row >= p.rows || token >= p.tokens) return;
  if (Format::stores_codes) dot -= p.x_sums[token];
  const float value = static_cast<float>(dot) * (p.x_scales[token] * p.row_scales[row]);
  float& y = p.y[static_cast<std::size_t>(token) * p.y_stride + row];
  y = p.add ? y + value : value;
}

/// One token. A block takes 8 rows, its warps every fourth tile of them.
template <class Format>
__global__ void __launch_bounds__(threads_per_block) multiply_vector(product p) {
  __shared__ std::int32_t partial[warps_per_block][tile_rows];
  const int warp = static_cast<int>(threadIdx.x / warp_lanes);
  const int lane = static_cast<int>(threadIdx.x % warp_lanes);
  const uint4* const tiles =
      p.tiles + static_cast<std::size_t>(blockIdx.x) * p.tiles_a_row * warp_lanes + lane;
  std::int32_t sum = 0;
#pragma unroll 4
  for (int t = warp; t < p.tiles_a_row; t += warps_per_block) {
    const uint4 w = load_streaming(tiles + static_cast<std::size_t>(t) * warp_lanes);
#pragma unroll
    for (int chunk = 0; chunk < Format::chunks; ++chunk) {
      const int4 x = load_activations(p, 0, t * Format::cols + chunk * 64 + lane % 4 * 16);
#pragma unroll
      for (int quarter = 0; quarter < 4; ++quarter)
        sum = __dp4a(static_cast<int>(Format::operand(w, chunk, quarter)),
                     static_cast<int>(quarter_of(x, quarter)), sum);
    }
  }
  sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
  sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
  if (lane % 4 == 0) partial[warp][lane / 4] = sum;
  __syncthreads();
  if (threadIdx.x >= tile_rows) return;
  std::int32_t dot = 0;
  for (int i = 0; i < warps_per_block; ++i) dot += partial[i][threadIdx.x];
  write_result<Format>(p, static_cast<int>(blockIdx.x * tile_rows + threadIdx.x), 0, dot);
}

/// The first operand of two octets of rows for half a chunk.
template <class Format>
__device__ __forceinline__ void load_fragment(const uint4& upper, const uint4& lower, int chunk, int half,
                                              std::uint32_t (&a)[4]) {
  a[0] = Format::operand(upper, chunk, 2 * half);
  a[1] = Format::operand(lower, chunk, 2 * half);
  a[2] = Format::operand(upper, chunk, 2 * half + 1);
  a[3] = Format::operand(lower, chunk, 2 * half + 1);
}

/// Up to 8 * groups tokens. A block takes 16 rows, its warps every fourth tile of them: many blocks, as
/// decoding wants the bandwidth of the whole device.
template <class Format, int groups>
__global__ void __launch_bounds__(threads_per_block) multiply_narrow(product p) {
  __shared__ std::int32_t partial[warps_per_block][groups * 8][16];
  const int warp = static_cast<int>(threadIdx.x / warp_lanes);
  const int lane = static_cast<int>(threadIdx.x % warp_lanes);
  const std::size_t octet_tiles = static_cast<std::size_t>(p.tiles_a_row) * warp_lanes;
  const uint4* const upper = p.tiles + 2 * blockIdx.x * octet_tiles + lane;
  const uint4* const lower = upper + octet_tiles;
  std::int32_t sums[groups][4] = {};
  for (int t = warp; t < p.tiles_a_row; t += warps_per_block) {
    const uint4 w0 = load_streaming(upper + static_cast<std::size_t>(t) * warp_lanes);
    const uint4 w1 = load_streaming(lower + static_cast<std::size_t>(t) * warp_lanes);
#pragma unroll
    for (int chunk = 0; chunk < Format::chunks; ++chunk) {
      std::uint32_t a[2][4];
      load_fragment<Format>(w0, w1, chunk, 0, a[0]);
      load_fragment<Format>(w0, w1, chunk, 1, a[1]);
#pragma unroll
      for (int group = 0; group < groups; ++group) {
        const int4 x =
            load_activations(p, group * 8 + lane / 4, t * Format::cols + chunk * 64 + lane % 4 * 16);
        mma_int8(sums[group], a[0], quarter_of(x, 0), quarter_of(x, 1));
        mma_int8(sums[group], a[1], quarter_of(x, 2), quarter_of(x, 3));
      }
    }
  }
#pragma unroll
  for (int group = 0; group < groups; ++group) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      partial[warp][group * 8 + lane % 4 * 2 + i % 2][lane / 4 + i / 2 * 8] = sums[group][i];
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < groups * 8 * 16; e += threads_per_block) {
    std::int32_t dot = 0;
    for (int i = 0; i < warps_per_block; ++i) dot += partial[i][e / 16][e % 16];
    write_result<Format>(p, static_cast<int>(blockIdx.x * 16) + e % 16, e / 16, dot);
  }
}

constexpr int wide_tokens = 64;
constexpr int wide_rows = 128;
constexpr int stage_cols = 256;
/// 64 bytes more than the columns: two rows of a quarter warp then lie in different banks.
constexpr int stage_stride = stage_cols + 64;

__device__ __forceinline__ void stage_activations(const product& p, int first_token, int stage,
                                                  std::int8_t* shared) {
  for (int piece = static_cast<int>(threadIdx.x); piece < wide_tokens * stage_cols / 16;
       piece += threads_per_block) {
    const int token = piece / (stage_cols / 16);
    const int col = piece % (stage_cols / 16) * 16;
    // Rows past the end repeat the last one; their results are not written.
    const int from = min(first_token + token, p.tokens - 1);
    copy_async(shared + token * stage_stride + col,
               p.x + static_cast<std::size_t>(from) * p.x_stride + stage * stage_cols + col);
  }
  commit_copies();
}

/// Many tokens. A block takes 128 rows by 64 tokens, a warp 32 rows; activations come through shared memory,
/// 256 columns at a time and one stage ahead, weights straight to registers.
template <class Format>
__global__ void __launch_bounds__(threads_per_block) multiply_wide(product p) {
  __shared__ __align__(16) std::int8_t staged[2][wide_tokens * stage_stride];
  constexpr int tiles_a_stage = stage_cols / Format::cols;
  const int warp = static_cast<int>(threadIdx.x / warp_lanes);
  const int lane = static_cast<int>(threadIdx.x % warp_lanes);
  const int first_token = static_cast<int>(blockIdx.y) * wide_tokens;
  const int first_octet = static_cast<int>(blockIdx.x) * (wide_rows / 8) + warp * 4;
  const uint4* tiles[4];
  for (int i = 0; i < 4; ++i) {
    // Past the end: the last octet again; its results are not written.
    const int octet = min(first_octet + i, p.octets - 1);
    tiles[i] = p.tiles + static_cast<std::size_t>(octet) * p.tiles_a_row * warp_lanes + lane;
  }
  std::int32_t sums[2][8][4] = {};
  const int stages = p.tiles_a_row / tiles_a_stage;
  stage_activations(p, first_token, 0, staged[0]);
  for (int stage = 0; stage < stages; ++stage) {
    if (stage + 1 < stages) {
      stage_activations(p, first_token, stage + 1, staged[(stage + 1) % 2]);
      wait_for_copies<1>();
    } else {
      wait_for_copies<0>();
    }
    __syncthreads();
    uint4 w[4];
#pragma unroll
    for (int chunk = 0; chunk < 4; ++chunk) {
      if (chunk % Format::chunks == 0) {
        const int tile = stage * tiles_a_stage + chunk / Format::chunks;
#pragma unroll
        for (int i = 0; i < 4; ++i) w[i] = __ldg(tiles[i] + static_cast<std::size_t>(tile) * warp_lanes);
      }
      std::uint32_t a[2][2][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        load_fragment<Format>(w[0], w[1], chunk % Format::chunks, half, a[0][half]);
        load_fragment<Format>(w[2], w[3], chunk % Format::chunks, half, a[1][half]);
      }
#pragma unroll
      for (int group = 0; group < 8; ++group) {
        const auto* const from =
            staged[stage % 2] + (group * 8 + lane / 4) * stage_stride + chunk * 64 + lane % 4 * 16;
        const int4 x = *reinterpret_cast<const int4*>(from);
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          mma_int8(sums[pair][group], a[pair][0], quarter_of(x, 0), quarter_of(x, 1));
          mma_int8(sums[pair][group], a[pair][1], quarter_of(x, 2), quarter_of(x, 3));
        }
      }
    }
    __syncthreads();  // before the stage after next overwrites what was read
  }
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
#pragma unroll
    for (int group = 0; group < 8; ++group) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        write_result<Format>(p, (first_octet + pair * 2 + i / 2) * 8 + lane / 4,
                             first_token + group * 8 + lane % 4 * 2 + i % 2, sums[pair][group][i]);
    }
  }
}

template <class Format>
void multiply_as(const product& p, void* stream) {
  const auto blocks_of = [](int n, int size) { return static_cast<unsigned>((n + size - 1) / size); };
  const dim3 threads(threads_per_block);
  const dim3 pairs(static_cast<unsigned>(p.octets / 2));
  if (p.tokens == 1) {
    launch(multiply_vector<Format>, dim3(blocks_of(p.rows, 8)), threads, stream, p);
  } else if (p.tokens <= 8) {
    launch(multiply_narrow<Format, 1>, pairs, threads, stream, p);
  } else if (p.tokens <= 16) {
    launch(multiply_narrow<Format, 2>, pairs, threads, stream, p);
  } else if (p.tokens <= 32) {
    launch(multiply_narrow<Format, 4>, pairs, threads, stream, p);
  } else if (p.tokens <= 64) {
    launch(multiply_narrow<Format, 8>, pairs, threads, stream, p);
  } else {
    const dim3 grid(blocks_of(p.rows, wide_rows), blocks_of(p.tokens, wide_tokens));
    launch(multiply_wide<Format>, grid, threads, stream, p);
  }
}

/// 16 lanes a row: lane i sums the columns that leave i modulo 16, as kernels/reduction.hpp has it.
__global__ void __launch_bounds__(threads_per_block)
    multiply_half(const std::uint16_t* w, int rows, int cols, const float* x, int x_stride, float* y,
                  int y_stride) {
  const int row = static_cast<int>(blockIdx.x * (threads_per_block / 16) + threadIdx.x / 16);
  const int lane = static_cast<int>(threadIdx.x % 16);
  const auto* const weights = w + static_cast<std::size_t>(min(row, rows - 1)) * cols;
  const auto* const values = x + static_cast<std::size_t>(blockIdx.y) * x_stride;
  float sum = 0.0F;
#pragma unroll 8
  for (int k = lane; k < cols; k += 16) sum = __fmaf_rn(float_from_half_bits(weights[k]), values[k], sum);
  for (int distance = 8; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, distance);
  if (lane == 0 && row < rows) y[static_cast<std::size_t>(blockIdx.y) * y_stride + row] = sum;
}

}  // namespace

void multiply(const weight_view& w, weight_format format, const activation_view& x, std::size_t tokens,
              float* y, std::size_t y_stride, product_output output, void* stream) {
  const bool ternary = format == weight_format::ternary;
  const product p{
      .tiles = reinterpret_cast<const uint4*>(w.tiles),
      .row_scales = w.row_scales,
      .rows = static_cast<int>(w.rows),
      .octets = static_cast<int>(w.padded_rows / tile_rows),
      .tiles_a_row = static_cast<int>(w.padded_cols / (ternary ? ternary_tile_cols : int8_tile_cols)),
      .x = x.values,
      .x_scales = x.scales,
      .x_sums = x.sums,
      .x_stride = static_cast<int>(x.stride),
      .tokens = static_cast<int>(tokens),
      .y = y,
      .y_stride = static_cast<int>(y_stride),
      .add = output == product_output::add};
  if (ternary)
    multiply_as<ternary_tiles>(p, stream);
  else
    multiply_as<int8_tiles>(p, stream);
}

void multiply_f16(const std::uint16_t* w, std::size_t rows, std::size_t cols, const float* x,
                  std::size_t x_stride, std::size_t tokens, float* y, std::size_t y_stride, void* stream) {
  constexpr std::size_t rows_per_block = threads_per_block / 16;
  const dim3 grid(static_cast<unsigned>((rows + rows_per_block - 1) / rows_per_block),
                  static_cast<unsigned>(tokens));
  launch(multiply_half, grid, dim3(threads_per_block), stream, w, static_cast<int>(rows),
         static_cast<int>(cols), x, static_cast<int>(x_stride), y, static_cast<int>(y_stride));
}

}  // namespace bitnet::kernels::cuda
