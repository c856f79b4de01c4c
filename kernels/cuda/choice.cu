// The best logits of a row: the greatest alone, or the greatest 64 in order.
//
// Logits become 64-bit keys whose order is the order of choice: the greater logit, of equals the smaller
// token. All keys of a row differ, so that whatever selects by them has one result.

#include "kernels/cuda/layout.hpp"
#include "kernels/cuda/operators.hpp"
#include "kernels/cuda/ptx.cuh"

namespace bitnet::kernels::cuda {

namespace {

constexpr int threads = 256;
constexpr std::uint32_t all_lanes = 0xFFFFFFFFU;
constexpr std::uint32_t infinity = 0x7F800000U;

using key = std::uint64_t;
constexpr key nothing = 0;                 ///< below the key of every logit
constexpr key broken = ~std::uint64_t{0};  ///< of NaN and positive infinity: above all others

__device__ __forceinline__ key key_of(float logit, int token) {
  auto bits = __float_as_uint(logit);
  if ((bits & 0x7FFFFFFFU) > infinity || bits == infinity) return broken;
  if (bits == 0x80000000U) bits = 0;  // the zeros are equal
  const std::uint32_t ordered = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return static_cast<key>(ordered) << 32 | ~static_cast<std::uint32_t>(token);
}

/// No choice (token -1) where the best key says that the row is broken, or holds nothing finite.
__device__ __forceinline__ choice choice_of(key k) {
  const auto ordered = static_cast<std::uint32_t>(k >> 32);
  const std::uint32_t bits = (ordered & 0x80000000U) != 0 ? ordered & 0x7FFFFFFFU : ~ordered;
  if (k == broken || k == nothing) return {-1, 0.0F};
  return {static_cast<std::int32_t>(~static_cast<std::uint32_t>(k)), __uint_as_float(bits)};
}
__device__ __forceinline__ choice best_choice_of(key k) {
  const choice best = choice_of(k);
  return __float_as_uint(best.value) == (0x80000000U | infinity) ? choice{-1, 0.0F} : best;
}

__device__ __forceinline__ key of_lane(key k, int distance) {
  const auto low = __shfl_xor_sync(all_lanes, static_cast<std::uint32_t>(k), distance);
  const auto high = __shfl_xor_sync(all_lanes, static_cast<std::uint32_t>(k >> 32), distance);
  return static_cast<key>(high) << 32 | low;
}

__global__ void __launch_bounds__(threads)
    choose_rows(const float* logits, std::size_t stride, int vocabulary, choice* choices) {
  __shared__ key best_of_warp[threads / warp_lanes];
  const float* const row = logits + blockIdx.x * stride;
  key best = nothing;
  for (int i = static_cast<int>(threadIdx.x); i < vocabulary; i += threads)
    best = max(best, key_of(row[i], i));
  for (int distance = 16; distance > 0; distance /= 2) best = max(best, of_lane(best, distance));
  if (threadIdx.x % warp_lanes == 0) best_of_warp[threadIdx.x / warp_lanes] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (unsigned i = 1; i < threads / warp_lanes; ++i) best = max(best, best_of_warp[i]);
  choices[blockIdx.x] = best_choice_of(best);
}

// Selection of the greatest 64: a slice of the row is cut into runs of 64, which are sorted, and of two runs
// the greater half goes on until one is left; another launch does so with the runs that the slices left.

constexpr int run = static_cast<int>(choices_a_row);
constexpr int slice = static_cast<int>(selection_slice);
constexpr int runs_a_slice = slice / run;

/// A step of a bitonic network (Batcher 1968) over the first `count` keys: compares keys `distance` apart. In
/// runs of `ordered` keys, falling and rising ones alternate within a run of 64, whose first falls.
__device__ __forceinline__ void compare_all(key* keys, int count, int distance, int ordered) {
  for (int pair = static_cast<int>(threadIdx.x); pair < count / 2; pair += threads) {
    const int first = pair / distance * 2 * distance + pair % distance;
    const int second = first + distance;
    const bool falling = (first % run & ordered) == 0;
    const key a = keys[first];
    const key b = keys[second];
    if ((a < b) == falling) {
      keys[first] = b;
      keys[second] = a;
    }
  }
  __syncthreads();
}

/// keys: runs_a_slice falling runs, of which the first becomes the greatest 64 of all.
__device__ void merge_runs(key* keys) {
  for (int half = runs_a_slice / 2; half > 0; half /= 2) {
    for (int i = static_cast<int>(threadIdx.x); i < half * run; i += threads) {
      // A falling run against a rising one: the maxima are the greater half, first rising and then falling or
      // the other way round, which the steps below put in order.
      const int other = (half + i / run) * run + run - 1 - i % run;
      keys[i] = max(keys[i], keys[other]);
    }
    __syncthreads();
    for (int distance = run / 2; distance > 0; distance /= 2) compare_all(keys, half * run, distance, run);
  }
}

/// best[row][slice][64] = the greatest keys of a slice, in order.
__global__ void __launch_bounds__(threads)
    select_in_slices(const float* logits, std::size_t stride, int vocabulary, key* best) {
  __shared__ key keys[slice];
  const float* const row = logits + blockIdx.y * stride;
  const int start = static_cast<int>(blockIdx.x) * slice;
  for (int i = static_cast<int>(threadIdx.x); i < slice; i += threads)
    keys[i] = start + i < vocabulary ? key_of(row[start + i], start + i) : nothing;
  __syncthreads();
  for (int ordered = 2; ordered <= run; ordered *= 2)
    for (int distance = ordered / 2; distance > 0; distance /= 2) compare_all(keys, slice, distance, ordered);
  merge_runs(keys);
  key* const out = best + (static_cast<std::size_t>(blockIdx.y) * gridDim.x + blockIdx.x) * run;
  for (int i = static_cast<int>(threadIdx.x); i < run; i += threads) out[i] = keys[i];
}

/// choices[row][64] = the best of what the slices left.
__global__ void __launch_bounds__(threads) select_of_slices(const key* best, int slices, choice* choices) {
  __shared__ key keys[slice];
  const key* const row = best + static_cast<std::size_t>(blockIdx.x) * slices * run;
  int taken = 0;  // the first run stays, but for the first time
  do {
    const int kept = taken == 0 ? 0 : 1;
    const int fresh = min(runs_a_slice - kept, slices - taken);
    for (int i = static_cast<int>(threadIdx.x) + kept * run; i < slice; i += threads)
      keys[i] = i < (kept + fresh) * run ? row[taken * run + i - kept * run] : nothing;
    __syncthreads();
    merge_runs(keys);
    taken += fresh;
  } while (taken < slices);
  for (int i = static_cast<int>(threadIdx.x); i < run; i += threads)
    choices[static_cast<std::size_t>(blockIdx.x) * run + i] =
        i == 0 ? best_choice_of(keys[0]) : choice_of(keys[i]);
}

}  // namespace

void choose_greatest(const float* logits, std::size_t stride, std::size_t vocabulary, std::size_t count,
                     choice* choices, void* stream) {
  launch(choose_rows, dim3(static_cast<unsigned>(count)), dim3(threads), stream, logits, stride,
         static_cast<int>(vocabulary), choices);
}

void choose_best(const float* logits, std::size_t stride, std::size_t vocabulary, std::size_t count,
                 std::uint64_t* scratch, choice* choices, void* stream) {
  const auto slices = static_cast<unsigned>(selection_slices(vocabulary));
  launch(select_in_slices, dim3(slices, static_cast<unsigned>(count)), dim3(threads), stream, logits, stride,
         static_cast<int>(vocabulary), scratch);
  launch(select_of_slices, dim3(static_cast<unsigned>(count)), dim3(threads), stream,
         static_cast<const key*>(scratch), static_cast<int>(slices), choices);
}

}  // namespace bitnet::kernels::cuda
