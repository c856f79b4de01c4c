// How fast the device's kernels are, beside ceilings measured on the same device in the same run. Prints
// JSON; run it through scripts/gpu-check. Weights are random bytes: the tests are about right results, this
// is about time.
//
// usage: cuda_bench [device]

#include "kernels/cuda/layout.hpp"
#include "kernels/cuda/operators.hpp"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/runtime.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace {

using namespace bitnet::kernels::cuda;

void check(cudaError_t status) {
  if (status != cudaSuccess) throw device_error(classify(status), cudaGetErrorString(status));
}

/// Reads everything once, 16 bytes a thread at a time.
__global__ void read_all(const uint4* from, std::size_t count, std::uint32_t* out) {
  std::uint32_t sum = 0;
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const uint4 v = load_streaming(from + i);
    sum += v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x12345678U) *out = sum;  // never, but the compiler cannot know
}

constexpr int products_a_loop = 8;
constexpr int loops = 4096;

/// Tensor-core products from registers alone.
__global__ void multiply_registers(std::int32_t* out) {
  std::int32_t sums[products_a_loop][4] = {};
  const std::uint32_t a[4] = {threadIdx.x, threadIdx.x + 1, threadIdx.x + 2, threadIdx.x + 3};
  for (int i = 0; i < loops; ++i) {
#pragma unroll
    for (int j = 0; j < products_a_loop; ++j)
      mma_int8(sums[j], a, threadIdx.x, static_cast<std::uint32_t>(i));
  }
  std::int32_t sum = 0;
  for (const auto& s : sums) sum += s[0] + s[1] + s[2] + s[3];
  if (sum == 0x12345678) *out = sum;
}

/// Median seconds of one call.
double seconds(stream& on, const std::function<void(int)>& run, int calls = 20) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  const auto handle = static_cast<cudaStream_t>(on.handle());
  for (int i = 0; i < 3; ++i) run(i);
  std::vector<float> rounds;
  for (int round = 0; round < 5; ++round) {
    check(cudaEventRecord(begin, handle));
    for (int i = 0; i < calls; ++i) run(i);
    check(cudaEventRecord(end, handle));
    check(cudaEventSynchronize(end));
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end));
    rounds.push_back(ms / static_cast<float>(calls));
  }
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  std::sort(rounds.begin(), rounds.end());
  return 1e-3 * rounds[rounds.size() / 2];
}

struct ceilings {
  double bytes_per_second;
  double macs_per_second;
};

ceilings measure_ceilings(stream& on, int multiprocessors) {
  constexpr std::size_t bytes = std::size_t{1} << 30;
  const device_buffer memory(bytes);
  const device_buffer out(256);
  const double read = seconds(
      on,
      [&](int) {
        launch(read_all, dim3(static_cast<unsigned>(multiprocessors) * 16), dim3(256), on.handle(),
               memory.as<const uint4>(), bytes / 16, out.as<std::uint32_t>());
      },
      5);
  const unsigned blocks = static_cast<unsigned>(multiprocessors) * 4;
  const double multiply = seconds(
      on,
      [&](int) { launch(multiply_registers, dim3(blocks), dim3(256), on.handle(), out.as<std::int32_t>()); },
      5);
  const double macs = static_cast<double>(blocks) * (256 / 32) * loops * products_a_loop * 16 * 8 * 32;
  return {static_cast<double>(bytes) / read, macs / multiply};
}

struct shape {
  const char* name;
  std::size_t rows, cols;
  weight_format format;
};

/// A product of so many tokens, its weights taken in turn from copies that together exceed any cache.
void measure_product(stream& on, const shape& s, std::size_t tokens, const ceilings& most, bool& first) {
  const std::size_t padded_rows = round_up(s.rows, row_padding);
  const std::size_t padded_cols = round_up(s.cols, col_padding);
  const std::size_t bytes = padded_rows * padded_cols / (s.format == weight_format::ternary ? 4 : 1);
  const std::size_t copies = std::max<std::size_t>(1, (std::size_t{512} << 20) / bytes);
  const device_buffer weights(bytes * copies);
  const device_buffer scales(padded_rows * sizeof(float));
  const device_buffer x(tokens * padded_cols);
  const device_buffer x_scales(tokens * sizeof(float));
  const device_buffer sums(tokens * sizeof(std::int32_t));
  const device_buffer y(tokens * s.rows * sizeof(float));
  const activation_view a{x.as<std::int8_t>(), x_scales.as<float>(), sums.as<std::int32_t>(), padded_cols};
  const double t = seconds(on, [&](int i) {
    const weight_view w{weights.as<std::uint8_t>() + static_cast<std::size_t>(i) % copies * bytes,
                        scales.as<float>(), s.rows, padded_rows, padded_cols};
    multiply(w, s.format, a, tokens, y.as<float>(), s.rows, product_output::store, on.handle());
  });
  const double macs = static_cast<double>(s.rows) * static_cast<double>(s.cols) * static_cast<double>(tokens);
  std::printf(
      "%s\n  {\"kernel\": \"%s %zux%zu\", \"tokens\": %zu, \"microseconds\": %.2f, \"gb_per_second\": %.1f, "
      "\"bandwidth_share\": %.3f, \"tops\": %.2f, \"tops_share\": %.3f}",
      first ? "" : ",", s.name, s.rows, s.cols, tokens, t * 1e6, static_cast<double>(bytes) / t * 1e-9,
      static_cast<double>(bytes) / t / most.bytes_per_second, 2 * macs / t * 1e-12,
      macs / t / most.macs_per_second);
  first = false;
}

void run(int index) {
  use_device(index);
  const auto found = list_devices();
  const auto& device = found.devices.at(static_cast<std::size_t>(index));
  stream on;
  const auto most = measure_ceilings(on, device.multiprocessors);
  std::printf(
      "{\"device\": \"%s\", \"compute\": \"%d.%d\", \"runtime\": \"%s\",\n \"read_gb_per_second\": %.1f, "
      "\"int8_tops\": %.1f,\n \"products\": [",
      device.name.c_str(), device.compute_major, device.compute_minor, runtime_version().c_str(),
      most.bytes_per_second * 1e-9, 2 * most.macs_per_second * 1e-12);
  // BitNet b1.58 2B-4T.
  const shape shapes[] = {{"qkv", 3840, 2560, weight_format::ternary},
                          {"attn_output", 2560, 2560, weight_format::ternary},
                          {"gate_up", 13824, 2560, weight_format::ternary},
                          {"down", 2560, 6912, weight_format::ternary},
                          {"head", 128256, 2560, weight_format::int8}};
  bool first = true;
  for (const auto& s : shapes)
    for (const std::size_t tokens : {1, 8, 64, 512})
      if (s.format == weight_format::ternary || tokens <= 64) measure_product(on, s, tokens, most, first);
  std::printf("\n]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? std::atoi(argv[1]) : 0);
    return 0;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "cuda_bench: %s\n", problem.what());
    return 1;
  }
}
