#include "kernels/matmul.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

// The matrix products on the shapes of BitNet b1.58 2B-4T, on one thread, next to the machine's limits.
// Counters: GB/s of packed weights, GMAC/s, and the share of the limit that binds: `of_read` of a plain sum
// over as many bytes, measured once in this process. Memory is touched in one long stream, larger than
// the caches.

namespace {

using namespace bitnet::kernels;

constexpr std::size_t stream_bytes = std::size_t{192} << 20;

/// Seconds a byte takes when 64-bit words are summed: the tenth percentile of half-megabyte pieces, so that
/// other work on the machine does not count.
double seconds_per_read_byte() {
  static const double result = [] {
    weight_buffer buffer(stream_bytes);
    std::memset(buffer.data(), 1, buffer.size());
    const auto* const words = reinterpret_cast<const std::uint64_t*>(buffer.data());
    constexpr std::size_t piece_words = std::size_t{1} << 16;
    std::vector<double> seconds;
    for (std::size_t first = 0; first < buffer.size() / sizeof(std::uint64_t); first += piece_words) {
      const auto start = std::chrono::steady_clock::now();
      std::uint64_t sum[4] = {};
      for (std::size_t i = first; i < first + piece_words; i += 8)
        for (std::size_t j = 0; j < 8; ++j) sum[j % 4] += words[i + j];
      benchmark::DoNotOptimize(sum);
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 10] / static_cast<double>(piece_words * sizeof(std::uint64_t));
  }();
  return result;
}

void fill_activations(const matmul_kernels& table, quantized_activations& x, std::size_t rows,
                      std::size_t cols) {
  x.resize(rows, cols, table.layout(rows));
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> row(cols);
  for (std::size_t m = 0; m < rows; ++m) {
    for (float& v : row) v = normal(random);
    table.quantize_row(row.data(), x, m);
  }
}

void report(benchmark::State& state, double bytes, double macs) {
  const auto passes = static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(passes * bytes * 1e-9, benchmark::Counter::kIsRate);
  state.counters["GMAC/s"] = benchmark::Counter(passes * macs * 1e-9, benchmark::Counter::kIsRate);
  state.counters["of_read"] =
      benchmark::Counter(passes * bytes * seconds_per_read_byte(), benchmark::Counter::kIsRate);
}

/// As many matrices of one shape as exceed the caches, walked in turn.
void ternary(benchmark::State& state, const matmul_kernels& table, std::size_t rows, std::size_t cols) {
  const auto tokens = static_cast<std::size_t>(state.range(0));
  std::vector<ternary_matrix> matrices;
  const std::size_t bytes = rows * cols / 4;
  for (std::size_t n = 0; n < (tokens > 8 ? 1 : stream_bytes / bytes); ++n)
    matrices.emplace_back(rows, cols, 1.0F);
  quantized_activations x;
  fill_activations(table, x, tokens, cols);
  std::vector<float> y(tokens * rows);
  std::size_t next = 0;
  for ([[maybe_unused]] auto _ : state) {
    const ternary_matrix& w = matrices[next++ % matrices.size()];
    table.ternary_matmul(w, x, y.data(), rows, {0, w.block_count()});
    benchmark::ClobberMemory();
  }
  report(state, static_cast<double>(bytes), static_cast<double>(rows * cols * tokens));
}

/// A quarter of the vocabulary of 128256 rows, which is far larger than the caches as well.
void head_int8(benchmark::State& state, const matmul_kernels& table) {
  constexpr std::size_t rows = 32064;
  constexpr std::size_t cols = 2560;
  const auto tokens = static_cast<std::size_t>(state.range(0));
  const head_matrix w(rows, cols, head_matrix::format::int8);
  quantized_activations x;
  fill_activations(table, x, tokens, cols);
  std::vector<float> y(tokens * rows);
  for ([[maybe_unused]] auto _ : state) {
    table.head_int8(w, x, y.data(), rows, {0, w.block_count()});
    benchmark::ClobberMemory();
  }
  report(state, static_cast<double>(rows * cols), static_cast<double>(rows * cols * tokens));
}

void head_f16(benchmark::State& state, const matmul_kernels& table) {
  constexpr std::size_t rows = 32064;
  constexpr std::size_t cols = 2560;
  const auto tokens = static_cast<std::size_t>(state.range(0));
  head_matrix w(rows, cols, head_matrix::format::f16);
  // Pages that were never written would all be one page of zeros in the cache.
  const std::vector<float> block(head_matrix::block_rows() * cols, 0.25F);
  for (std::size_t b = 0; b < w.block_count(); ++b) w.pack_block(b, block.data());
  const std::vector<float> x(tokens * cols, 0.5F);
  std::vector<float> y(tokens * rows);
  for ([[maybe_unused]] auto _ : state) {
    table.head_f16(w, x.data(), cols, tokens, y.data(), rows, {0, w.block_count()});
    benchmark::ClobberMemory();
  }
  report(state, static_cast<double>(2 * rows * cols), static_cast<double>(rows * cols * tokens));
}

void quantize(benchmark::State& state, const matmul_kernels& table) {
  const auto cols = static_cast<std::size_t>(state.range(0));
  quantized_activations x;
  x.resize(1, cols);
  const std::vector<float> row(cols, 0.25F);
  for ([[maybe_unused]] auto _ : state) {
    table.quantize_row(row.data(), x, 0);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

}  // namespace

int main(int argc, char** argv) {
  for (const instruction_set isa : supported_instruction_sets()) {
    if (isa == instruction_set::scalar) continue;
    const matmul_kernels& table = matmul_kernels_for(isa);
    const std::string name(to_string(isa));
    benchmark::RegisterBenchmark((name + "/gate_up_6912x2560").c_str(),
                                 [&table](benchmark::State& s) { ternary(s, table, 6912, 2560); })
        ->Arg(1)
        ->Arg(2)
        ->Arg(4)
        ->Arg(8)
        ->Arg(16)
        ->Arg(64)
        ->Arg(128)
        ->Arg(512);
    benchmark::RegisterBenchmark((name + "/down_2560x6912").c_str(),
                                 [&table](benchmark::State& s) { ternary(s, table, 2560, 6912); })
        ->Arg(1)
        ->Arg(8)
        ->Arg(128)
        ->Arg(512);
    benchmark::RegisterBenchmark((name + "/head_int8_32064x2560").c_str(),
                                 [&table](benchmark::State& s) { head_int8(s, table); })
        ->Arg(1)
        ->Arg(2)
        ->Arg(8)
        ->Arg(16);
    benchmark::RegisterBenchmark((name + "/head_f16_32064x2560").c_str(),
                                 [&table](benchmark::State& s) { head_f16(s, table); })
        ->Arg(1)
        ->Arg(2)
        ->Arg(8);
    benchmark::RegisterBenchmark((name + "/quantize_row").c_str(),
                                 [&table](benchmark::State& s) { quantize(s, table); })
        ->Arg(2560)
        ->Arg(6912);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
