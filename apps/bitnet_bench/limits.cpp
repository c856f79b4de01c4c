#include "apps/bitnet_bench/limits.hpp"

#include "kernels/team.hpp"
#include "kernels/weight_buffer.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bitnet::apps::bench {

namespace {

using kernels::instruction_set;
using steady = std::chrono::steady_clock;

constexpr std::size_t buffer_bytes = std::size_t{512} << 20;
constexpr std::size_t line = 64;

/// Keeps a result that nobody reads.
template <class T>
void use(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

/// Best of a few rounds, in seconds: what the machine can do, not what it does on average.
double best_seconds(kernels::team& team, const std::function<void(kernels::team_member&)>& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < 5; ++round) {
    const auto start = steady::now();
    team.run(work);
    best = std::min(best, std::chrono::duration<double>(steady::now() - start).count());
  }
  return best;
}

std::uint64_t sum_lines(const std::byte* from, std::size_t bytes) {
  // Two distances, as the kernels' prefetches: neither alone reads as fast (measured).
  constexpr std::size_t near = 512;
  constexpr std::size_t far = 2048;
  std::uint64_t sums[8] = {};
  for (std::size_t at = 0; at < bytes; at += line) {
    __builtin_prefetch(from + at + near, 0, 3);
    __builtin_prefetch(from + at + far, 0, 2);
    std::uint64_t words[8];
    std::memcpy(words, from + at, sizeof(words));
    for (std::size_t i = 0; i < 8; ++i) sums[i] += words[i];
  }
  std::uint64_t total = 0;
  for (const auto sum : sums) total += sum;
  return total;
}

double read_rate(kernels::team& team) {
  kernels::weight_buffer buffer(buffer_bytes);
  std::memset(buffer.data(), 1, buffer.size());
  const double seconds = best_seconds(team, [&](kernels::team_member& member) {
    const auto mine = member.share(buffer_bytes / line);
    use(sum_lines(buffer.data() + mine.first * line, (mine.last - mine.first) * line));
  });
  return static_cast<double>(buffer_bytes) / seconds;
}

constexpr std::size_t steps = 1'000'000;
constexpr std::size_t chains = 12;  // hide the multiplier's latency

#if defined(__x86_64__)
// Each multiplies `steps` times on `chains` registers and returns how many multiply-adds that were.

// The sums are added up in the end, not looked at one by one: GCC 12 would keep them in memory.

__attribute__((target("avx512f,avx512vnni"))) std::size_t multiply_avx512_vnni() {
  __m512i sum[chains] = {};
  const __m512i x = _mm512_set1_epi8(3);
  for (std::size_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (std::size_t c = 0; c < chains; ++c) {
      auto& s = sum[c];
      s = _mm512_dpbusd_epi32(s, x, x);
      asm("" : "+v"(s));
    }
  }
  __m512i total = sum[0];
#pragma GCC unroll 12
  for (std::size_t c = 1; c < chains; ++c) total = _mm512_add_epi32(total, sum[c]);
  use(total);
  return steps * chains * 64;
}

__attribute__((target("avx2,avxvnni"))) std::size_t multiply_avx_vnni() {
  __m256i sum[chains] = {};
  const __m256i x = _mm256_set1_epi8(3);
  for (std::size_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (std::size_t c = 0; c < chains; ++c) {
      auto& s = sum[c];
      s = _mm256_dpbusd_avx_epi32(s, x, x);
      asm("" : "+x"(s));
    }
  }
  __m256i total = sum[0];
#pragma GCC unroll 12
  for (std::size_t c = 1; c < chains; ++c) total = _mm256_add_epi32(total, sum[c]);
  use(total);
  return steps * chains * 32;
}

__attribute__((target("avx2"))) std::size_t multiply_avx2() {
  __m256i sum[chains] = {};
  __m256i x = _mm256_set1_epi8(3);
  for (std::size_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (std::size_t c = 0; c < chains; ++c) {
      auto& s = sum[c];
      asm("" : "+x"(x));  // or the product would leave the loop
      s = _mm256_add_epi16(s, _mm256_maddubs_epi16(x, x));
      asm("" : "+x"(s));
    }
  }
  __m256i total = sum[0];
#pragma GCC unroll 12
  for (std::size_t c = 1; c < chains; ++c) total = _mm256_add_epi32(total, sum[c]);
  use(total);
  return steps * chains * 32;
}

__attribute__((target("amx-tile,amx-int8"))) std::size_t multiply_amx() {
  alignas(64) std::uint8_t config[64] = {1};
  for (std::size_t t = 0; t < 8; ++t) {
    config[16 + 2 * t] = 64;
    config[48 + t] = 16;
  }
  asm volatile("" : : "r"(config) : "memory");  // GCC 12 does not know that the next line reads it
  _tile_loadconfig(config);
  alignas(64) static const std::uint8_t zeros[1024] = {};
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, zeros, 64);
  _tile_loadd(5, zeros, 64);
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  for (std::size_t i = 0; i < steps / 4; ++i) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_release();
  return steps / 4 * 4 * 16384;
}
#endif

double mac_rate(kernels::team& team, instruction_set isa) {
  std::size_t (*multiply)() = nullptr;
#if defined(__x86_64__)
  switch (isa) {
    case instruction_set::scalar:
      break;
    case instruction_set::avx2:
      multiply = multiply_avx2;
      break;
    case instruction_set::avx_vnni:
      multiply = multiply_avx_vnni;
      break;
    case instruction_set::avx512_vnni:
      multiply = multiply_avx512_vnni;
      break;
    case instruction_set::amx_int8:
      multiply = multiply_amx;
      break;
  }
#endif
  if (multiply == nullptr) return 0;
  std::size_t macs = 0;
  const double seconds = best_seconds(team, [&](kernels::team_member& member) {
    const auto mine = multiply();
    if (member.index() == 0) macs = mine;
  });
  return static_cast<double>(macs * team.size()) / seconds;
}

}  // namespace

machine_limits measure_limits(std::size_t threads, instruction_set isa) {
  kernels::team team(threads);
  return {.read_bytes_per_second = read_rate(team), .macs_per_second = mac_rate(team, isa)};
}

}  // namespace bitnet::apps::bench
