#pragma once

#include <immintrin.h>

#include <cstdint>

namespace bitnet::kernels {
namespace {

/// The operand of LDTILECFG (Intel SDM volume 1, 18.3.2).
struct alignas(64) tile_config {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(tile_config) == 64);

/// All tiles have 16 rows, so that any serves as any operand: the rows past the last token are readable.
void configure_tiles() {
  tile_config config;
  for (std::size_t t = 0; t < 8; ++t) {
    config.row_bytes[t] = 64;
    config.rows[t] = 16;
  }
  // GCC 12 does not know that the intrinsic reads memory and would drop the stores above.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

// Not the intrinsics: GCC 12 takes a function that only prefetches for one without effects and drops its
// calls, and it would move prefetches between the tile instructions.
inline void prefetch(const void* p) {
  asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p)));
}

}  // namespace
}  // namespace bitnet::kernels
