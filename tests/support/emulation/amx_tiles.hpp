#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

// The AMX tile instructions in software, from the pseudo code in the Intel SDM, volume 2. Where the CPU
// would raise #UD or #GP an exception is thrown instead, so that a test sees a wrong configuration.

namespace bitnet::test::amx {

struct fault {
  const char* what;
};

struct tile {
  std::uint8_t bytes[16][64];
};

/// The state of one thread: nothing is configured until LDTILECFG and after TILERELEASE.
struct state {
  bool configured = false;
  std::uint16_t row_bytes[8] = {};
  std::uint8_t rows[8] = {};
  tile tiles[8] = {};
};

inline state& current() {
  thread_local state s;
  return s;
}

inline tile& configured_tile(int t) {
  state& s = current();
  if (t < 0 || t >= 8) throw fault{"no such tile"};
  if (!s.configured || s.rows[t] == 0 || s.row_bytes[t] == 0) throw fault{"tile is not configured"};
  return s.tiles[t];
}

inline void load_config(const void* p) {
  state s;
  std::uint8_t bytes[64];
  std::memcpy(bytes, p, sizeof(bytes));
  if (bytes[0] != 1) throw fault{"palette is not 1"};
  for (std::size_t i = 1; i < 16; ++i)
    if (bytes[i] != 0) throw fault{"reserved bytes are not zero"};
  for (std::size_t t = 0; t < 16; ++t) {
    std::uint16_t row_bytes = 0;
    std::memcpy(&row_bytes, bytes + 16 + 2 * t, sizeof(row_bytes));
    const std::uint8_t rows = bytes[48 + t];
    if (t >= 8 && (row_bytes != 0 || rows != 0)) throw fault{"a tile beyond the palette is configured"};
    if (row_bytes > 64 || rows > 16) throw fault{"tile is too large"};
    if (t >= 8) continue;
    s.row_bytes[t] = row_bytes;
    s.rows[t] = rows;
  }
  s.configured = true;
  current() = s;
}

inline void release() {
  current() = state{};
}

inline void zero(int t) {
  configured_tile(t) = tile{};
}

inline void load(int t, const void* base, long stride) {
  tile& to = configured_tile(t);
  to = tile{};
  for (std::size_t r = 0; r < current().rows[t]; ++r)
    std::memcpy(to.bytes[r], static_cast<const std::uint8_t*>(base) + static_cast<long>(r) * stride,
                current().row_bytes[t]);
}

inline void store(int t, void* base, long stride) {
  const tile& from = configured_tile(t);
  for (std::size_t r = 0; r < current().rows[t]; ++r)
    std::memcpy(static_cast<std::uint8_t*>(base) + static_cast<long>(r) * stride, from.bytes[r],
                current().row_bytes[t]);
}

inline void check_product(int c, int a, int b) {
  for (const int t : {c, a, b}) configured_tile(t);
  const state& s = current();
  if (c == a || c == b || a == b) throw fault{"tiles of a product are not distinct"};
  if (s.rows[c] != s.rows[a]) throw fault{"rows of the sums are not those of the left tile"};
  if (s.row_bytes[c] != s.row_bytes[b]) throw fault{"columns of the sums are not those of the right tile"};
  if (s.row_bytes[a] != 4 * s.rows[b]) throw fault{"inner dimensions differ"};
}

/// TDPBSUD: c += a . b, bytes of a signed, of b unsigned, four products a 32-bit sum.
inline void multiply_signed_unsigned(int c, int a, int b) {
  check_product(c, a, b);
  tile& sums = configured_tile(c);
  const tile& left = configured_tile(a);
  const tile& right = configured_tile(b);
  const state& s = current();
  for (std::size_t m = 0; m < s.rows[c]; ++m) {
    for (std::size_t n = 0; n < s.row_bytes[c] / 4U; ++n) {
      std::uint32_t sum = 0;
      std::memcpy(&sum, sums.bytes[m] + 4 * n, sizeof(sum));
      for (std::size_t k = 0; k < s.row_bytes[a]; ++k) {
        const std::int32_t x = static_cast<std::int8_t>(left.bytes[m][k]);
        const std::int32_t w = right.bytes[k / 4][4 * n + k % 4];
        sum += static_cast<std::uint32_t>(x * w);
      }
      std::memcpy(sums.bytes[m] + 4 * n, &sum, sizeof(sum));
    }
  }
}

inline float flushed(float x) {
  return std::fabs(x) < 0x1p-126F ? std::copysign(0.0F, x) : x;
}

inline float brain_float(const std::uint8_t* bytes) {
  std::uint16_t number = 0;
  std::memcpy(&number, bytes, sizeof(number));
  return flushed(std::bit_cast<float>(static_cast<std::uint32_t>(number) << 16));
}

/// TDPBF16PS: c += a . b, two bfloat16 a 32-bit sum: chains of fused multiply-adds over the first and over
/// the second of each pair, whose sum is added. Subnormals count as zero.
inline void multiply_brain_floats(int c, int a, int b) {
  check_product(c, a, b);
  tile& sums = configured_tile(c);
  const tile& left = configured_tile(a);
  const tile& right = configured_tile(b);
  const state& s = current();
  for (std::size_t m = 0; m < s.rows[c]; ++m)
    for (std::size_t n = 0; n < s.row_bytes[c] / 4U; ++n) {
      float chain[2] = {};
      for (std::size_t k = 0; k < s.rows[b]; ++k)
        for (std::size_t i = 0; i < 2; ++i)
          chain[i] = flushed(std::fma(brain_float(left.bytes[m] + 4 * k + 2 * i),
                                      brain_float(right.bytes[k] + 4 * n + 2 * i), chain[i]));
      float sum = 0;
      std::memcpy(&sum, sums.bytes[m] + 4 * n, sizeof(sum));
      sum = flushed(flushed(sum) + flushed(chain[0] + chain[1]));
      std::memcpy(sums.bytes[m] + 4 * n, &sum, sizeof(sum));
    }
}

}  // namespace bitnet::test::amx

#define _tile_loadconfig(p) ::bitnet::test::amx::load_config(p)
#define _tile_release() ::bitnet::test::amx::release()
#define _tile_zero(t) ::bitnet::test::amx::zero(t)
#define _tile_loadd(t, base, stride) ::bitnet::test::amx::load(t, base, stride)
#define _tile_stored(t, base, stride) ::bitnet::test::amx::store(t, base, stride)
#define _tile_dpbsud(c, a, b) ::bitnet::test::amx::multiply_signed_unsigned(c, a, b)
#define _tile_dpbf16ps(c, a, b) ::bitnet::test::amx::multiply_brain_floats(c, a, b)
